"""What a file says of where it comes from; see ``docs/provenance.md``.

The walk over a file's skeleton collects :class:`Metadata`; :class:`ProvenanceReader` reads it.
"""

from d3.adapters.provenance.metadata import Metadata
from d3.adapters.provenance.reader import ProvenanceReader
from d3.adapters.provenance.trust import read_trust

__all__ = ["Metadata", "ProvenanceReader", "read_trust"]
