"""What a scan was begun with, and whether it goes on with the same."""

from __future__ import annotations

from dataclasses import fields

from d3.domain.errors import ScanMismatch
from d3.domain.scans import NewScan, Scan


def as_begun(scan: Scan) -> NewScan:
    """What was fixed when it began."""
    return NewScan(**{one.name: getattr(scan, one.name) for one in fields(NewScan)})


def check_same(scan: Scan, wanted: NewScan) -> None:
    """See that a scan goes on with what it was begun with.

    Raises:
        ScanMismatch: it was begun with something else; each difference is named.
    """
    differences = [
        f"{name} {there} instead of {here}"
        for name, there, here in (
            ("source", scan.source, wanted.source),
            ("model", _said(scan), _said(wanted)),
            ("threshold", scan.threshold, wanted.threshold),
            ("views", scan.views, wanted.views),
        )
        if there != here
    ]
    if differences:
        raise ScanMismatch(
            f"The scan {scan.name!r} was started with {', '.join(differences)}.",
            "Use the same values, or another --scan-id.",
        )


def _said(scan: NewScan) -> str:
    model = scan.model
    return f"{model.name}@{model.version} ({model.sha256[:12]})"
