"""A decoder that crashes, hangs or takes all memory costs one image; the next one is decoded."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import d3
from d3.adapters.pillow import Limits, PillowDecoder
from d3.adapters.pillow.formats import FORMATS
from d3.adapters.pillow.isolated import IsolatedDecoder
from d3.adapters.provenance import ProvenanceReader
from d3.domain.errors import (
    DecoderUnavailable,
    DecodingInterrupted,
    ImageDamaged,
    ImageError,
    ImageTooLarge,
)
from d3.domain.inputs import CHANGES, Change, PixelsWanted
from d3.domain.provenance import UNREADABLE, Says
from d3.entrypoints.serving import children
from images import (
    black_png,
    encoded,
    exif_of,
    gif_with_stray_bytes,
    heic_of_tiles,
    jpeg_with_scans,
    picture,
)
from tests.hostile.attacks import attacks
from tests.hostile.metadata import METADATA
from tests.pictures import CRASHING_DECODER, paint_crashing
from tests.serving import wait_until
from tests.support.credentials import Authority, manifest
from tests.support.metadata import exif

SIZE = 224
SOUND = encoded(picture(), "PNG")


@pytest.fixture
def decoder() -> Iterator[IsolatedDecoder]:
    decoder = IsolatedDecoder(Limits(jpeg_scans=10**6), seconds=1)
    yield decoder
    decoder.close()


def child(decoder: IsolatedDecoder) -> int:
    """The one child that is idle."""
    decoder.decode(SOUND, SIZE)
    (idle,) = decoder._idle
    pid: int = idle._process.pid
    return pid


def test_it_answers_as_decoding_here_does(decoder: IsolatedDecoder, pack: Path) -> None:
    inside = PillowDecoder()
    files = [one.read_bytes() for one in sorted((pack / "images").iterdir())]
    files += [encoded(picture(), kind) for kind in sorted(FORMATS)]
    files += [encoded(picture(), "JPEG", exif=exif_of(6))[:-1], gif_with_stray_bytes()]
    for file in files:
        here, there = inside.decode(file, SIZE), decoder.decode(file, SIZE)
        assert np.array_equal(here.pixels, there.pixels)
        assert (here.facts, here.orientation) == (there.facts, there.orientation)
        assert np.array_equal(inside.picture(file, 40), decoder.picture(file, 40))


@pytest.mark.parametrize("data", [SOUND[:90], b"no image", black_png(12_000, 12_000)])
def test_it_refuses_in_the_same_words(decoder: IsolatedDecoder, data: bytes) -> None:
    with pytest.raises(ImageError) as here:
        PillowDecoder().decode(data, SIZE)
    with pytest.raises(type(here.value)) as there:
        decoder.decode(data, SIZE)
    assert str(there.value) == str(here.value)


def test_a_decoder_that_computes_without_end_is_ended(decoder: IsolatedDecoder) -> None:
    first = child(decoder)
    with pytest.raises(ImageDamaged, match="memory or time"):
        decoder.decode(jpeg_with_scans(9_000), SIZE)
    assert not Path(f"/proc/{first}").exists()
    assert child(decoder) != first


def test_a_decoder_that_hangs_is_ended(decoder: IsolatedDecoder) -> None:
    os.kill(child(decoder), signal.SIGSTOP)
    begun = time.monotonic()
    with pytest.raises(ImageDamaged, match="memory or time"):
        decoder.decode(SOUND, SIZE)
    assert time.monotonic() - begun < 20
    decoder.decode(SOUND, SIZE)


def test_a_decoder_that_wants_all_memory_gets_none_of_it() -> None:
    decoder = IsolatedDecoder(Limits(pixels=10**6), seconds=5)
    with pytest.raises(ImageTooLarge, match="not enough memory"):
        decoder.decode(SOUND, 40_000)
    decoder.decode(SOUND, SIZE)
    decoder.close()


def test_five_inputs_of_a_large_image_take_one_copy_of_it_at_a_time(
    decoder: IsolatedDecoder,
) -> None:
    def most() -> int:
        status = Path(f"/proc/{decoder._idle[0]._process.pid}/status").read_text()
        return 1024 * int(status.split("VmHWM:")[1].split()[0])

    file = black_png(4_000, 3_000)
    decoder.decode(file, SIZE)
    before = most()
    decoder.decode(file, SIZE, [PixelsWanted(SIZE, change=change) for change in CHANGES])
    assert most() - before < 2 * 4 * 4_000 * 3_000


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL])
def test_a_decoder_that_crashed_is_replaced(decoder: IsolatedDecoder, number: int) -> None:
    first = child(decoder)
    os.kill(first, number)
    wait_until(lambda: not decoder._idle[0].alive)
    decoder.decode(SOUND, SIZE)
    assert child(decoder) != first


def test_an_image_that_crashes_the_decoder_is_damaged(
    decoder: IsolatedDecoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in CRASHING_DECODER.items():
        monkeypatch.setenv(name, value)
    file = tmp_path / "crash.png"
    paint_crashing(file)
    for source in (file, str(file), file.read_bytes()):
        with pytest.raises(ImageDamaged):
            decoder.decode(source, SIZE)
        with pytest.raises(ImageDamaged):
            decoder.decode(source, SIZE, [PixelsWanted(SIZE, change=Change.JPEG)])
        with pytest.raises(ImageDamaged):
            decoder.picture(source, SIZE)
    file.write_bytes(SOUND)
    assert decoder.decode(file, SIZE).facts == decoder.decode(SOUND, SIZE).facts


def test_what_a_heic_says_of_itself_is_not_read(decoder: IsolatedDecoder) -> None:
    """An item of a kind that is no text ends libheif's binding by reading where nothing is."""
    sound = encoded(picture(), "HEIF", exif=exif_of(1))
    strange = sound.replace(b"Exif\0", b"E\xeaif\0", 1)
    assert strange != sound
    assert decoder.decode(strange, SIZE).facts.width == picture().width


