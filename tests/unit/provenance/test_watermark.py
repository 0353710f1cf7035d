"""The invisible watermark, in pictures that the library ``invisible-watermark`` has marked."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from d3.adapters.provenance import Metadata, ProvenanceReader
from d3.adapters.provenance.watermark import MAX_PIXELS, read_watermark
from d3.domain.provenance import Says
from images import picture

MARKED = Path(__file__).parents[2] / "data" / "watermarks"
GENERATORS = {
    "flux": "FLUX",
    "sd1": "Stable Diffusion 1",
    "sd2": "Stable Diffusion 2",
    "sdxl": "Stable Diffusion XL",
}


def saved(image: Image.Image, **options: int) -> Image.Image:
    """The image after a JPEG."""
    stream = io.BytesIO()
    image.save(stream, "JPEG", **options)
    return Image.open(stream).convert("RGB")


def marked(name: str) -> Image.Image:
    """A picture with this mark."""
    return Image.open(MARKED / f"{name}.webp").convert("RGB")


@pytest.mark.parametrize("name", GENERATORS)
def test_a_mark_is_found_in_the_picture_as_it_was_made(name: str) -> None:
    found = read_watermark(marked(name))
    assert found is not None
    assert (found.says, found.generator) == (Says.GENERATED, GENERATORS[name])


@pytest.mark.parametrize("name", GENERATORS)
def test_a_mark_outlasts_jpeg_90_with_full_colour(name: str) -> None:
    found = read_watermark(saved(marked(name), quality=90, subsampling=0))
    assert found is not None
    assert found.generator == GENERATORS[name]


@pytest.mark.parametrize("name", ["flux", "sd1", "sdxl"])
def test_longer_marks_outlast_jpeg_90_with_halved_colour(name: str) -> None:
    found = read_watermark(saved(marked(name), quality=90))
    assert found is not None
    assert found.generator == GENERATORS[name]


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image.crop((2, 2, 512, 512)),
        lambda image: image.resize((400, 400)),
        lambda image: saved(image, quality=30),
        lambda image: image.convert("L").convert("RGB"),
    ],
)
def test_a_mark_that_is_destroyed_is_not_found(change) -> None:
    assert read_watermark(change(marked("sdxl"))) is None


@pytest.mark.parametrize("seed", range(12))
def test_pictures_without_a_mark_have_none(seed: int) -> None:
    image = picture(512, 384, seed)
    assert read_watermark(image) is None
    assert read_watermark(saved(image, quality=90)) is None


def test_one_colour_is_no_mark() -> None:
    for colour in ("black", "white", "blue", "red"):
        assert read_watermark(Image.new("RGB", (512, 512), colour)) is None


def test_pictures_that_no_pipeline_makes_are_not_looked_at() -> None:
    assert read_watermark(marked("sdxl").crop((0, 0, 256, 255))) is None
    assert read_watermark(Image.new("RGB", (MAX_PIXELS // 256, 260))) is None
    assert read_watermark(Image.new("RGB", (1, 70_000))) is None
    assert read_watermark(Image.new("RGB", (3, 30_000))) is None


def test_pixels_are_looked_at_only_on_request() -> None:
    image = marked("sdxl")
    assert ProvenanceReader().read("PNG", b"", Metadata(), image).sources == ()
    asked = ProvenanceReader(watermarks=True).read("PNG", b"", Metadata(), image)
    assert asked.says is Says.GENERATED
