"""Bulk scans on both databases and on real S3 servers: one row for each image, whatever happens."""

from __future__ import annotations

import csv
import io
import json
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html import escape
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pyarrow import parquet

from d3.adapters.filesystem import FolderCollection
from d3.adapters.minio import S3Collection, S3Images, S3Place
from d3.adapters.sql import Database, SqlScanLedger
from d3.container import Container
from d3.domain.errors import (
    FolderUnreadable,
    ImageElsewhere,
    ImageNotFound,
    ImageTooLarge,
    ImageUnsupported,
    RequestInvalid,
    ScanIncomplete,
    ScanMismatch,
    ScanNotFound,
    StorageUnavailable,
)
from d3.domain.images import ImageSource, Note
from d3.domain.models import ModelReference
from d3.domain.ports.scans import Listed, ScanLedger
from d3.domain.scans import NewScan, Scan, ScanCounts, ScanRow, ScanState
from d3.domain.services.scans import worker as scanning
from d3.domain.services.scans.watcher import Watcher
from d3.evaluation.report.page import render_scan
from d3.evaluation.scans import Parts, rows_of, summarise, write_rows
from d3.settings import Settings
from images import encoded, picture
from tests.pictures import container_for, paint, scan_all
from tests.support.images import drawn_in_alpha, noise, png, png_rgba
from tests.support.stores import S3Server

NOW = datetime(2026, 11, 1, tzinfo=UTC)
LATER = NOW + timedelta(seconds=30)


@pytest.fixture
def ledger(database: Database) -> ScanLedger:
    return SqlScanLedger(database)


def new(name: str = "s") -> NewScan:
    model = ModelReference("m", 1, "0" * 64)
    return NewScan(name=name, source="/x", model=model, threshold=0.5, views=1, created_at=NOW)


def result(uri: str, verdict: str | None = "real") -> ScanRow:
    error = None if verdict else "damaged_image"
    prediction = 0.25 if verdict else None
    return ScanRow(uri=uri, verdict=verdict, error=error, prediction=prediction, created_at=NOW)


def cut(ledger: ScanLedger, scan: Scan, *shards: list[str], complete: bool = True) -> None:
    assert ledger.begin_listing(scan.id, "l", NOW, LATER) is not None
    for number, uris in enumerate(shards):
        assert ledger.add_shard(scan.id, "l", number, uris, uris[-1])
    if complete:
        assert ledger.add_shard(scan.id, "l", len(shards), [], None)


