"""The result cache of a single process."""
