"""Models in a folder, images of this machine, and a folder for the files of jobs."""

from d3.adapters.filesystem.collections import (
    FolderCollection,
    ListCollection,
    PatternCollection,
)
from d3.adapters.filesystem.registry import FilesystemRegistry
from d3.adapters.filesystem.spool import FolderSpool

__all__ = [
    "FilesystemRegistry",
    "FolderCollection",
    "FolderSpool",
    "ListCollection",
    "PatternCollection",
]
