"""The command line: ``d3``."""

from d3.entrypoints.cli.app import main

__all__ = ["main"]
