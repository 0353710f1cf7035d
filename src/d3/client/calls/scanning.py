"""Scans of buckets and folders of the service's."""

from __future__ import annotations

from datetime import UTC, datetime

from d3.client.calls.common import (
    Panel,
    Rule,
    by_cursor,
    by_offset,
    commas,
    get,
    given,
    named,
    post,
    texts,
)
from d3.client.steps import Call, Pages, answer
from d3.domain.scans import new_scan_name
from d3.entrypoints.http.api.scan_schemas import (
    OneScan,
    ScanItem,
    ScanPage,
    ScanResultItem,
    ScanResultPage,
)

_PATH = "/api/scans"


def start_scan(
    source: str,
    *,
    scan_id: str | None = None,
    model: str | None = None,
    threshold: float | None = None,
    views: int | None = None,
    panel: Panel | None = None,
    panel_rule: Rule | None = None,
    stability: bool | None = None,
) -> Call[ScanItem]:
    """Let the service judge a whole prefix; safe to retry, since each scan has an id.

    Args:
        source: ``s3://BUCKET/PREFIX``, or a folder of the server's below its D3_SCAN_FOLDER.
        scan_id: of the scan; an unfinished one is resumed.
        model: the active one unless given.
        threshold: in [0, 1]; the model's own unless given.
        views: 1 to 16 permutations to average.
        panel: names of the models that judge, the chief's first; the service's own unless
            given.
        panel_rule: how their verdicts become one: ``chief``, ``any`` or ``majority``.
        stability: whether harmless changes of each image are judged too.

    Raises:
        ServiceError: see its ``code``.
    """
    asked = given(
        source=source,
        id=scan_id or new_scan_name(datetime.now(UTC)),
        model=model,
        threshold=threshold,
        views=views,
        panel=commas(panel),
        panel_rule=panel_rule,
        stability=stability,
    )
    return post(_PATH, asked, OneScan, lambda one: one.scan, again=True)


def scans() -> Pages[ScanItem]:
    """Every scan, newest first; pages are fetched as needed."""
    return by_offset(_PATH, ScanPage, lambda one: one.scans)


def scan(scan_id: str) -> Call[ScanItem]:
    """One scan with its counts."""
    return get(named(_PATH, scan_id), OneScan, lambda one: one.scan)


def scan_results(scan_id: str, *, disagree: bool | None = None) -> Pages[ScanResultItem]:
    """Every result of a scan, by URI.

    Args:
        scan_id: of the scan.
        disagree: only those on which models of a panel contradict each other, or only those on
            which they do not.
    """
    asked = texts(disagree=disagree)
    return by_cursor(f"{named(_PATH, scan_id)}/results", ScanResultPage, asked)


def cancel_scan(scan_id: str) -> Call[ScanItem]:
    """Stop a scan's workers after their current shard."""
    read = answer(OneScan, lambda one: one.scan)
    return Call(method="DELETE", path=named(_PATH, scan_id), read=read, again=True)
