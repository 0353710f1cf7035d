"""Evidence as a file: a zip archive with the case, its reports, hashes and a signature."""

from __future__ import annotations

from d3.adapters.evidence.bundles import EvidenceBundles
from d3.adapters.evidence.signing import SigningKeyFile

__all__ = ["EvidenceBundles", "SigningKeyFile"]
