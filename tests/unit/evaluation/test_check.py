from __future__ import annotations

import io
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.images import encoded, picture, with_png_chunks
from tests.support.images import png_chunk

from d3.adapters.pillow import PillowDecoder
from d3.evaluation.check import Checked, check, leaks
from d3.evaluation.dataset import Dataset
from d3.evaluation.facts import FACTS, facts_of, jpeg_quality


def store(file: Path, image: Image.Image, kind: str, **options: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    image.save(file, kind, **options)


def checked(root: Path) -> Checked:
    return check(Dataset([root]), PillowDecoder(), threads=2)


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    """Both kinds stored in the same ways."""
    for number in range(60):
        for kind in ("real", "fake"):
            image = picture(48 + number % 5, 48, seed=1000 * (kind == "fake") + number)
            quality = 70 + (7 * number) % 25
            store(tmp_path / kind / f"{number}.jpg", image, "JPEG", quality=quality)
    return tmp_path


def test_kinds_stored_alike_are_sound(sound: Path) -> None:
    result = checked(sound)
    assert (result.real, result.fake, result.verdict) == (60, 60, "sound")
    assert result.leaks["all"].low < 0.6
    assert result.across_count == result.duplicates == result.unreadable_count == 0


@pytest.mark.parametrize(
    ("what", "options", "size"),
    [
        ("format", ("PNG", {}), (50, 48)),
        ("JPEG quality", ("JPEG", {"quality": 96}), (50, 48)),
        ("JPEG subsampling", ("JPEG", {"quality": 80, "subsampling": 0}), (50, 48)),
        ("width", ("JPEG", {"quality": 80}), (64, 48)),
        ("metadata", ("JPEG", {"quality": 80, "comment": b"made by hand"}), (50, 48)),
    ],
)
def test_a_trivial_difference_makes_the_data_set_unfit_and_is_named(
    sound: Path, what: str, options, size
) -> None:
    for file in (sound / "fake").iterdir():
        file.unlink()
    for number in range(60):
        kind, more = options
        image = picture(*size, seed=5000 + number)
        store(sound / "fake" / f"{number}.bin", image, kind, **more)
    result = checked(sound)
    assert result.verdict == "unfit"
    assert result.leaks[what].value > 0.85
    assert "simple classifier" in result.problems[0]


def test_the_same_file_in_both_kinds_is_a_wrong_label(sound: Path) -> None:
    content = (sound / "real/7.jpg").read_bytes()
    (sound / "fake/copy.jpg").write_bytes(content)
    (sound / "real/again.jpg").write_bytes(content)
    result = checked(sound)
    assert result.verdict == "unfit"
    assert result.across_count == 1
    assert {Path(one).name for one in result.across} == {"7.jpg", "again.jpg", "copy.jpg"}
    assert result.duplicates == 1


def test_unreadable_images_are_listed_and_other_files_passed_over(sound: Path) -> None:
    (sound / "real/broken.jpg").write_bytes((sound / "real/1.jpg").read_bytes()[:300])
    (sound / "real/empty.png").write_bytes(b"")
    (sound / "fake/notes.txt").write_text("notes")
    result = checked(sound)
    assert {(Path(path).name, code) for path, code in result.unreadable} == {
        ("broken.jpg", "damaged_image"),
        ("empty.png", "empty_file"),
    }
    assert (result.passed_over, result.verdict) == (1, "usable")


def test_redrawn_pictures_of_the_same_scene_are_counted_as_alike(sound: Path) -> None:
    before = checked(sound).alike
    rows, columns = np.mgrid[0:64, 0:64]
    scene = ((rows // 13 * 71 + columns // 17 * 113) % 256).astype(np.uint8)
    store(sound / "real/scene.jpg", Image.fromarray(scene).convert("RGB"), "JPEG", quality=90)
    store(sound / "fake/scene.jpg", Image.fromarray(scene).convert("RGB"), "JPEG", quality=80)
    assert checked(sound).alike == before + 1


def test_one_kind_alone_is_said(sound: Path) -> None:
    for file in (sound / "fake").iterdir():
        file.unlink()
    result = checked(sound)
    assert (result.verdict, result.leaks) == ("usable", {})
    assert "only real images" in result.warnings[0]


@pytest.mark.parametrize("quality", [20, 35, 50, 75, 90, 100])
def test_a_jpegs_quality_is_read_from_its_tables(quality: int) -> None:
    file = io.BytesIO()
    picture().save(file, "JPEG", quality=quality)
    tables = Image.open(file).quantization
    assert jpeg_quality(tables[0]) == pytest.approx(quality, abs=1)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF"])
def test_every_format_has_its_facts(tmp_path: Path, kind: str) -> None:
    store(tmp_path / "image", picture(40, 20), kind)
    facts = facts_of(tmp_path / "image", PillowDecoder())
    assert len(facts.values) == len(facts.texts) == len(FACTS)
    assert facts.texts[:3] == (kind, "40", "20")
    assert np.isfinite(facts.values).all()


@pytest.mark.parametrize("kind", ["WEBP", "BMP", "TIFF", "PSD", "JXL"])
def test_whatever_was_decoded_has_its_facts(tmp_path: Path, kind: str) -> None:
    """Pillow's own way in refuses some files that D3 reads."""
    last = 1 if kind in {"WEBP", "BMP"} else None
    (tmp_path / "image").write_bytes(encoded(picture(40, 20), kind)[: last and -last])
    assert facts_of(tmp_path / "image", PillowDecoder()).texts[0] == kind
    large = with_png_chunks(
        encoded(picture(40, 20), "PNG"),
        png_chunk(b"iTXt", b"XML\0\1\0\0\0" + zlib.compress(bytes(5_000_000), 9)),
    )
    (tmp_path / "large").write_bytes(large)
    assert facts_of(tmp_path / "large", PillowDecoder()).texts[0] == "PNG"


def test_facts_that_say_nothing_are_at_chance() -> None:
    rng = np.random.default_rng(0)
    fake = rng.random(2000) < 0.2
    found = leaks(rng.random((2000, len(FACTS))), fake, seed=0)
    assert all(0.42 < one.value < 0.58 for one in found.values())