def test_rows_are_read_by_kind_and_a_removed_scan_leaves_nothing(
    ledger: ScanLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("d3.adapters.sql.scans._DELETED_AT_ONCE", 2)
    scan, other = ledger.open(new()), ledger.open(new("other"))
    uris = [f"/x/{n}" for n in range(7)]
    for one in (scan, other):
        cut(ledger, one, uris)
        verdicts = ("fake", "real", None, "uncertain", "fake", None, "real")
        ledger.add(one.id, 0, [result(*pair) for pair in zip(uris, verdicts, strict=True)])
    for kind, found in (("fake", [0, 4]), ("error", [2, 5]), ("uncertain", [3]), (None, range(7))):
        assert [row.uri for row in ledger.rows(scan.id, kind=kind)] == [f"/x/{n}" for n in found]
    ledger.remove(scan.id)
    with pytest.raises(ScanNotFound):
        ledger.get("s")
    assert ledger.rows(scan.id) == []
    assert len(ledger.rows(other.id)) == ledger.get("other").counts.rows == 7
    assert ledger.open(new()).counts == ScanCounts()


def test_a_scan_is_opened_once(ledger: ScanLedger) -> None:
    with ThreadPoolExecutor(4) as pool:
        opened = list(pool.map(lambda _: ledger.open(new()), range(4)))
    assert len({one.id for one in opened}) == 1
    assert opened[0].model == new().model
    assert opened[0].state is ScanState.RUNNING
    with pytest.raises(ScanNotFound):
        ledger.get("other")


def test_each_shard_goes_to_one_worker_until_its_lease_runs_out(ledger: ScanLedger) -> None:
    scan = ledger.open(new())
    names = [["a", "b"], ["\udcff", "c"], ["d"]]
    cut(ledger, scan, *names)
    first = ledger.claim(scan.id, "one", NOW, LATER)
    second = ledger.claim(scan.id, "two", NOW, LATER + timedelta(seconds=60))
    assert first is not None
    assert second is not None
    assert (first.uris, second.uris) == (("a", "b"), ("\udcff", "c"))
    assert ledger.holders(scan.id, NOW) == {"one", "two", "l"}
    assert not first.begun
    again = ledger.claim(scan.id, "three", LATER + timedelta(seconds=1), LATER)
    assert again == replace(first, begun=True)
    third = ledger.claim(scan.id, "three", NOW, LATER)
    assert third is not None
    assert (third.number, third.begun) == (2, False)
    assert ledger.open_shards(scan.id) == {0, 1, 2}
    assert ledger.claim(scan.id, "four", NOW, LATER) is None
    ledger.release(scan.id, ["two"])
    assert ledger.claim(scan.id, "four", NOW, LATER) == replace(second, begun=True)


def test_claims_at_once_never_give_one_shard_twice(ledger: ScanLedger) -> None:
    scan = ledger.open(new())
    cut(ledger, scan, *[[f"u{n}"] for n in range(24)])

    def work(owner: int) -> list[int]:
        mine = []
        while (shard := ledger.claim(scan.id, str(owner), NOW, LATER)) is not None:
            mine.append(shard.number)
        return mine

    with ThreadPoolExecutor(4) as pool:
        taken = [number for mine in pool.map(work, range(4)) for number in mine]
    assert sorted(taken) == list(range(24))


def test_rows_are_kept_and_counted_once(ledger: ScanLedger) -> None:
    scan = ledger.open(new())
    cut(ledger, scan, ["a", "b", "c"], ["a", "d"])
    ledger.add(scan.id, 0, [result("a"), result("b", "fake"), result("c", None), result("a")])
    ledger.add(scan.id, 0, [result("a", "fake"), result("b", "fake")])
    ledger.add(scan.id, 1, [result("a", "fake"), result("d", "uncertain")])
    assert ledger.get("s").counts == ScanCounts(1, 1, 1, 1, 0, 5)
    assert [one.uri for one in ledger.rows(scan.id)] == ["a", "b", "c", "d"]
    assert ledger.rows(scan.id)[0] == result("a")
    assert [one.uri for one in ledger.rows(scan.id, shard=1)] == ["d"]
    assert ledger.known(scan.id, ["a", "d", "e"]) == {"a", "d"}
    assert [one.uri for one in rows_of(ledger, scan.id, page=2)] == ["a", "b", "c", "d"]


def test_two_who_list_do_not_cut_the_same_shard(ledger: ScanLedger) -> None:
    scan = ledger.open(new())
    listing = ledger.begin_listing(scan.id, "one", NOW, LATER)
    assert listing is not None
    assert ledger.begin_listing(scan.id, "two", NOW, LATER) is None
    assert ledger.add_shard(scan.id, "one", 0, ["a"], "a")
    taken_over = ledger.begin_listing(scan.id, "two", LATER + timedelta(seconds=1), LATER)
    assert taken_over is not None
    assert (taken_over.number, taken_over.cursor) == (1, "a")
    assert not ledger.add_shard(scan.id, "one", 1, ["b"], "b")
    assert ledger.add_shard(scan.id, "two", 1, ["b"], "b")
    assert ledger.add_shard(scan.id, "two", 2, [], None)
    assert ledger.begin_listing(scan.id, "two", NOW, LATER) is None
    assert ledger.get("s").listed


def test_a_scan_is_done_when_all_is_listed_and_every_shard_finished(ledger: ScanLedger) -> None:
    scan = ledger.open(new())
    cut(ledger, scan, ["a"], complete=False)
    ledger.finish(scan.id, 0, 1)
    assert not ledger.complete(scan.id, LATER)
    assert ledger.add_shard(scan.id, "l", 1, [], None)
    assert ledger.complete(scan.id, LATER)
    done = ledger.get("s")
    assert (done.state, done.finished_at) == (ScanState.DONE, LATER)
    assert done.counts.passed_over == 1
    ledger.set_state(scan.id, ScanState.CANCELLED, LATER)
    assert ledger.get("s").state is ScanState.DONE


def test_nothing_of_a_cancelled_scan_is_handed_out(ledger: ScanLedger) -> None:
    scan = ledger.open(new())
    cut(ledger, scan, ["a"])
    ledger.set_state(scan.id, ScanState.CANCELLED, NOW)
    assert ledger.claim(scan.id, "one", NOW, LATER) is None
    assert ledger.complete(scan.id, NOW)
    ledger.set_state(scan.id, ScanState.RUNNING, NOW)
    assert ledger.claim(scan.id, "one", NOW, LATER) is not None
    assert [one.name for one in ledger.newest()] == ["s"]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Container]]:
    """Makes containers whose connections are closed with the test."""
    made: list[Container] = []

    def make(**settings: Any) -> Container:
        made.append(container_for(tmp_path / "home", **settings))
        return made[-1]

    yield make
    for one in made:
        one.database().close()


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanning, "_FIRST_SHARD", 7)
    monkeypatch.setattr("d3.domain.services.scans.service.SHARD_IMAGES", 20)


