"""Stores that live and die with the process: for tests, demonstrations and short runs."""

from d3.adapters.memory.registry import MemoryRegistry

__all__ = ["MemoryRegistry"]
