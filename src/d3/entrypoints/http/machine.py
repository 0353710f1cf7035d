"""Gauges of what the service stands on: the disk, and the certificate of HTTPS."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

from cryptography import x509

from d3.entrypoints.http.metrics import Metrics
from d3.settings import Settings


def register_machine(metrics: Metrics, settings: Settings) -> None:
    """Register the gauges; not a number where there is nothing to measure."""
    metrics.watch(
        "d3_disk_free_bytes",
        "Free bytes of the disk that D3_HOME is on.",
        lambda: _disk(settings.home)[0],
        "min",
    )
    metrics.watch(
        "d3_disk_size_bytes", "Its size in bytes.", lambda: _disk(settings.home)[1], "max"
    )
    certificate = CertificateEnd(settings.tls_cert)
    metrics.watch(
        "d3_certificate_expiry_timestamp_seconds",
        "When the certificate of HTTPS ends, in seconds since 1970.",
        certificate.seconds,
        "min",
    )


class CertificateEnd:
    """When a certificate ends; its file is read again when it has changed.

    Args:
        file: a chain (PEM), the server's own first; None for no HTTPS.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._read_at: tuple[int, int] | None = None
        self._end = math.nan

    def seconds(self) -> float:
        """Seconds since 1970; not a number without a certificate that can be read."""
        if self._file is None:
            return math.nan
        try:
            status = self._file.stat()
            if (seen := (status.st_mtime_ns, status.st_ino)) != self._read_at:
                self._read_at, self._end = seen, math.nan
                chain = x509.load_pem_x509_certificates(self._file.read_bytes())
                self._end = chain[0].not_valid_after_utc.timestamp()
        except (OSError, ValueError):
            return math.nan
        return self._end


def _disk(folder: Path) -> tuple[float, float]:
    """Free bytes and size of the disk that a folder is on."""
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return math.nan, math.nan
    return usage.free, usage.total
