"""The use cases: what a face of D3 calls."""
