"""``import d3`` as programmers use it."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import d3
from d3.domain.inputs import Change
from tests.support.contracts.images import changed


@pytest.fixture
def detector(home: Path) -> d3.D3:
    return d3.D3(d3.Settings(home=home, model="mine"))


def test_every_kind_of_source_of_the_same_pixels_gives_the_same_score(
    detector: d3.D3, pack: Path
) -> None:
    path = pack / "images/rgb_224.png"
    with Image.open(path) as image:
        pixels = np.asarray(image)
        scores = {
            detector.detect(source).prediction
            for source in (path, str(path), path.read_bytes(), image, pixels)
        }
    assert len(scores) == 1


def test_stability_gives_what_the_changed_images_give(detector: d3.D3, pack: Path) -> None:
    path = pack / "images/rgb_640x427_q90.jpg"
    tried = detector.detect(path, views=2, stability=True)
    with Image.open(path) as image:
        pixels = np.asarray(image)
    for change, probability in tried.stability.items():
        alone = detector.detect(changed(pixels, Change(change)), views=2)
        assert probability == pytest.approx(alone.prediction, abs=1e-6), change
    assert tried.prediction == pytest.approx(detector.detect(path, views=2).prediction, abs=1e-6)
    (many,) = detector.detect_many([path], views=2, stability=True)
    assert many.stability == pytest.approx(tried.stability, abs=1e-6)


def test_detect_many_answers_in_order_and_stops_or_goes_on_at_a_bad_image(
    detector: d3.D3, pack: Path
) -> None:
    images = sorted((pack / "images").iterdir())
    mixed = [*images[:3], b"no image", *images[3:]]
    outcomes = list(detector.detect_many(mixed, batch_size=2, errors="return"))
    assert isinstance(outcomes[3], d3.Failure)
    assert outcomes[3].error.code == "not_an_image"
    judged = [one for one in outcomes if isinstance(one, d3.Detection)]
    assert [one.name for one in judged] == [str(image) for image in images]
    stream = detector.detect_many(mixed, batch_size=2)
    assert [next(stream).name for _ in range(3)] == [str(image) for image in images[:3]]
    with pytest.raises(d3.errors.ImageUnsupported):
        next(stream)


def test_detect_many_reads_no_further_than_it_must(detector: d3.D3, pack: Path) -> None:
    image = (pack / "images/rgb_224.png").read_bytes()
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield image

    stream = detector.detect_many(endless(), batch_size=2)
    for _ in range(4):
        next(stream)
    stream.close()
    assert taken <= 4 + 2 * 2 + 2


def test_eight_threads_share_one_model_and_get_the_same_answers(
    detector: d3.D3, pack: Path
) -> None:
    images = sorted((pack / "images").iterdir())
    alone = [detector.detect(image).prediction for image in images]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda image: detector.detect(image).prediction, images * 4))
    assert together == pytest.approx(alone * 4, abs=1e-6)


def test_a_closed_detector_loads_its_model_again(detector: d3.D3, pack: Path) -> None:
    image = pack / "images/rgb_224.png"
    with detector:
        before = detector.detect(image).prediction
    assert detector.detect(image).prediction == before


def test_importing_d3_loads_no_torch() -> None:
    code = "import d3, sys; print(d3.__version__, 'torch' in sys.modules, 'PIL' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[1:] == ["False", "False"]


def test_the_command_line_helps_without_torch() -> None:
    code = (
        "import sys, d3.entrypoints.cli as cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "False"


def test_what_it_answers_can_be_sent_to_other_processes(detector: d3.D3, pack: Path) -> None:
    good, bad = detector.detect_many([pack / "images/rgb_224.png", b"none"], errors="return")
    assert pickle.loads(pickle.dumps(good)) == good
    document = json.loads(json.dumps(good.to_dict()))
    assert document["verdict"] == good.verdict
    assert document["model"]["name"] == "mine"
    again = pickle.loads(pickle.dumps(bad))
    assert (again.name, again.error.code, str(again.error)) == (
        *("image", "not_an_image"),
        str(bad.error),
    )


@pytest.mark.parametrize("send", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_detector_cannot_be_sent_and_says_what_to_do(detector: d3.D3, send: Any) -> None:
    with pytest.raises(TypeError, match="Make one in each process"):
        send(detector)


def test_every_error_can_be_sent_whole() -> None:
    kinds = [one for one in vars(d3.errors).values() if isinstance(one, type)]
    special = {
        d3.errors.KeyMissing: (),
        d3.errors.NotSignedIn: (),
        d3.errors.HostFailed: (),
        d3.errors.CrossSite: (),
        d3.errors.SessionEnded: ("expired",),
        d3.errors.RateLimited: ("Too many.", "Wait.", 5.0, 3),
        d3.errors.LabelsRefused: ("No.", "Mend it.", ["line 3"]),
    }
    ours = [one for one in kinds if issubclass(one, d3.D3Error)]
    assert special.keys() < set(ours)
    for kind in ours:
        error = kind(*special.get(kind, ("It failed.", "Try again.")))
        sent = pickle.loads(pickle.dumps(error))
        assert (type(sent), str(sent), vars(sent)) == (kind, str(error), vars(error))