def test_an_image_whose_child_is_killed_from_outside_gets_another_one(
    decoder: IsolatedDecoder,
) -> None:
    first = child(decoder)
    os.kill(first, signal.SIGSTOP)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(decoder.decode, SOUND, SIZE)
        wait_until(lambda: not decoder._idle)
        os.kill(first, signal.SIGKILL)
        assert asked.result().facts == PillowDecoder().decode(SOUND, SIZE).facts
    assert child(decoder) != first


def test_an_image_whose_children_are_killed_twice_is_not_called_damaged(
    decoder: IsolatedDecoder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in CRASHING_DECODER.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(DecodingInterrupted):
        decoder.decode(encoded(Image.new("RGB", (53, 61)), "PNG"), SIZE)
    assert "killed twice" in caplog.text
    decoder.decode(SOUND, SIZE)


@pytest.mark.parametrize("program", ["/nowhere/python", "/bin/false"])
def test_a_child_that_cannot_start_is_no_fault_of_the_image(
    decoder: IsolatedDecoder,
    program: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(sys, "executable", program)
    with pytest.raises(DecoderUnavailable):
        decoder.decode(SOUND, SIZE)
    assert "no decoding process can be started" in caplog.text


def test_a_child_imports_nothing_from_the_current_folder(
    decoder: IsolatedDecoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("logging", "numpy", "struct", "PIL"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)
    decoder.decode(SOUND, SIZE)


def test_every_process_of_ours_is_started_without_the_current_folder() -> None:
    started = [
        line.strip()
        for file in Path(d3.__file__).parent.rglob("*.py")
        if file.parent.name != "testing"
        for line in file.read_text().splitlines()
        if "[sys.executable" in line
    ]
    assert len(started) == 8
    assert children.ENGINE[0] == "-P"
    # -I leaves out the current folder and more.
    safe = ("[sys.executable, *ENGINE]", '[sys.executable, "-P", ', '[sys.executable, "-I", ')
    assert [line for line in started if not any(one in line for one in safe)] == []


def test_a_child_is_as_small_after_many_pictures_as_before(decoder: IsolatedDecoder) -> None:
    def reserved() -> int:
        (idle,) = decoder._idle
        return int(Path(f"/proc/{idle._process.pid}/statm").read_text().split()[0]) * 4096

    first = child(decoder)
    before = reserved()
    for file in (heic_of_tiles(4, 3), encoded(picture(2_000, 1_500), "WEBP"), heic_of_tiles(2, 2)):
        decoder.decode(file, SIZE)
    assert child(decoder) == first
    assert reserved() < before + 128 * 2**20


def test_a_child_that_keeps_memory_is_replaced(
    decoder: IsolatedDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in CRASHING_DECODER.items():
        monkeypatch.setenv(name, value)
    first = child(decoder)
    decoder.decode(encoded(Image.new("RGB", (53, 67)), "PNG"), SIZE)
    assert not Path(f"/proc/{first}").exists()
    assert child(decoder) != first


def test_no_child_is_left_and_no_descriptor(decoder: IsolatedDecoder) -> None:
    before = set(Path("/proc/self/fd").iterdir())
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: decoder.decode(SOUND, SIZE), range(40)))
    pids = [one._process.pid for one in decoder._idle]
    assert 1 <= len(pids) <= 4
    decoder.close()
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert set(Path("/proc/self/fd").iterdir()) <= before


ORPHAN = """
import sys
from d3.adapters.pillow.isolated import IsolatedDecoder
decoder = IsolatedDecoder()
decoder.decode(sys.stdin.buffer.read(), 14)
print(decoder._idle[0]._process.pid, flush=True)
import os; os.kill(os.getpid(), 9)
"""


def test_children_end_with_a_service_that_is_killed() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ORPHAN], input=SOUND, capture_output=True, timeout=60, check=False
    )
    pid = int(done.stdout)
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), 20)


