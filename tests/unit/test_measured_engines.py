"""The engine that runs a model is measured once on each machine, and the quickest serves."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from d3.adapters.filesystem import timings as timings_module
from d3.adapters.filesystem.timings import TimingFiles
from d3.domain.errors import DeviceOutOfMemory, EngineUnavailable
from d3.domain.images import Pixels
from d3.domain.models import StoredModel
from d3.domain.ports.detector import Logits, Timings
from d3.domain.scoring import Calibration
from d3.domain.services.engines import Candidate, MeasuredEngine, compared, worth_preparing
from d3.testing.fakes import FakeClock
from d3.testing.models import tiny_model

MACHINE = {"processor": "one", "torch": "2"}
EXACT, COARSE = 1e-4, 1e-2


@dataclass
class Rig:
    """Engines whose passes take as long as they are told, on a clock of their own.

    Attributes:
        seconds: of an image, by the candidate's name; those that are not here cannot run.
        off: what is added to the logits.
        loads: names in the order in which they were loaded.
    """

    seconds: dict[str, float]
    off: dict[str, float] = field(default_factory=dict)
    loads: list[str] = field(default_factory=list)
    clock: FakeClock = field(default_factory=FakeClock)

    def engine(self, timings: Timings, *names: str, allowed: float = EXACT) -> MeasuredEngine:
        candidates = [
            Candidate(*name.split(), make=lambda name=name: RigEngine(self, name))  # type: ignore[misc]
            for name in names or self.seconds
        ]
        return MeasuredEngine(candidates, allowed, timings, self.clock, lambda _: True)

    def loaded(self, engine: MeasuredEngine, model: StoredModel) -> str:
        """What an engine chose; the loads before are forgotten."""
        self.loads.clear()
        detector = engine.load(model)
        return f"{detector.engine} {detector.precision}"


@dataclass
class RigEngine:
    rig: Rig
    name: str

    def load(self, model: StoredModel) -> RigDetector:
        self.rig.loads.append(self.name)
        if self.name not in self.rig.seconds:
            raise EngineUnavailable("It does not run here.")
        return RigDetector(self.rig, *self.name.split())


@dataclass
class RigDetector:
    rig: Rig
    engine: str
    precision: str
    device: str = "cpu"
    weights_bytes: int = 0

    def score(self, pixels: Pixels, views: int) -> Logits:
        name = f"{self.engine} {self.precision}"
        self.rig.clock.advance(len(pixels) * self.rig.seconds[name])
        return np.full((len(pixels), views), 2.0 + self.rig.off.get(name, 0.0))

    def close(self) -> None: ...


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> StoredModel:
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def timings(tmp_path: Path) -> TimingFiles:
    return TimingFiles(tmp_path / "timings", MACHINE)


def test_the_quickest_that_agrees_serves_and_is_measured_once(
    model: StoredModel, timings: TimingFiles
) -> None:
    rig = Rig({"torch fp32": 1.0, "openvino fp32": 0.5})
    assert rig.loaded(rig.engine(timings), model) == "openvino fp32"
    assert rig.loads == ["torch fp32", "openvino fp32", "openvino fp32"]
    assert rig.loaded(rig.engine(timings), model) == "openvino fp32"
    assert rig.loads == ["openvino fp32"]


def test_what_changes_a_probability_by_more_than_the_setting_allows_does_not_serve(
    model: StoredModel, timings: TimingFiles
) -> None:
    rig = Rig({"torch fp32": 1.0, "torch bf16": 0.5}, off={"torch bf16": 0.02})
    assert rig.loaded(rig.engine(timings, allowed=EXACT), model) == "torch fp32"
    assert rig.loaded(rig.engine(timings, allowed=COARSE), model) == "torch bf16"
    assert rig.loads == ["torch bf16"], "both settings share what was measured"


def test_a_steep_calibration_counts(model: StoredModel, timings: TimingFiles) -> None:
    rig = Rig({"torch fp32": 1.0, "torch bf16": 0.5}, off={"torch bf16": 0.02})
    assert rig.loaded(rig.engine(timings, allowed=COARSE), model) == "torch bf16"
    steep = replace(model.manifest, calibration=Calibration(scale=3.0))
    assert rig.loaded(rig.engine(timings, allowed=COARSE), replace(model, manifest=steep)) == (
        "torch fp32"
    )


def test_a_model_without_a_finite_score_is_measured_once_too(
    model: StoredModel, timings: TimingFiles
) -> None:
    rig = Rig({"torch fp32": 1.0, "torch bf16": 0.5}, off={"torch bf16": float("nan")})
    for loads in (["torch fp32", "torch bf16", "torch fp32"], ["torch fp32"]):
        assert rig.loaded(rig.engine(timings, allowed=COARSE), model) == "torch fp32"
        assert rig.loads == loads


def test_a_gain_that_may_be_noise_is_none(model: StoredModel, timings: TimingFiles) -> None:
    rig = Rig({"torch fp32": 1.0, "openvino fp32": 0.97})
    assert rig.loaded(rig.engine(timings), model) == "torch fp32"


@pytest.mark.parametrize(("bf16", "tried"), [(0.5, "openvino bf16"), (2.0, "openvino fp32")])
def test_another_engine_is_tried_only_with_the_precision_that_the_first_is_quickest_with(
    model: StoredModel, timings: TimingFiles, bf16: float, tried: str
) -> None:
    rig = Rig({"torch fp32": 1.0, "torch bf16": bf16, "openvino fp32": 0.1, "openvino bf16": 0.1})
    assert rig.loaded(rig.engine(timings, allowed=COARSE), model) == tried
    assert rig.loads == ["torch fp32", "torch bf16", tried, tried]


def test_an_engine_that_cannot_run_here_is_a_warning(
    model: StoredModel, timings: TimingFiles
) -> None:
    rig = Rig({"torch fp32": 1.0})
    with pytest.warns(RuntimeWarning, match="openvino fp32 was not measured: It does not run here"):
        assert rig.loaded(rig.engine(timings, "torch fp32", "openvino fp32"), model) == "torch fp32"


def test_a_quickest_that_cannot_run_any_more_is_a_warning_and_the_first(
    model: StoredModel, timings: TimingFiles
) -> None:
    rig = Rig({"torch fp32": 1.0, "openvino fp32": 0.5})
    engine = rig.engine(timings)
    engine.load(model)
    del rig.seconds["openvino fp32"]
    with pytest.warns(RuntimeWarning, match="uses the fallback engine"):
        assert rig.loaded(engine, model) == "torch fp32"


def test_a_device_without_room_for_the_model_is_an_error(
    model: StoredModel, timings: TimingFiles
) -> None:
    class Full:
        def load(self, model: StoredModel) -> RigDetector:
            raise DeviceOutOfMemory("No room.")

    engine = MeasuredEngine(
        [Candidate("torch", "fp32", Full), Candidate("torch", "bf16", Full)],
        COARSE,
        timings,
        FakeClock(),
        lambda _: True,
    )
    with pytest.raises(DeviceOutOfMemory):
        engine.load(model)


def test_measuring_is_bounded_and_the_next_load_goes_on(
    model: StoredModel, timings: TimingFiles
) -> None:
    rig = Rig({"torch fp32": 20.0, "torch bf16": 10.0})
    engine = rig.engine(timings, allowed=COARSE)
    assert rig.loaded(engine, model) == "torch fp32"
    assert rig.loads == ["torch fp32", "torch fp32"]
    assert rig.loaded(engine, model) == "torch bf16"
    assert rig.loads == ["torch bf16", "torch bf16"]


def test_a_small_encoder_is_not_measured(model: StoredModel, timings: TimingFiles) -> None:
    rig = Rig({"torch fp32": 1.0, "torch bf16": 0.1})
    engine = rig.engine(timings, allowed=COARSE)
    engine._suits = worth_preparing
    assert rig.loaded(engine, model) == "torch fp32"
    assert rig.loads == ["torch fp32"]


def test_what_is_forgotten_is_measured_again(model: StoredModel, timings: TimingFiles) -> None:
    rig = Rig({"torch fp32": 1.0, "torch bf16": 0.1})
    engine = rig.engine(timings, allowed=COARSE)
    engine.load(model)
    timings.keep(model, [])
    rig.seconds["torch bf16"] = 2.0
    assert rig.loaded(engine, model) == "torch fp32"
    assert rig.loads == ["torch fp32", "torch bf16", "torch fp32"]


def test_it_is_said_that_measuring_takes_a_while(
    model: StoredModel, timings: TimingFiles, caplog: pytest.LogCaptureFixture
) -> None:
    rig = Rig({"torch fp32": 1.0, "torch bf16": 0.1})
    rig.engine(timings).load(model)
    assert "once on each machine" in caplog.text
    caplog.clear()
    rig.engine(timings).load(model)
    assert not caplog.text


def test_another_machine_is_measured_anew(model: StoredModel, tmp_path: Path) -> None:
    rig = Rig({"torch fp32": 1.0, "torch bf16": 0.1})
    for machine in (MACHINE, MACHINE | {"processor": "another"}, MACHINE | {"torch": "3"}):
        rig.loaded(rig.engine(TimingFiles(tmp_path, machine), allowed=COARSE), model)
        assert rig.loads == ["torch fp32", "torch bf16", "torch bf16"]


@pytest.mark.parametrize("content", [b"", b"[1", b"{}", b"\xff", b'[{"engine": "torch"}]'])
def test_a_damaged_file_is_a_warning_and_measured_anew(
    model: StoredModel, timings: TimingFiles, tmp_path: Path, content: bytes
) -> None:
    rig = Rig({"torch fp32": 1.0, "torch bf16": 0.1})
    engine = rig.engine(timings, allowed=COARSE)
    engine.load(model)
    (kept,) = (tmp_path / "timings").glob("*.json")
    kept.write_bytes(content)
    with pytest.warns(RuntimeWarning, match="measures them again"):
        assert rig.loaded(engine, model) == "torch bf16"
    assert rig.loaded(engine, model) == "torch bf16"
    assert rig.loads == ["torch bf16"]


def test_a_full_disk_is_a_warning_and_leaves_nothing_behind(
    model: StoredModel, timings: TimingFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(target: Path, content: bytes) -> None:
        with real(target) as partial:
            partial.write_bytes(content[:5])
            raise OSError(errno.ENOSPC, "No space left on device")

    real = timings_module.put.__globals__["replacing"]
    monkeypatch.setattr(timings_module, "put", full)
    rig = Rig({"torch fp32": 1.0, "torch bf16": 0.1})
    with pytest.warns(RuntimeWarning, match=r"No space left on device.*Free some space"):
        assert rig.loaded(rig.engine(timings, allowed=COARSE), model) == "torch bf16"
    assert not [one for one in (tmp_path / "timings").iterdir() if one.suffix != ".lock"]


def test_a_home_that_cannot_be_written_is_a_warning(model: StoredModel, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    rig = Rig({"torch fp32": 1.0, "torch bf16": 0.1})
    engine = rig.engine(TimingFiles(tmp_path / "file" / "timings", MACHINE), allowed=COARSE)
    with pytest.warns(RuntimeWarning, match="cannot be stored in D3_HOME"):
        assert rig.loaded(engine, model) == "torch bf16"


def test_of_two_processes_one_measures_and_the_other_waits(
    model: StoredModel, tmp_path: Path
) -> None:
    waiting, measuring, go_on = threading.Event(), threading.Event(), threading.Event()

    class Waiting(TimingFiles):
        @contextmanager
        def alone(self, model: StoredModel) -> Iterator[None]:
            waiting.set()
            with super().alone(model):
                yield

    class Slow(RigEngine):
        def load(self, model: StoredModel) -> RigDetector:
            measuring.set()
            assert go_on.wait(60)
            return super().load(model)

    first, second = (Rig({"torch fp32": 1.0, "torch bf16": 0.1}) for _ in range(2))
    engine = first.engine(TimingFiles(tmp_path, MACHINE), allowed=COARSE)
    engine._candidates = [
        replace(one, make=lambda one=one: Slow(first, one.name))  # type: ignore[misc]
        for one in engine._candidates
    ]
    other = second.engine(Waiting(tmp_path, MACHINE), allowed=COARSE)
    threads = [threading.Thread(target=engine.load, args=(model,))]
    threads[0].start()
    assert measuring.wait(60)
    threads.append(threading.Thread(target=other.load, args=(model,)))
    threads[1].start()
    assert waiting.wait(60)
    go_on.set()
    for thread in threads:
        thread.join(60)
    assert first.loads == ["torch fp32", "torch bf16", "torch bf16"]
    assert second.loads == ["torch bf16"], "it found what the other one measured"


def test_the_table_has_the_quickest_first_and_what_each_changes(
    model: StoredModel, timings: TimingFiles
) -> None:
    rig = Rig({"torch fp32": 1.0, "torch bf16": 0.5}, off={"torch bf16": 0.02})
    used = RigDetector(rig, "torch", "bf16")
    assert compared(timings, model, used) == []
    rig.engine(timings, allowed=COARSE).load(model)
    quick, exact = compared(timings, model, used)
    assert (quick.timing.name, quick.timing.seconds) == ("torch bf16", pytest.approx(0.5))
    assert quick.note == "changes a probability by at most 0.005, in use"
    assert exact.note == "changes a probability by at most 0"
