"""What D3 is about, in pure Python: entities, ports, errors, the scoring policy and the use cases."""
