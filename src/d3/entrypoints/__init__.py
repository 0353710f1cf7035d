"""The faces of D3: a library, a command line."""
