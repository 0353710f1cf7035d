"""Bulk scans: begun, worked on by any number of workers, resumed where they stopped."""
