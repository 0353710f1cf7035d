"""Bulk scans: begun, worked on by any number of workers, gone on with where they stopped."""
