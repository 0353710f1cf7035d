"""What an image decoder promises."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from d3.domain.errors import (
    ImageDamaged,
    ImageEmpty,
    ImageError,
    ImageNotFound,
    ImageTooLarge,
    ImageUnsupported,
)
from d3.domain.inputs import CHANGES, Change, Fit, PixelsWanted
from d3.domain.ports.images import ImageDecoder
from d3.domain.scoring import Reason
from tests.support.images import drawn_in_alpha, noise, png, png_chunk, png_header, png_rgba

SIZE = 224
SHAPES = [
    *((1, 1), (1, 300), (223, 224), (224, 225), (225, 223), (20, 1500), (1500, 20), (97, 301)),
    *((301, 97), (333, 250), (427, 640), (447, 446), (7, 9), (224, 1), (448, 225)),
]
CROP = PixelsWanted(SIZE, Fit.CROP)
RESIZE_CROP = PixelsWanted(SIZE, Fit.RESIZE_CROP, 256)


def cropped_as() -> dict[PixelsWanted, Callable[[Image.Image], Image.Image]]:
    """What torchvision calls what is wanted; imported only where it is compared with."""
    from torchvision.transforms import CenterCrop, Compose, Resize

    return {
        CROP: CenterCrop(SIZE),
        RESIZE_CROP: Compose([Resize(256), CenterCrop(SIZE)]),
        PixelsWanted(75, Fit.CROP): CenterCrop(75),
        PixelsWanted(90, Fit.RESIZE_CROP, 61): Compose([Resize(61), CenterCrop(90)]),
    }


def changed(pixels: np.ndarray, change: Change) -> np.ndarray:
    """What a change does, in other words."""
    image = Image.fromarray(pixels)
    if change is Change.JPEG:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=75, subsampling="4:2:0")
        return np.asarray(Image.open(file))
    if change is Change.SCALED:
        sides = [max(1, round(0.75 * side)) for side in pixels.shape[:2]]
        from torchvision.transforms import Resize

        return np.asarray(Resize(sides)(image))
    if change is Change.CROPPED:
        down, across = (round(side / 40) for side in pixels.shape[:2])
        return pixels[down : len(pixels) - down, across : pixels.shape[1] - across]
    return pixels[:, ::-1] if change is Change.MIRRORED else pixels


class ImageDecoderContract:
    """Override :meth:`decoder`; it has its default limits."""

    @pytest.fixture
    def decoder(self) -> ImageDecoder:
        """The decoder under test."""
        raise NotImplementedError

    def test_it_is_an_image_decoder(self, decoder: ImageDecoder) -> None:
        assert isinstance(decoder, ImageDecoder)

    @pytest.mark.parametrize("size", [1, 56, 224])
    def test_pixels_are_uint8_rgb_of_the_size_asked_for(
        self, decoder: ImageDecoder, size: int
    ) -> None:
        pixels = decoder.decode(png(noise(40, 30)), size).pixels
        assert pixels.shape == (size, size, 3)
        assert pixels.dtype == np.uint8

    def test_an_image_of_the_right_size_is_left_as_it_is(self, decoder: ImageDecoder) -> None:
        original = noise(SIZE, SIZE)
        assert np.array_equal(decoder.decode(png(original), SIZE).pixels, original)

    def test_without_a_size_an_image_is_left_as_it_is(self, decoder: ImageDecoder) -> None:
        original = noise(40, 30)
        assert np.array_equal(decoder.decode(png(original), None).pixels, original)

    def test_one_colour_stays_that_colour(self, decoder: ImageDecoder) -> None:
        plain = np.full((33, 77, 3), (200, 10, 99), dtype=np.uint8)
        assert np.array_equal(
            decoder.decode(png(plain), 56).pixels, plain[:1, :1].repeat(56, 0).repeat(56, 1)
        )

    @pytest.mark.parametrize("shape", SHAPES, ids=str)
    def test_crops_are_torchvisions(self, decoder: ImageDecoder, shape: tuple[int, int]) -> None:
        pixels = noise(*shape)
        image = Image.fromarray(pixels)
        for wanted, transform in cropped_as().items():
            found = decoder.decode(png(pixels), wanted).pixels
            assert np.array_equal(found, np.asarray(transform(image))), wanted

    def test_alpha_is_dropped_before_an_image_is_cropped(self, decoder: ImageDecoder) -> None:
        pixels = np.dstack([noise(300, 260), noise(300, 260)[:, :, 0]])
        found = decoder.decode(png_rgba(pixels), CROP).pixels
        assert np.array_equal(found, pixels[38:262, 18:242, :3])

    def test_a_long_strip_is_resized_only_where_it_is_seen(self, decoder: ImageDecoder) -> None:
        from torchvision.transforms import CenterCrop, Resize

        pixels = noise(3, 2_000)
        wanted = PixelsWanted(300, Fit.RESIZE_CROP, 300)  # 60 million pixels if resized whole
        for turned in (pixels, pixels.swapaxes(0, 1)):
            resized = Resize(300)(Image.fromarray(turned))
            expected = CenterCrop(300)(resized)
            found = decoder.decode(png(turned), wanted).pixels
            assert np.abs(found.astype(int) - np.asarray(expected).astype(int)).max() <= 1

    @pytest.mark.parametrize("change", Change)
    @pytest.mark.parametrize("shape", [(1, 1), (19, 21), (301, 256), (60, 1000)], ids=str)
    def test_an_image_is_changed_whole_and_then_fitted(
        self, decoder: ImageDecoder, shape: tuple[int, int], change: Change
    ) -> None:
        pixels = noise(*shape)
        expected = changed(pixels, change)
        for fit in (PixelsWanted(56), PixelsWanted(56, Fit.CROP)):
            first = decoder.decode(png(pixels), replace(fit, change=change))
            second = decoder.decode(png(np.ascontiguousarray(expected)), fit)
            assert np.array_equal(first.pixels, second.pixels)
            assert (first.facts.width, first.facts.height) == shape[::-1]

    @pytest.mark.parametrize("source", [png(noise(50, 60)), noise(50, 60)], ids=["file", "pixels"])
    def test_one_decode_serves_many_inputs_in_the_order_asked_for(
        self, decoder: ImageDecoder, source: object
    ) -> None:
        also = [
            PixelsWanted(16, change=Change.MIRRORED),
            PixelsWanted(32, Fit.CROP),
            *(PixelsWanted(28, change=change) for change in CHANGES),
            PixelsWanted(17, change=Change.JPEG),
            PixelsWanted(28),
        ]
        together = decoder.decode(source, 28, also)
        alone = decoder.decode(source, 28)
        assert together.facts == alone.facts
        assert np.array_equal(together.pixels, alone.pixels)
        assert len(together.also) == len(also)
        for one, found in zip(also, together.also, strict=True):
            assert np.array_equal(found, decoder.decode(source, one).pixels)
        whole = decoder.decode(source, None, also[:2])
        assert whole.pixels.shape == (50, 60, 3)
        assert np.array_equal(whole.also[1], together.also[1])

    @pytest.mark.parametrize("size", [224, None, CROP, replace(CROP, change=Change.JPEG)])
    def test_what_carries_nothing_to_judge_is_said(
        self, decoder: ImageDecoder, size: int | PixelsWanted | None
    ) -> None:
        plain = np.full((33, 77, 3), (200, 10, 99), dtype=np.uint8)
        spotted = plain.copy()
        spotted[20, 40] += 1
        alpha = drawn_in_alpha(40, 50)
        painted = np.dstack([noise(40, 50), alpha[:, :, 3]])
        for file, lack in (
            (png(plain), Reason.ONE_COLOUR),
            (png(spotted), None),
            (png_rgba(alpha), Reason.ALPHA_ONLY),
            (png_rgba(np.dstack([alpha[:, :, :3], np.full((40, 50), 9, np.uint8)])), "one_colour"),
            (png_rgba(painted), None),
            (png(noise(32, 32)), None),
            (png(noise(31, 500)), Reason.TOO_SMALL),
            (png(noise(500, 31)), Reason.TOO_SMALL),
            (png(plain[:1, :1]), Reason.TOO_SMALL),
        ):
            assert decoder.decode(file, size).facts.lack == lack
        assert decoder.decode(plain, size).facts.lack is Reason.ONE_COLOUR
        assert decoder.decode(alpha, size).facts.lack is Reason.ALPHA_ONLY

    def test_bytes_path_and_text_path_of_a_file_are_the_same_image(
        self, decoder: ImageDecoder, tmp_path: Path
    ) -> None:
        file = tmp_path / "image.png"
        file.write_bytes(png(noise(50, 60)))
        sources: list[object] = [file, str(file), file.read_bytes()]
        first, *others = [decoder.decode(source, SIZE) for source in sources]
        for other in others:
            assert np.array_equal(other.pixels, first.pixels)
            assert other.facts == first.facts

    def test_an_array_gives_the_pixels_that_its_file_gives(self, decoder: ImageDecoder) -> None:
        original = noise(70, 41)
        from_array, from_file = decoder.decode(original, SIZE), decoder.decode(png(original), SIZE)
        assert np.array_equal(from_array.pixels, from_file.pixels)
        assert from_array.facts.format == "pixels"

    def test_facts_are_those_of_the_original(self, decoder: ImageDecoder) -> None:
        data = png(noise(50, 60))
        facts = decoder.decode(data, SIZE).facts
        assert (facts.format, facts.width, facts.height, facts.frames) == ("PNG", 60, 50, 1)
        assert facts.size_bytes == len(data)
        assert facts.sha256 == hashlib.sha256(data).hexdigest()

    def test_other_pixels_have_another_hash(self, decoder: ImageDecoder) -> None:
        hashes = {decoder.decode(noise(9, 9, seed), 14).facts.sha256 for seed in range(4)}
        reshaped = noise(9, 9, 0).reshape(3, 27, 3)
        assert len(hashes | {decoder.decode(reshaped, 14).facts.sha256}) == 5

    def test_many_threads_get_what_one_gets(self, decoder: ImageDecoder) -> None:
        files = [png(noise(60 + n, 90 - n, n)) for n in range(16)]
        alone = [decoder.decode(file, 56) for file in files]
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(lambda file: decoder.decode(file, 56), files))
        assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(alone, together, strict=True))
        assert [one.facts for one in alone] == [one.facts for one in together]

    def test_empty_bytes_are_refused(self, decoder: ImageDecoder) -> None:
        with pytest.raises(ImageEmpty):
            decoder.decode(b"", SIZE)

    @pytest.mark.parametrize("source", [b"just text", b"\0" * 1000, 17, None, ["a.png"]])
    def test_what_is_no_image_is_refused(self, decoder: ImageDecoder, source: object) -> None:
        with pytest.raises(ImageUnsupported):
            decoder.decode(source, SIZE)

    def test_half_an_image_is_refused(self, decoder: ImageDecoder) -> None:
        data = png(noise(50, 60))
        with pytest.raises(ImageDamaged):
            decoder.decode(data[: len(data) // 2], SIZE)

    def test_a_small_file_of_enormous_size_is_refused(self, decoder: ImageDecoder) -> None:
        bomb = png_header(100_000, 100_000) + png_chunk(b"IDAT", b"") + png_chunk(b"IEND")
        with pytest.raises(ImageTooLarge):
            decoder.decode(bomb, SIZE)

    def test_a_missing_file_and_a_folder_are_not_found(
        self, decoder: ImageDecoder, tmp_path: Path
    ) -> None:
        for place in (tmp_path, tmp_path / "nothing.png", tmp_path / "nowhere" / "nothing.png"):
            with pytest.raises(ImageNotFound):
                decoder.decode(place, SIZE)

    def test_errors_are_sentences_without_a_path(
        self, decoder: ImageDecoder, tmp_path: Path
    ) -> None:
        text = tmp_path / "note.png"
        text.write_text("no image")
        for place in (tmp_path, text, tmp_path / "nothing.png"):
            with pytest.raises(ImageError) as caught:
                decoder.decode(place, SIZE)
            assert str(tmp_path) not in str(caught.value)
            assert caught.value.problem.endswith(".")

    def test_images_are_recognised_by_content_whatever_their_name(
        self, decoder: ImageDecoder, tmp_path: Path
    ) -> None:
        image, text = tmp_path / "picture.txt", tmp_path / "text.png"
        image.write_bytes(png(noise(4, 4)))
        text.write_text("no image")
        assert decoder.recognises(image)
        assert not decoder.recognises(text)
        with pytest.raises(ImageNotFound):
            decoder.recognises(tmp_path / "nothing.png")
