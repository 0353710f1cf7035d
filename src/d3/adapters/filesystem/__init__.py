"""Models in a folder."""

from d3.adapters.filesystem.registry import FilesystemRegistry

__all__ = ["FilesystemRegistry"]
