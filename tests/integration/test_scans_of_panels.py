"""Bulk scans judged by a panel: its models are fixed when a scan begins, and rows hold them all."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from d3.adapters.sql import Database
from d3.container import Container
from d3.domain.errors import DetectorFailed, PanelIncomplete, ScanMismatch
from d3.domain.models import Manifest
from d3.domain.panels import Agreement, PanelRule
from d3.domain.scans import Scan, ScanRow, ScanState
from d3.domain.scoring import Calibration
from d3.domain.services.scans import worker as scanning
from d3.domain.services.scans.watcher import Watcher
from d3.evaluation.scans import rows_of, write_rows
from d3.testing.models import tiny_ferretnet
from tests.integration.test_scans import settings_of
from tests.pictures import container_for, paint

IMAGES = 60


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Container]]:
    """Makes containers that know the starter and ``witness``, which wants more to say fake."""
    made: list[Container] = []

    def make(**settings: Any) -> Container:
        container = container_for(tmp_path / "home", **settings)
        if not made:
            model = tiny_ferretnet(tmp_path, "witness")
            calibration = Calibration(2.0, 0.0, "tests")
            manifest = replace(model.manifest, threshold=0.999, calibration=calibration)
            container.registry().put(replace(model, manifest=manifest))
        made.append(container)
        return container

    yield make
    for one in made:
        one.host().close()
        one.database().close()


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanning, "_FIRST_SHARD", 7)


@pytest.fixture
def images(tmp_path: Path) -> str:
    paint(tmp_path / "images", IMAGES)
    return str(tmp_path / "images")


def members(container: Container) -> list[Manifest]:
    with container.host().panel(["starter", "witness"], load=True) as panel:
        return [one.manifest for one in panel.members]


def begin(container: Container, source: str, **options: Any) -> Scan:
    chief, *others = members(container)
    given = {"threshold": 0.5, "views": None, "others": others} | options
    service = container.scans()
    return service.begin("s", service.collection(source), chief, **given)


def test_rows_hold_what_every_member_says(
    make: Callable[..., Container], empty_database: Database, images: str, tmp_path: Path
) -> None:
    container = make(**settings_of(empty_database))
    scan = begin(container, images, rule=PanelRule.CHIEF, stability=True)
    assert [one.name for one in scan.panel] == ["starter", "witness"]
    assert (scan.panel_rule, scan.stability) == (PanelRule.CHIEF, True)
    ended = container.scans().run(scan, container.scans().collection(images))
    assert (ended.state, ended.counts.rows) == (ScanState.DONE, IMAGES)

    ledger = container.scan_ledger()
    rows = list(rows_of(ledger, scan.id))
    for row in rows:
        assert row.panel_verdict is not None
        assert [one.model.name for one in row.panel_verdict.opinions] == ["starter", "witness"]
        assert set(row.stability) == {"jpeg", "scaled", "cropped", "mirrored"}
        if row.agreement is Agreement.DISAGREE:
            assert (row.verdict, row.reason) == ("uncertain", "panel")
    counts = Counter(row.agreement for row in rows)
    assert counts[Agreement.DISAGREE] > 3
    assert ledger.agreement(scan.id) == {one: counts[one] for one in Agreement}
    for disagree in (True, False):
        some = list(rows_of(ledger, scan.id, disagree=disagree, page=4))
        assert some == [row for row in rows if (row.agreement is Agreement.DISAGREE) is disagree]

    write_rows(rows, tmp_path / "rows.csv", "csv")
    with (tmp_path / "rows.csv").open(newline="") as stream:
        first = next(csv.DictReader(stream))
    assert json.loads(first["panel"])["opinions"][1]["model"]["name"] == "witness"


def test_where_one_model_judges_there_is_nothing_to_agree_on(
    make: Callable[..., Container], sqlite_database: Database, images: str
) -> None:
    container = make(**settings_of(sqlite_database))
    scan = begin(container, images, others=())
    ended = container.scans().run(scan, container.scans().collection(images))
    ledger = container.scan_ledger()
    assert (ended.panel, ended.members) == ((), (ended.model,))
    assert ledger.agreement(scan.id) == {}
    assert not ledger.rows(scan.id, disagree=True)
    assert not ledger.rows(scan.id, disagree=False)
    assert {row.panel for row in ledger.rows(scan.id)} == {""}


class Stopping(Watcher):
    """Ends the worker after some images, as a Ctrl-C does."""

    seen = 0

    def judged(self, row: ScanRow) -> None:
        self.seen += 1
        if self.seen == IMAGES // 4:
            raise KeyboardInterrupt


def test_a_panel_goes_on_in_the_versions_that_it_began_with(
    make: Callable[..., Container], empty_database: Database, images: str
) -> None:
    settings = settings_of(empty_database)
    container = make(**settings)
    scan = begin(container, images)
    collection = container.scans().collection(images)
    with pytest.raises(KeyboardInterrupt):
        container.scans().run(scan, collection, Stopping())
    assert 0 < container.scan_ledger().get("s").counts.rows < IMAGES
    stored = container.registry().open("witness")
    newer = replace(stored.manifest, threshold=0.5, created_at="")
    assert container.registry().put(replace(stored, manifest=newer)).version == 2

    other = make(**settings)
    with other.host().panel(["starter", "witness"], load=True) as panel:
        assert panel.others[0].manifest.version == 2
    ended = other.scans().resume("s")
    assert (ended.state, ended.counts.rows) == (ScanState.DONE, IMAGES)
    told = {one.panel_verdict.opinions[1].model for one in rows_of(other.scan_ledger(), scan.id)}
    assert told == {scan.panel[1]}


def test_every_difference_to_what_it_was_begun_with_is_named(
    make: Callable[..., Container], sqlite_database: Database, images: str
) -> None:
    container = make(**settings_of(sqlite_database))
    begin(container, images, rule=PanelRule.ANY)
    for options, said in (
        ({"others": ()}, r"panel witness@1 \([0-9a-f]{12}\) instead of none"),
        ({"rule": PanelRule.MAJORITY}, "panel rule any instead of majority"),
        ({"stability": True}, "stability off instead of on"),
    ):
        with pytest.raises(ScanMismatch, match=said):
            begin(container, images, **options)
    assert begin(container, images).panel_rule is PanelRule.ANY


def test_a_scan_whose_member_is_gone_waits_for_it_and_says_so(
    make: Callable[..., Container], sqlite_database: Database, images: str
) -> None:
    settings = settings_of(sqlite_database)
    container = make(**settings)
    begin(container, images)
    container.registry().delete("witness")
    with pytest.raises(PanelIncomplete, match="The panel's member 'witness' cannot judge"):
        make(**settings).scans().resume("s")
    assert container.scan_ledger().get("s").state is ScanState.RUNNING


def test_a_member_that_fails_again_and_again_ends_the_work(
    make: Callable[..., Container], sqlite_database: Database, images: str
) -> None:
    container = make(**settings_of(sqlite_database))
    scan = begin(container, images)
    witness = next(one for one in container.engine().detectors if one.manifest.name == "witness")
    witness.closed = True  # it fails from now on
    with pytest.raises(DetectorFailed, match="witness gave no opinion on 20 images in a row"):
        container.scans().run(scan, container.scans().collection(images))
    witness.closed = False
    assert container.scan_ledger().get("s").counts.rows < IMAGES


def test_an_estimate_counts_the_time_of_every_member(
    make: Callable[..., Container], sqlite_database: Database, images: str
) -> None:
    container = make(**settings_of(sqlite_database))
    service, names = container.scans(), ["starter", "witness"]
    found = service.estimate(
        service.collection(images), members=names, views=1, stability=True, seconds=60
    )
    assert (found.keys, found.sampled, found.errors) == (IMAGES, IMAGES, 0)
    assert found.uncertain > 3
