"""Which formats are read, in words; how each is told, :mod:`d3.domain.formats` says."""

from __future__ import annotations

READABLE = "JPEG, PNG, WebP, AVIF, GIF, BMP or HEIC"