def test_hostile_images_end_the_same_there(decoder: IsolatedDecoder) -> None:
    seen = 0
    for attack in attacks():
        if attack.code in ("image_too_large", "damaged_image") and "scans" not in attack.name:
            body = attack.make().split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n--b--\r\n")
            with pytest.raises(ImageError) as refused:
                decoder.decode(body, SIZE)
            assert refused.value.code == attack.code
            seen += 1
    assert seen > 15


def test_what_a_file_says_is_the_same_there() -> None:
    authority = Authority()
    signed = authority.sign(SOUND, "image/png", manifest())
    camera = b"Exif\0\0" + exif(make="A", model="B", position=((1, "N"), (2, "E")))
    placed = encoded(picture(), "JPEG", exif=camera)
    marked = Path(__file__).parents[1] / "data/watermarks/sdxl.webp"
    for reader in (
        ProvenanceReader(),
        ProvenanceReader(authority.pem.decode(), keep_position=True, watermarks=True),
    ):
        inside, apart = PillowDecoder(provenance=reader), IsolatedDecoder(provenance=reader)
        for file in (SOUND, signed, placed, marked):
            here, there = inside.decode(file, SIZE).facts, apart.decode(file, SIZE).facts
            assert here == there
        assert there.provenance is not None
        assert (there.provenance.says is Says.GENERATED) is reader.watermarks
        apart.close()


@pytest.mark.parametrize("name", METADATA)
def test_metadata_that_is_meant_to_harm_costs_no_picture(name: str) -> None:
    with closing(IsolatedDecoder()) as decoder:
        found = decoder.decode(METADATA[name](), SIZE).facts.provenance
        assert found is not None
        assert found.says is Says.NOTHING
        assert decoder.decode(SOUND, SIZE).facts.provenance is not None


READER_THAT = """
import sys, time
from d3.adapters.provenance import ProvenanceReader
def read(self, *_):
    {0}
ProvenanceReader.read = read
"""


@pytest.mark.parametrize(
    "harm",
    [
        "import os; os.abort()",
        "while True: pass",
        "held = bytearray(8 * 2**30); held[::4096] = bytes(len(held) // 4096)",
        "raise RuntimeError",
        "sys.stdout.buffer.write(b'nonsense, more than a length')",
        "sys.stdout.buffer.write(b'\\xff\\xff\\xff\\x7f'); sys.stdout.buffer.flush()",
    ],
)
def test_a_reader_that_is_lost_leaves_the_picture(
    harm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child's reader is replaced by one that crashes, never ends, or answers nonsense."""
    (tmp_path / "sitecustomize.py").write_text(READER_THAT.format(harm))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    decoder = IsolatedDecoder()
    image = decoder.decode(SOUND, SIZE)
    assert image.facts.provenance == UNREADABLE
    assert np.array_equal(image.pixels, PillowDecoder().decode(SOUND, SIZE).pixels)
    decoder.close()
