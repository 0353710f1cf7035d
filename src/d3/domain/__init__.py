"""What D3 is about, in pure Python: entities, ports, errors, scoring and the use cases."""
