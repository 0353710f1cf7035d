"""What a file's statements say together, and how they are kept."""

from __future__ import annotations

import json

import pytest

from d3.domain.provenance import MAX_SOURCES, Provenance, Says, Source, SourceKind, State

CAMERA = Source(kind=SourceKind.EXIF, says=Says.CAMERA, camera="Leica M11")
EDITOR = Source(kind=SourceKind.EXIF, says=Says.EDITED, software="GIMP 2.10")
RECORD = Source(kind=SourceKind.RECORD, says=Says.GENERATED, generator="ComfyUI", prompt=True)


@pytest.mark.parametrize(
    ("sources", "says"),
    [
        ((), Says.NOTHING),
        ((CAMERA,), Says.CAMERA),
        ((CAMERA, EDITOR), Says.EDITED),
        ((CAMERA, EDITOR, RECORD), Says.GENERATED),
        ((Source(kind=SourceKind.EXIF, software="scanner"),), Says.NOTHING),
    ],
)
def test_what_speaks_against_the_picture_weighs_more(sources, says) -> None:
    assert Provenance.of(sources).says is says
    assert Provenance.of(reversed(sources)).says is says


def test_beside_a_manifest_that_does_not_hold_no_camera_is_believed() -> None:
    broken = Source(kind=SourceKind.C2PA, state=State.INVALID, reason="It does not hold.")
    assert Provenance.of([CAMERA, broken]).says is Says.NOTHING
    assert Provenance.of([CAMERA, EDITOR, broken]).says is Says.EDITED
    assert Provenance.of([RECORD, broken]).says is Says.GENERATED


def test_sources_come_back_from_their_text() -> None:
    signed = Source(
        kind=SourceKind.C2PA,
        says=Says.EDITED,
        state=State.VALID,
        signer="Éditions Nord",
        actions=("c2pa.opened", "c2pa.edited"),
        ingredients=("photo.jpg (parentOf)",),
    )
    found = Provenance.of([signed, CAMERA, RECORD])
    assert Provenance.from_json(found.to_json()) == found
    assert Provenance.of(()).to_json() == ""
    assert Provenance.from_json("") == Provenance()


def test_no_file_makes_the_text_longer_than_its_column() -> None:
    many = [Source(kind=SourceKind.RECORD, says=Says.GENERATED, model="ü" * 120)] * 100
    text = Provenance.of(many).to_json()
    assert len(text) <= MAX_SOURCES
    assert 1 < len(json.loads(text)) < 100


@pytest.mark.parametrize(
    "text",
    [
        "[1]",
        "{}",
        '[{"says":"camera"}]',
        '[{"kind":"c2pa","says":"loudly"}]',
        '[{"kind":"c2pa","signer":7}]',
        '[{"kind":"c2pa","signer":"a\\nb"}]',
        '[{"kind":"c2pa","signer":"\\u202eevil"}]',
        '[{"kind":"c2pa","signer":"\\ud800"}]',
        '[{"kind":"c2pa","actions":"c2pa.created"}]',
        '[{"kind":"record","prompt":"the whole prompt"}]',
        "[" * 9,
        "[" * 15_000,
        "[[1]]",
        '[{"kind":"c2pa","says":"camera","actions":[1]}]',
    ],
)
def test_what_no_reader_wrote_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  whatever it says
        Provenance.from_json(text)


def test_what_a_later_version_adds_is_left_out() -> None:
    found = Provenance.from_json('[{"kind":"exif","says":"camera","lens":"50 mm"}]')
    assert found == Provenance.of([Source(kind=SourceKind.EXIF, says=Says.CAMERA)])