def settings_of(database: Database) -> dict[str, str]:
    return {"database_url": database.url.render_as_string(hide_password=False)}


@pytest.mark.usefixtures("small_shards")
def test_the_same_scan_twice_at_once_gives_one_row_for_each_image(
    make, empty_database: Database, tmp_path: Path
) -> None:
    files = paint(tmp_path / "images", 150)
    (tmp_path / "images/a/broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut short")
    (tmp_path / "images/notes.txt").write_text("no image")
    settings = settings_of(empty_database)
    containers = [make(**settings) for _ in range(3)]
    judged: Counter[str] = Counter()
    lock = threading.Lock()

    class Counting(Watcher):
        def judged(self, row: ScanRow) -> None:
            with lock:
                judged[row.uri] += 1

    with ThreadPoolExecutor(3) as pool:
        source = str(tmp_path / "images")
        ended = list(pool.map(lambda one: scan_all(one, source, "s", Counting()), containers))
    assert {one.state for one in ended} == {ScanState.DONE}
    rows = list(rows_of(SqlScanLedger(empty_database), ended[0].id, page=40))
    expected = {*map(str, files), str(tmp_path / "images/a/broken.jpg")}
    assert {one.uri for one in rows} == expected
    assert len(rows) == len(expected)
    assert judged == Counter(expected)
    counts = containers[0].scan_ledger().get("s").counts
    assert (counts.rows, counts.error, counts.passed_over, counts.listed) == (151, 1, 1, 152)
    assert counts.fake == sum(one.verdict == "fake" for one in rows) > 0
    (broken,) = [one for one in rows if one.error]
    assert broken.error == "damaged_image"
    ledger = containers[0].scan_ledger()
    sizes = [len(ledger.rows(ended[0].id, shard=one)) for one in range(ended[0].shards)]
    assert max(sizes[:8]) == 7, "the first are small"
    assert 7 < max(sizes[8:]) <= 14, "later ones are larger"


