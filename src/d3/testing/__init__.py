"""What users of D3 and its own tests share: the reference pack runner and contract suites."""

from d3.testing.reference import score_reference_pack

__all__ = ["score_reference_pack"]
