"""Bulk scans without servers: names, collections, patience, and the way through the pipeline."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from d3.adapters.batching import Bounds, ThreadedQueue
from d3.adapters.filesystem import FolderCollection, ListCollection, PatternCollection
from d3.adapters.in_process import SystemClock
from d3.adapters.pillow import PillowDecoder
from d3.domain.detections import Detection
from d3.domain.errors import (
    D3Error,
    DetectorFailed,
    FolderUnreadable,
    ImageNotFound,
    ImageUnreadable,
    RequestInvalid,
    StorageFailed,
    StorageUnavailable,
)
from d3.domain.images import ImageSource, Pixels
from d3.domain.models import ModelFile
from d3.domain.ports.detector import Logits
from d3.domain.ports.scans import ImageCollection, Listed
from d3.domain.scans import ScanRow, checked_scan_name, stored_uri
from d3.domain.services.detection import ImageJudge, SingleFlight
from d3.domain.services.model_host import LoadedModel, Panel
from d3.domain.services.pipeline import Pipeline
from d3.domain.services.questions import Question
from d3.domain.services.retrying import RetryingCollection, retry_while_unavailable
from d3.domain.services.scans.pipeline import ScanPipeline
from d3.evaluation.scans import prefix_of, root_of, summarise
from d3.testing import FakeDetector
from d3.testing.models import tiny_manifest


@given(st.text(st.characters(), max_size=50), st.text(st.characters(), max_size=50))
def test_two_uris_are_never_stored_as_one(one: str, other: str) -> None:
    assert (stored_uri(one) == stored_uri(other)) == (one == other)


@pytest.mark.parametrize("uri", ["a" * 5000, "ü" * 3000, "a\0b", "\udcff.png", "\udc80" * 4000])
def test_any_uri_is_stored_as_short_text(uri: str) -> None:
    kept = stored_uri(uri)
    assert len(kept.encode()) <= 2000
    assert "\0" not in kept
    assert stored_uri(uri + "x") != kept


@pytest.mark.parametrize("name", ["", ".a", "a b", "a/b", "x" * 65, "é"])
def test_a_scan_is_called_by_plain_words(name: str) -> None:
    with pytest.raises(RequestInvalid):
        checked_scan_name(name)


def test_a_folder_is_listed_in_order_and_goes_on_behind_any_file(tmp_path: Path) -> None:
    for name in ("b/2", "b/1", "a", "b.c/1", "b0", "c/d/e", "c/d/f", "c/a"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "c/loop").symlink_to(tmp_path)
    collection = FolderCollection(tmp_path)
    everything = list(collection.list(None))
    assert [one.cursor for one in everything] == [
        *("a", "b/1", "b/2", "b.c/1", "b0", "c/a", "c/d/e", "c/d/f"),
    ]
    for place, one in enumerate(everything):
        assert list(collection.list(one.cursor)) == everything[place + 1 :]
    (tmp_path / "b/1").unlink()
    assert list(collection.list("b/1")) == everything[2:]


def test_a_folder_that_is_gone_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(ImageNotFound):
        list(FolderCollection(tmp_path / "no").list(None))


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of folders that cannot be read, for as long as they are in it."""
    names: set[str] = set()
    scandir = os.scandir

    def scan(path: str) -> object:
        if Path(path).name in names:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), path)
        return scandir(path)

    monkeypatch.setattr("d3.domain.folders.os.scandir", scan)
    return names