@pytest.mark.usefixtures("small_shards")
def test_parts_hold_exactly_the_rows_however_often_it_stops(
    make, sqlite_database: Database, tmp_path: Path
) -> None:
    import csv

    paint(tmp_path / "images", 90)
    settings = settings_of(sqlite_database)
    parts: list[Parts] = []

    class Stopping(Watcher):
        finished_shards = 0

        def finished(self, shard: int) -> None:
            self.finished_shards += 1
            if self.finished_shards == 2:
                raise KeyboardInterrupt  # before its part is written
            parts[-1].write(shard)

    for _ in range(20):
        container = make(**settings)
        ledger = container.scan_ledger()
        service = container.scans()
        collection = service.collection(str(tmp_path / "images"))
        manifest = container.host().load().manifest
        scan = service.begin("s", collection, manifest, threshold=None, views=None)
        parts.append(Parts(tmp_path / "out", scan, ledger, "csv"))
        try:
            ended = service.run(scan, collection, Stopping())
        except KeyboardInterrupt:
            continue
        finally:
            container.host().close()
        break
    assert ended.state is ScanState.DONE
    assert len(parts) > 2
    assert parts[-1].complete(ended.shards) == ended.shards
    written = []
    for file in sorted((tmp_path / "out").glob("part-*.csv")):
        with file.open(newline="") as stream:
            written += [one["uri"] for one in csv.DictReader(stream)]
    assert sorted(written) == [one.uri for one in rows_of(ledger, ended.id)]
    assert len(written) == 90
    assert not [one for one in (tmp_path / "out").iterdir() if one.name.startswith(".")]
    with pytest.raises(RequestInvalid, match="different format"):
        Parts(tmp_path / "out", ended, ledger, "parquet")
    with pytest.raises(RequestInvalid, match="not empty"):
        Parts(tmp_path / "images", ended, ledger, "csv")


