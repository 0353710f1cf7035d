"""Models in a folder, and images of this machine."""

from d3.adapters.filesystem.collections import (
    FolderCollection,
    ListCollection,
    PatternCollection,
)
from d3.adapters.filesystem.registry import FilesystemRegistry

__all__ = ["FilesystemRegistry", "FolderCollection", "ListCollection", "PatternCollection"]