@pytest.mark.parametrize("pattern", [None, "**/*.png", "*/*/*.png"])
def test_folders_that_cannot_be_read_are_listed_by_whoever_goes_on(
    pattern: str | None, tmp_path: Path, failing: set[str]
) -> None:
    names = ["a/b/1.png", "a/c/2.png", "a/d/3.png", "e/f/4.png", "e/f/5.png", "e/g/6.png"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    collection = (
        FolderCollection(tmp_path)
        if pattern is None
        else PatternCollection(f"{tmp_path}/{pattern}")
    )

    def listed(after: str | None) -> tuple[list[Listed], str]:
        found: list[Listed] = []
        try:
            for one in collection.list(after):
                found.append(one)  # noqa: PERF402  what came before the error counts
        except FolderUnreadable as error:
            return found, str(error)
        return found, ""

    failing |= {"c", "f"}
    first, said = listed(None)
    below = [str(Path(one.uri).relative_to(tmp_path)) for one in first]
    assert below == ["a/b/1.png", "a/d/3.png", "e/g/6.png"]
    assert f"The folder {str(tmp_path / 'a/c')!r} and 1 more cannot be read (Stale" in said
    failing.discard("f")
    for place, one in enumerate(first):
        again, said = listed(one.cursor)
        assert "'. cannot" not in said
        assert "more" not in said
        assert "a/c" in said
        # What failed in between is found, and nothing twice.
        later = [*first[place + 1 :], *again]
        assert len({one.uri for one in again}) == len(again)
        assert {one.uri for one in later} | {one.uri for one in first[: place + 1]} == {
            str(tmp_path / name) for name in names if name != "a/c/2.png"
        }
    last = listed(first[-1].cursor)[0][-1]
    failing.clear()
    after_all, said = listed(last.cursor)
    assert (said, [one.uri for one in after_all]) == ("", [str(tmp_path / "a/c/2.png")])


def test_a_listing_stops_where_too_many_folders_fail(
    tmp_path: Path, failing: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("d3.adapters.filesystem.collections._MOST_UNREAD", 3)
    for number in range(9):
        (tmp_path / f"d{number}").mkdir()
        failing.add(f"d{number}")
    with pytest.raises(FolderUnreadable, match="and 2 more"):
        list(FolderCollection(tmp_path).list(None))


def test_a_folder_that_is_locked_itself_is_said_to_be(tmp_path: Path, failing: set[str]) -> None:
    (tmp_path / "x").mkdir()
    failing.add("x")
    for collection in (FolderCollection(tmp_path / "x"), PatternCollection(f"{tmp_path}/x/*")):
        with pytest.raises(FolderUnreadable, match="Stale"):
            collection.check()


def test_a_pattern_goes_on_behind_any_file_and_follows_no_circle(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/1.png", "a.png", "c/d/3.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "c/loop").symlink_to("..")
    collection = PatternCollection(f"{tmp_path}/**/*.png")
    everything = list(collection.list(None))
    assert [one.cursor for one in everything] == ["a.png", "b/1.png", "b/2.png", "c/d/3.png"]
    for place, one in enumerate(everything):
        assert list(collection.list(one.cursor)) == everything[place + 1 :]
    assert list(collection.list("17")) == everything, "a cursor of a version that numbered files"


def test_a_pattern_finds_files_alone(tmp_path: Path) -> None:
    (tmp_path / "x.png").mkdir()
    for name in ("a.png", "b.jpg", "x.png/c.png"):
        (tmp_path / name).touch()
    found = {one.uri for one in PatternCollection(f"{tmp_path}/**/*.png").list(None)}
    assert found == {str(tmp_path / "a.png"), str(tmp_path / "x.png/c.png")}


@pytest.mark.parametrize("divider", [",", ";", "\t"])
@pytest.mark.parametrize("title", ["label{}path\n", ""])
@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_a_table_loses_no_image(divider: str, title: str, suffix: str, tmp_path: Path) -> None:
    (tmp_path / "2.png").touch()
    rows = [f"real{divider}{number}.png\n" for number in range(3)]
    file = tmp_path / f"list{suffix}"
    file.write_text(title.format(divider) + "".join(rows))
    found = ListCollection(file, lambda _: b"", lambda _: None).list(None)
    assert [one.uri for one in found] == [str(tmp_path / f"{number}.png") for number in range(3)]


def test_entries_of_a_list_are_kept_as_tidy_paths(tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/l.txt").write_text("../a/./b.png\ns3://b/../k.png\n")
    found = ListCollection(tmp_path / "lists/l.txt", lambda _: b"", lambda _: None).list(None)
    assert [one.uri for one in found] == [str(tmp_path / "a/b.png"), "s3://b/../k.png"]


def test_a_store_that_answers_and_does_not_let_itself_be_listed_ends_the_listing() -> None:
    class Unlistable(Store):
        def list(self, after: str | None) -> Iterator[Listed]:
            yield from ()
            raise StorageUnavailable("busy")

    with pytest.raises(StorageUnavailable):
        list(RetryingCollection(Unlistable(), 60, lambda _: None).list(None))


LISTED = ["one.png", "s3://bucket/two words.png", "sub/three.png"]


def _text(file: Path) -> None:
    file.write_text("# images\none.png\n\ns3://bucket/two words.png\nsub/three.png\n")


def _csv(file: Path) -> None:
    file.write_text("label,path\r\nx,one.png\r\ny,s3://bucket/two words.png\r\nz,sub/three.png\r\n")


def _parquet(file: Path) -> None:
    parquet.write_table(pa.table({"n": [1, 2, 3], "uri": LISTED}), file)


@pytest.mark.parametrize(
    ("name", "write"), [("l.txt", _text), ("l.csv", _csv), ("l.parquet", _parquet)]
)
def test_a_file_lists_paths_and_uris(name: str, write, tmp_path: Path) -> None:
    write(tmp_path / name)
    collection = ListCollection(tmp_path / name, lambda uri: uri.encode(), lambda _: None)
    found = list(collection.list(None))
    expected = [str(tmp_path / "one.png"), LISTED[1], str(tmp_path / "sub/three.png")]
    assert [one.uri for one in found] == expected
    assert [one.uri for one in collection.list(found[1].cursor)] == expected[2:]
    assert collection.read(LISTED[1]) == LISTED[1].encode()
    assert collection.read(expected[0]) == tmp_path / "one.png"


@pytest.mark.parametrize("name", ["l.txt", "l.csv", "l.parquet"])
def test_a_list_that_cannot_be_read_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\xff\xfe\x00garbage\xff")
    with pytest.raises(RequestInvalid, match="list of images"):
        list(ListCollection(tmp_path / name, lambda _: b"", lambda _: None).list(None))


class Store:
    """A collection whose store fails as it is told, one answer after the other."""

    source = "store"
    named = False

    def __init__(self, *answers: bytes | Exception, trouble: list[D3Error] | None = None) -> None:
        self.answers = list(answers)
        self.trouble = trouble or []
        self.cursors: list[str | None] = []

    def list(self, after: str | None) -> Iterator[Listed]:
        self.cursors.append(after)
        for number in range(int(after or -1) + 1, 6):
            if number == 3 and self.trouble:
                raise StorageUnavailable("away")
            yield Listed(f"u{number}", str(number))

    def read(self, uri: str) -> ImageSource:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def check(self) -> None:
        if self.trouble:
            raise self.trouble.pop(0)


def test_a_store_that_is_away_for_a_while_is_waited_for() -> None:
    waited: list[float] = []
    store = Store(StorageUnavailable("away"), b"image", trouble=[StorageUnavailable("away")] * 3)
    patient = RetryingCollection(store, 60, waited.append)
    assert patient.read("u") == b"image"
    assert len(waited) == 4


def test_an_image_that_the_store_does_not_give_is_that_images_fault() -> None:
    store = Store(*[StorageUnavailable("slow")] * 4)
    with pytest.raises(ImageUnreadable):
        RetryingCollection(store, 60, lambda _: None).read("u")
    with pytest.raises(ImageUnreadable):
        RetryingCollection(Store(StorageFailed("no")), 60, lambda _: None).read("u")


def test_a_store_that_refuses_everything_ends_the_scan() -> None:
    store = Store(StorageFailed("forbidden"), trouble=[StorageFailed("forbidden")])
    with pytest.raises(StorageFailed, match="forbidden"):
        RetryingCollection(store, 60, lambda _: None).read("u")


def test_listing_goes_on_after_an_outage_where_it_stopped() -> None:
    store = Store(trouble=[StorageUnavailable("away")] * 2)
    found = [one.uri for one in RetryingCollection(store, 60, lambda _: None).list(None)]
    assert found == [f"u{n}" for n in range(6)]
    assert store.cursors == [None, "2"]


def test_patience_has_an_end() -> None:
    waited: list[float] = []

    def fail() -> None:
        raise StorageUnavailable("away")

    with pytest.raises(StorageUnavailable):
        retry_while_unavailable(fail, 30, waited.append)
    assert 30 <= sum(waited) < 40


class Pixmaps:
    """A collection of shades; a shade of its choice is slow."""

    source = "pixmaps"
    named = False

    def __init__(self, slow: str = "", gate: threading.Event | None = None) -> None:
        self._slow, self._gate = slow, gate

    def list(self, after: str | None) -> Iterator[Listed]:
        yield from ()

    def read(self, uri: str) -> ImageSource:
        if uri == self._slow and self._gate is not None:
            self._gate.wait()
        return np.full((8, 8, 3), int(uri), np.uint8)

    def check(self) -> None: ...


class Poisoned(FakeDetector):
    """Fails at every batch with a black image in it."""

    def score(self, pixels: Pixels, views: int) -> Logits:
        if (pixels.reshape(len(pixels), -1).max(axis=1) == 0).any():
            raise DetectorFailed("black")
        return super().score(pixels, views)


@pytest.fixture
def pipeline():
    made: list[tuple[ScanPipeline[int], ThreadedQueue]] = []

    def make(
        collection: ImageCollection, detector: FakeDetector, linger: float = 0.02
    ) -> ScanPipeline[int]:
        file = ModelFile("0" * 64, 1)
        clock = SystemClock()
        queue = ThreadedQueue(detector, clock, Bounds(batch_size=8, linger=linger))
        question = Question.of(
            Panel(LoadedModel(tiny_manifest(file, file), queue)), threshold=None, views=1
        )
        made.append(
            (
                ScanPipeline(
                    Pipeline(
                        ImageJudge(clock, SingleFlight()),
                        PillowDecoder(),
                        threads=2,
                        batch_size=4,
                    ),
                    question,
                    collection,
                ),
                queue,
            )
        )
        return made[-1][0]

    yield make
    for one, queue in made:
        one.close()
        queue.close()


def outcomes(
    pipeline: ScanPipeline[int], wanted: int, seconds: float = 0.1
) -> dict[int, Detection | D3Error]:
    found: dict[int, Detection | D3Error] = {}
    until = time.monotonic() + 20
    while len(found) < wanted:
        assert time.monotonic() < until
        for key, _, outcome in pipeline.take(seconds):
            assert key not in found
            found[key] = outcome
    return found


def test_a_slow_image_holds_nobody_up(pipeline) -> None:
    gate = threading.Event()
    line = pipeline(Pixmaps("3", gate), FakeDetector())
    for shade in range(12):
        line.put(shade, str(shade))
    assert 3 not in outcomes(line, 11)
    gate.set()
    assert list(outcomes(line, 1)) == [3]
    assert line.in_flight == 0


def test_a_detector_without_work_is_not_given_single_images_while_more_are_coming(
    pipeline,
) -> None:
    batches: list[int] = []

    class Counting(FakeDetector):
        def score(self, pixels: Pixels, views: int) -> Logits:
            batches.append(len(pixels))
            return super().score(pixels, views)

    gate = threading.Event()
    line = pipeline(Pixmaps("3", gate), Counting(), linger=30)
    for shade in range(4):
        line.put(shade, str(shade))
    threading.Timer(0.5, gate.set).start()
    assert len(outcomes(line, 4, seconds=30)) == 4
    line.put(4, "4")
    assert len(outcomes(line, 1, seconds=30)) == 1  # nothing else is on its way
    assert batches == [4, 1]


def test_an_image_that_fails_the_detector_fails_alone(pipeline) -> None:
    line = pipeline(Pixmaps(), Poisoned())
    for shade in range(10):
        line.put(shade, str(shade))
    found = outcomes(line, 10)
    assert isinstance(found.pop(0), DetectorFailed)
    assert all(isinstance(one, Detection) for one in found.values())


def test_a_detector_that_always_fails_ends_the_scan(pipeline) -> None:
    line = pipeline(Pixmaps(), Poisoned())
    for key in range(18):
        line.put(key, "0")
    found = outcomes(line, 18)
    assert Counter(type(one) for one in found.values()) == {DetectorFailed: 18}
    line.put(18, "0")
    line.put(19, "0")
    with pytest.raises(DetectorFailed, match="in a row"):
        outcomes(line, 2)


def row(uri: str, prediction: float | None) -> ScanRow:
    verdict = None if prediction is None else ("fake" if prediction > 0.5 else "real")
    return ScanRow(
        uri=uri,
        verdict=verdict,
        error=None if verdict else "damaged_image",
        prediction=prediction,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def test_a_summary_adds_up() -> None:
    predictions = [0.0, 0.1, 0.999, 1.0, None, 0.7, 0.7]
    folders = ["a/x/", "a/", "b/", "b/", "b/", "", ""]
    rows = [row(f"/r/{f}{n}", p) for n, (f, p) in enumerate(zip(folders, predictions, strict=True))]
    summary = summarise(rows, "/r", top=3)
    assert sum(summary.histogram) == 6
    assert summary.histogram[-1] == 2
    assert {name: one.images for name, one in summary.prefixes.items()} == {
        "a/": 2,
        "b/": 3,
        "./": 2,
    }
    assert summary.prefixes["b/"].fake_share == 1
    assert summary.prefixes["a/"].mean == pytest.approx(0.05)
    assert [one.uri for one in summary.suspects] == ["/r/b/3", "/r/b/2", "/r/5"]
    assert summary.errors == {"damaged_image": 1}


@pytest.mark.parametrize(
    ("source", "uri", "prefix"),
    [
        ("/data", "/data/a/b.png", "a/"),
        ("/data", "/data/b.png", "./"),
        ("s3://bucket/old", "s3://bucket/old/x/1.png", "x/"),
        ("s3://bucket", "s3://bucket/x/y/1.png", "x/"),
        ("/d/**/*.png", "/d/e/f/1.png", "e/"),
        ("/lists/all.csv", "/lists/a/1.png", "a/"),
        ("/lists/all.csv", "s3://bucket/a/1.png", "s3://bucket/a/"),
    ],
)
def test_prefixes_begin_below_the_source(source: str, uri: str, prefix: str) -> None:
    assert prefix_of(uri, root_of(source)) == prefix