@pytest.mark.usefixtures("small_shards")
def test_a_database_that_is_away_for_a_while_loses_nothing(
    make, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paint(tmp_path / "images", 60)
    calls = Counter[str]()
    container = make(**settings_of(database))
    ledger = container.scan_ledger()
    for name in ("add", "finish", "claim", "known", "add_shard", "complete", "begin_listing"):
        real = getattr(ledger, name)

        def flaky(*arguments: object, real=real, name=name) -> object:
            calls[name] += 1
            if calls[name] % 2:
                raise StorageUnavailable("away")
            return real(*arguments)

        monkeypatch.setattr(ledger, name, flaky)
    monkeypatch.setattr("d3.domain.services.retrying._LONGEST_PAUSE", 0.01)
    ended = scan_all(container, str(tmp_path / "images"))
    assert (ended.state, ended.counts.rows) == (ScanState.DONE, 60)
    assert min(calls.values()) > 1


class Elsewhere:
    """A cluster whose one worker is a thread with parts of its own."""

    def __init__(self, container: Container) -> None:
        self._container = container

    def run(self, name: str, is_over: Callable[[], bool], idle: Callable[[], None]) -> None:
        with ThreadPoolExecutor(1) as pool:
            worker = pool.submit(self._container.scans().resume, name)
            while not is_over():
                idle()
            worker.result()
        self._container.host().close()


@pytest.mark.usefixtures("small_shards")
def test_who_waits_for_a_cluster_hears_once_of_each_shard_that_is_finished(
    make, database: Database, tmp_path: Path
) -> None:
    paint(tmp_path / "images", 90)
    driver, worker = (make(**settings_of(database)) for _ in range(2))
    service, manifest = driver.scans(), driver.host().load().manifest
    collection = service.collection(str(tmp_path / "images"))
    scan = service.begin("s", collection, manifest, threshold=None, views=None)
    heard: list[int] = []
    before_the_end: list[int] = []

    class Hearing(Watcher):
        def finished(self, shard: int) -> None:
            heard.append(shard)
            if driver.scan_ledger().get("s").state is ScanState.RUNNING:
                before_the_end.append(shard)

    ended = service.run_on(Elsewhere(worker), scan, Hearing())
    driver.host().close()
    assert ended.state is ScanState.DONE
    assert sorted(heard) == list(range(ended.shards))
    assert before_the_end


def test_a_scan_keeps_to_what_it_was_begun_with(
    make, sqlite_database: Database, tmp_path: Path
) -> None:
    paint(tmp_path / "images", 4)
    paint(tmp_path / "others", 1)
    container = make(**settings_of(sqlite_database))
    scan_all(container, str(tmp_path / "images"))
    service, manifest = container.scans(), container.host().load().manifest
    images = service.collection(str(tmp_path / "images"))
    others = service.collection(str(tmp_path / "others"))
    for collection, options, said in (
        (others, {}, "source"),
        (images, {"threshold": 0.9}, "threshold 0.5 instead of 0.9"),
        (images, {"views": 2}, "views 1 instead of 2"),
    ):
        given = {"threshold": None, "views": None} | options
        with pytest.raises(ScanMismatch, match=said):
            service.begin("s", collection, manifest, **given)
    container.host().close()


def test_a_place_in_a_listing_may_be_any_text(ledger: ScanLedger) -> None:
    source = "/photos/\udcff"
    scan = ledger.open(replace(new(), source=source))
    assert scan.source == source
    assert ledger.begin_listing(scan.id, "l", NOW, LATER) is not None
    for number, cursor in enumerate(["z\udcff.jpg", "a\0b\0", '"quoted"', '"', "plain \u732b"]):
        assert ledger.add_shard(scan.id, "l", number, ["x"], cursor)
        listing = ledger.begin_listing(scan.id, "l", NOW, LATER)
        assert listing is not None
        assert listing.cursor == cursor


@pytest.mark.usefixtures("small_shards")
def test_a_name_that_is_no_unicode_ends_a_shard_and_no_scan(
    make, empty_database: Database, tmp_path: Path
) -> None:
    files = paint(tmp_path / "images\udcfe", 8)
    for number, file in enumerate(files):
        file.rename(file.with_name(f"{number}\udcff.png"))
    container = make(**settings_of(empty_database))
    ended = scan_all(container, str(tmp_path / "images\udcfe"))
    assert (ended.state, ended.counts.rows, ended.counts.error) == (ScanState.DONE, 8, 0)


class Failing:
    """A collection that fails behind its images, for as long as it is told to."""

    named = False

    def __init__(self, folder: Path, error: Exception | None) -> None:
        self._images = FolderCollection(folder)
        self.source = self._images.source
        self.error = error

    def list(self, after: str | None) -> Iterator[Listed]:
        yield from self._images.list(after)
        if self.error is not None:
            raise self.error

    def read(self, uri: str) -> ImageSource:
        return self._images.read(uri)

    def check(self) -> None: ...


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (FolderUnreadable("A folder cannot be read."), "A folder cannot be read"),
        (RecursionError("too deep"), r"cannot be listed \(RecursionError\)"),
    ],
)
def test_what_cannot_be_listed_ends_a_scan_that_stays_open(
    make, empty_database: Database, tmp_path: Path, error: Exception, said: str
) -> None:
    paint(tmp_path / "images", 5)
    container = make(**settings_of(empty_database))
    service, manifest = container.scans(), container.host().load().manifest
    collection = Failing(tmp_path / "images", error)
    scan = service.begin("s", collection, manifest, threshold=None, views=None)
    with pytest.raises(ScanIncomplete, match=said):
        service.run(scan, collection)
    found = container.scan_ledger().get("s")
    assert (found.state, found.listed, found.counts.rows) == (ScanState.RUNNING, False, 5)
    assert said.split(" ", maxsplit=1)[0] in (found.trouble or "")
    collection.error = None
    ended = service.run(scan, collection)
    container.host().close()
    assert (ended.state, ended.counts.rows, ended.trouble) == (ScanState.DONE, 5, None)
    assert ended.counts.listed == 5, "nothing was listed twice"


@pytest.fixture
def bucket(s3: S3Server) -> str:
    name = f"images-{uuid.uuid4().hex}"
    s3.client().make_bucket(name)
    return name


def images_of(place: S3Place, most: int = 10_000) -> S3Images:
    return S3Images(place, most)


