"""A manifest cannot be made wrong."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import FrozenInstanceError, replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from d3.adapters.model_files import decode_manifest, encode_manifest
from d3.domain.errors import ModelDamaged, ModelNameInvalid, ThresholdInvalid
from d3.domain.models import EncoderSpec, Manifest, ModelFile, checked_name
from d3.domain.scoring import AbstainBand, Calibration, Reference
from d3.testing.models import TINY, tiny_manifest

MANIFEST = tiny_manifest(ModelFile("a" * 64, 10), ModelFile("b" * 64, 20))
IDENTITY = tuple(range(16))


@pytest.mark.parametrize("name", ["a", "d3-vit-l14", "Model_2.pth", "0", "x" * 100])
def test_a_name_of_letters_digits_and_some_signs_is_allowed(name: str) -> None:
    assert checked_name(name) == name


@given(st.text(max_size=130))
def test_an_allowed_name_can_be_a_files_name_everywhere(name: str) -> None:
    with suppress(ModelNameInvalid):
        checked_name(name)
        assert name.isascii()
        assert 1 <= len(name) <= 100
        assert not set(name) & set('/\\\0:*?"<>| \n')
        assert ".." not in name
        assert name[0] not in ".-_"


@pytest.mark.parametrize(
    "change",
    [
        {"version": 0},
        {"version": -1},
        {"permutations": ()},
        {"permutations": (IDENTITY,) * 17},
        {"permutations": (IDENTITY[:-1],)},
        {"permutations": ((*IDENTITY, 16),)},
        {"permutations": ((*IDENTITY[:-1], 0),)},
        {"permutations": (tuple(range(1, 17)),)},
        {"permutations": (IDENTITY, (-1, *IDENTITY[1:]))},
        {"spec": EncoderSpec()},
    ],
    ids=str,
)
def test_a_manifest_that_makes_no_sense_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"version|permutation"):
        replace(MANIFEST, **change)


def test_a_manifests_name_and_threshold_are_checked() -> None:
    with pytest.raises(ModelNameInvalid):
        replace(MANIFEST, name="../up")
    with pytest.raises(ThresholdInvalid):
        replace(MANIFEST, threshold=float("nan"))


@pytest.mark.parametrize(
    ("digits", "size"), [("a" * 63, 1), ("A" * 64, 1), ("g" * 64, 1), ("a" * 64, 0), ("a" * 65, 1)]
)
def test_a_model_file_has_a_hash_and_a_size(digits: str, size: int) -> None:
    with pytest.raises(ValueError, match="SHA-256"):
        ModelFile(digits, size)


@pytest.mark.parametrize(
    "change",
    [
        {"patch_size": 15},
        {"heads": 3},
        {"layers": 0},
        {"width": -64},
        {"image_size": 0},
        {"mlp_width": 0},
        {"projection": -1},
    ],
    ids=str,
)
def test_an_encoder_whose_sizes_do_not_fit_is_refused(change: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"divide|positive"):
        replace(TINY, **change)


def test_the_default_encoder_is_vit_l_14() -> None:
    assert (EncoderSpec().grid, EncoderSpec().patches) == (16, 256)


@pytest.mark.parametrize(
    "change",
    [
        {"encoder": ModelFile("c" * 64, 10)},
        {"head": ModelFile("c" * 64, 20)},
        {"permutations": MANIFEST.permutations[::-1]},
        {"permutations": MANIFEST.permutations[:3]},
        {"spec": replace(TINY, heads=4)},
        {"spec": replace(TINY, activation="gelu")},
    ],
    ids=range(6),
)
def test_the_hash_changes_with_all_that_decides_a_logit(change: dict[str, object]) -> None:
    assert replace(MANIFEST, **change).sha256 != MANIFEST.sha256


def test_the_hash_stays_with_what_does_not() -> None:
    changed = replace(
        MANIFEST,
        name="other",
        version=9,
        threshold=0.9,
        calibration=Calibration(2, 1, "fitted"),
        abstain_band=AbstainBand(0.1, 0.1),
        notice="Careful.",
        metrics={"auroc": 0.9},
        licence="MIT",
        created_at="2026-01-01T00:00:00Z",
    )
    assert changed.sha256 == MANIFEST.sha256
    assert changed.reference.sha256 == MANIFEST.sha256


def test_a_manifest_written_as_json_is_read_back_the_same() -> None:
    manifest = replace(MANIFEST, metrics={"auroc": {"jpeg": [0.9, 0.8]}}, notice="Für Proben.")
    assert msgspec.json.decode(msgspec.json.encode(manifest), type=Manifest) == manifest


def test_a_manifest_of_an_older_or_a_newer_d3_is_read_too() -> None:
    counts = (1, *(0,) * 18, 2)
    reference = Reference(counts, counts[::-1])
    manifest = replace(MANIFEST, calibration=Calibration(2.0, 1.0, "own", None, reference))
    written = json.loads(encode_manifest(manifest))
    assert decode_manifest(json.dumps(written).encode(), "tiny") == manifest
    written["calibration"]["of a newer D3"] = 1
    del written["calibration"]["reference"]
    older = decode_manifest(json.dumps(written).encode(), "tiny")
    assert older == replace(manifest, calibration=Calibration(2.0, 1.0, "own"))
    assert older.sha256 == manifest.sha256


@pytest.mark.parametrize("counts", [[1] * 19, [0] * 20, [-1] * 20])
def test_a_reference_that_counts_wrongly_is_damage(counts: list[int]) -> None:
    written = json.loads(encode_manifest(MANIFEST))
    written["calibration"]["reference"] = {"real": counts, "fake": [1] * 20}
    with pytest.raises(ModelDamaged):
        decode_manifest(json.dumps(written).encode(), "tiny")


def test_a_manifest_does_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        MANIFEST.threshold = 0.1
