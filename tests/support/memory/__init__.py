"""Accounts, history and model registry in memory: the oracles of the real adapters' tests."""

from tests.support.memory.registry import MemoryRegistry

__all__ = ["MemoryRegistry"]