def test_a_prefix_is_listed_and_read(s3: S3Server, bucket: str) -> None:
    keys = [f"p/{n:04}.png" for n in range(12)] + ["p/a b?c#d&ü.png", "p/sub/x.png", "q/y.png"]
    for key in keys:
        s3.client().put_object(bucket, key, io.BytesIO(key.encode()), len(key.encode()))
    images = images_of(s3.place(bucket))
    collection = S3Collection(images, f"s3://{bucket}/p/")
    collection.check()
    found = list(collection.list(None))
    assert {one.cursor for one in found} == {key for key in keys if key.startswith("p/")}
    assert [one.cursor for one in collection.list(found[4].cursor)] == [
        one.cursor for one in found[5:]
    ]
    for one in found:
        assert collection.read(one.uri) == one.cursor.encode()
    assert len(list(S3Collection(images, f"s3://{bucket}").list(None))) == len(keys)


def test_what_is_not_there_or_too_large_is_said(s3: S3Server, bucket: str) -> None:
    for key, start in (("large", b"\xff\xd8\xff"), ("film", b"\0\0\0\x18ftypisom")):
        s3.client().put_object(bucket, key, io.BytesIO(start + bytes(20_000)), len(start) + 20_000)
    collection = S3Collection(images_of(s3.place(bucket)), f"s3://{bucket}/")
    with pytest.raises(ImageNotFound):
        collection.read(f"s3://{bucket}/none")
    with pytest.raises(ImageTooLarge):
        collection.read(f"s3://{bucket}/large")
    with pytest.raises(ImageUnsupported):
        collection.read(f"s3://{bucket}/film")
    with pytest.raises(ImageNotFound, match="cannot be a bucket's name"):
        collection.read("s3://x/image.png")
    nowhere = S3Collection(images_of(s3.place(bucket)), "s3://no-such-bucket-at-all/x")
    for look in (nowhere.check, lambda: list(nowhere.list(None))):
        with pytest.raises(ImageNotFound, match="no-such-bucket-at-all"):
            look()
    for source, said in (
        ("s3:///x", "names no bucket"),
        ("s3://x", "cannot be a bucket's name"),
        ("s3://192.168.0.1/x", "cannot be a bucket's name"),
    ):
        with pytest.raises(RequestInvalid, match=said):
            S3Collection(images_of(s3.place(bucket)), source)


def test_a_bucket_is_scanned(make, first_s3: S3Server, database: Database, tmp_path: Path) -> None:
    name = f"images-{uuid.uuid4().hex}"
    client = first_s3.client()
    client.make_bucket(name)
    for file in paint(tmp_path / "images", 30):
        client.fput_object(name, f"in/{file.parent.name}/{file.name}", str(file))
    container = make(
        **settings_of(database),
        minio_endpoint=first_s3.endpoint,
        minio_access_key=first_s3.key,
        minio_secret_key=first_s3.secret,
    )
    ended = scan_all(container, f"s3://{name}/in/")
    assert (ended.state, ended.counts.rows, ended.counts.error) == (ScanState.DONE, 30, 0)


def test_notice_and_reason_stand_with_every_row_and_outlive_the_model(ledger: ScanLedger) -> None:
    said = "Demo model: calls 9 of 100 real photographs fake. Do not act on it."
    scan = ledger.open(new())
    assert scan.notice == ""  # begun by an older D3, which did not keep it
    scan = ledger.open(replace(new(), notice=said))
    assert ledger.open(new()).notice == said
    cut(ledger, scan, ["a", "b", "c"])
    shard = ledger.claim(scan.id, "w", NOW, LATER)
    assert shard is not None
    plain = replace(result("a", "uncertain"), reason="one_colour")
    ledger.add(scan.id, 0, [plain, result("b"), result("c", None)])
    rows = {one.uri: one for one in ledger.rows(scan.id)}
    assert (rows["a"].reason, rows["a"].notice) == ("one_colour", said)
    assert str(rows["a"].reason_text).startswith("The whole image has one colour")
    assert (rows["b"].reason, rows["b"].reason_text, rows["b"].notice) == (None, None, said)
    assert rows["c"].notice == ""
    assert [one.notice for one in ledger.newest()] == [said]


def test_a_scan_says_why_it_leaves_verdicts_open(tmp_path: Path) -> None:
    paint(tmp_path / "pictures", 4)
    Image.new("RGB", (64, 64), (9, 9, 9)).save(tmp_path / "pictures/plain.png")
    (tmp_path / "pictures/alpha.png").write_bytes(png_rgba(drawn_in_alpha(64, 64)))
    (tmp_path / "pictures/small.png").write_bytes(png(noise(64, 31)))
    container = container_for(tmp_path / "home")
    scan = scan_all(container, str(tmp_path / "pictures"))
    starter = container.models().info("starter").notice
    rows = {Path(one.uri).name: one for one in rows_of(container.scan_ledger(), scan.id)}
    assert {name: one.reason for name, one in rows.items() if one.reason in LACKS} == {
        "plain.png": "one_colour",
        "alpha.png": "alpha_only",
        "small.png": "too_small",
    }
    assert all(one.verdict == "uncertain" for one in rows.values() if one.reason)
    assert {one.notice for one in rows.values()} == {scan.notice} == {starter}
    summary = summarise(rows.values(), scan.source, top=9)
    assert sum(summary.reasons.values()) == scan.counts.uncertain >= 3
    page = render_scan(scan, summary)
    assert escape(starter) in page
    assert "The whole image has one colour" in page
    for form in ("csv", "jsonl", "parquet"):
        write_rows(rows.values(), tmp_path / f"rows.{form}", form)
    with (tmp_path / "rows.csv").open(encoding="utf-8", newline="") as stream:
        exported = {Path(one["uri"]).name: one for one in csv.DictReader(stream)}
    assert exported["plain.png"]["reason"] == "one_colour"
    assert exported["plain.png"]["reason_text"] == rows["plain.png"].reason_text
    assert {one["notice"] for one in exported.values()} == {starter}
    lines = (tmp_path / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    assert {json.loads(one)["notice"] for one in lines} == {starter}
    table = parquet.read_table(tmp_path / "rows.parquet").to_pylist()
    assert {one["notice"] for one in table} == {starter}
    assert {one["reason"] for one in table} >= set(LACKS)


LACKS = ("one_colour", "alpha_only", "too_small")


def test_links_that_lead_out_of_the_folder_for_callers_are_not_followed(tmp_path: Path) -> None:
    opened, inside = tmp_path / "opened", tmp_path / "opened/pictures"
    inside.mkdir(parents=True)
    for file in (tmp_path / "secret.png", opened / "shared.png", inside / "own.png"):
        file.write_bytes(b"an image")
    (inside / "out.png").symlink_to(tmp_path / "secret.png")
    (inside / "within.png").symlink_to(opened / "shared.png")
    container = Container(settings=Settings(home=tmp_path / "home", scan_folder=opened))
    collection = container.collection(str(inside))
    found = {Path(one.uri).name: one.uri for one in collection.list(None)}
    assert collection.read(found["own.png"]) == inside / "own.png"
    assert collection.read(found["within.png"]) == opened / "shared.png"
    with pytest.raises(ImageElsewhere):
        collection.read(found["out.png"])
    elsewhere = Container(settings=Settings(home=tmp_path / "home")).collection(str(inside))
    assert elsewhere.read(found["out.png"]) == inside / "out.png"


def test_what_is_known_of_a_file_stands_in_its_row(ledger: ScanLedger, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/cut.jpg").write_bytes(encoded(picture(160, 120), "JPEG")[:-2])
    container = container_for(tmp_path / "home")
    scan = scan_all(container, str(tmp_path / "pictures"))
    (row,) = rows_of(container.scan_ledger(), scan.id)
    assert (row.image_format, row.image_frames, row.image_note) == ("JPEG", 1, "cut_short")
    assert row.image_note_text == Note.CUT_SHORT.sentence
    kept = ledger.open(new())
    cut(ledger, kept, ["a"])
    assert ledger.claim(kept.id, "w", NOW, LATER) is not None
    noted = replace(result("a"), image_frames=3, image_note="two_pictures")
    ledger.add(kept.id, 0, [noted])
    assert ledger.rows(kept.id) == [noted]
