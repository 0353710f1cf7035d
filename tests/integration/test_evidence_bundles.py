"""Bundles of evidence: what is in them, and that nothing in them can be changed unseen."""

from __future__ import annotations

import hashlib
import io
import json
import re
import stat
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from d3.adapters.evidence import EvidenceBundles, SigningKeyFile, bundles
from d3.adapters.evidence.cases import decode_case, encode_case
from d3.adapters.evidence.signing import PublicKey
from d3.domain.errors import (
    EvidenceInvalid,
    EvidenceTooNew,
    ReplayImpossible,
    SigningKeyInvalid,
    SigningKeyMissing,
    StorageFailed,
)
from d3.domain.evidence import FORMAT_VERSION, Case, CaseLabel
from d3.domain.labels import Label
from d3.domain.provenance import Provenance, Says, Source, SourceKind
from tests.support.history import NOON, an_entry

MEMBERS = ["case.json", "report.html", "report.pdf"]
SIGNED = ["public-key.pem", "SHA256SUMS", "SHA256SUMS.sig"]
NAMES = ["фото.jpg", "مرحبا שלום.png", "文件名称 한국어 かな.webp", "😀🎨🧪 กขค नमस्ते.png"]


def a_case(name: str = "photo.jpg", **changes: Any) -> Case:
    """A case of an entry, without a manifest."""
    entry = an_entry(name, **{"image_sha256": hashlib.sha256(b"image").hexdigest()} | changes)
    return Case(made_at=NOON, made_by="ada", d3_version="0.1.0", result=entry, result_id=7)


@pytest.fixture
def keys(tmp_path: Path) -> SigningKeyFile:
    keys = SigningKeyFile(tmp_path / "keys" / "signing.pem")
    keys.make()
    return keys


@pytest.fixture
def evidence(keys: SigningKeyFile) -> EvidenceBundles:
    return EvidenceBundles(keys)


@pytest.fixture
def public(keys: SigningKeyFile, tmp_path: Path) -> Path:
    """The public key, as its owner published it."""
    path = tmp_path / "published.pem"
    path.write_bytes(keys.key().public.pem)
    return path


@pytest.fixture(scope="module")
def a_bundle(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A bundle with an image, to be spoilt."""
    keys = SigningKeyFile(tmp_path_factory.mktemp("keys") / "signing.pem")
    keys.make()
    return EvidenceBundles(keys).pack(a_case(), image=b"image")


def members_of(bundle: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
        return {one.filename: archive.read(one) for one in archive.infolist()}


def refused(evidence: EvidenceBundles, content: bytes, folder: Path) -> str:
    """What is said of a bundle that was spoilt."""
    file = folder / "spoilt.zip"
    file.write_bytes(content)
    with pytest.raises(EvidenceInvalid) as error:
        evidence.open(file)
    assert error.value.remedy
    return error.value.problem


def test_a_bundle_opens_as_what_was_packed(
    evidence: EvidenceBundles, keys: SigningKeyFile, tmp_path: Path
) -> None:
    sources = (Source(kind=SourceKind.C2PA, says=Says.GENERATED),)
    said = CaseLabel(
        id=1,
        result_id=7,
        label=Label.REAL,
        source="photographer",
        note="saw it",
        created_at=NOON,
        user_id=3,
        labelled_by="ada",
    )
    case = replace(
        a_case(
            views=3,
            view_logits="[1.5, -0.25, 0.125]",
            provenance_says=Says.GENERATED,
            provenance_sources=Provenance.of(sources).to_json(),
        ),
        labels=(said,),
    )
    file = tmp_path / "case.zip"
    file.write_bytes(evidence.pack(case, image=b"image"))
    opened = evidence.open(file)
    assert opened.case == case
    assert opened.image == b"image"
    assert opened.key_id == keys.key().public.key_id
    assert list(opened.members) == [*MEMBERS, "image.jpg", *SIGNED]
    document = json.loads(opened.members["case.json"])
    assert document["result"]["view_logits"] == [1.5, -0.25, 0.125]
    assert document["result"]["provenance_sources"][0]["kind"] == "c2pa"


def test_the_same_case_gives_the_same_bytes(evidence: EvidenceBundles) -> None:
    assert evidence.pack(a_case()) == evidence.pack(a_case())


def test_threads_that_make_bundles_do_not_disturb_each_other(evidence: EvidenceBundles) -> None:
    cases = [a_case(name) for name in NAMES] * 2
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(evidence.pack, cases))
    assert together == [evidence.pack(case) for case in cases]


def test_the_image_is_only_there_where_it_was_asked_for_and_is_the_cases(
    evidence: EvidenceBundles,
) -> None:
    assert list(members_of(evidence.pack(a_case()))) == [*MEMBERS, *SIGNED]
    with pytest.raises(ReplayImpossible, match="not the image of the case"):
        evidence.pack(a_case(), image=b"another")


def test_without_a_key_nothing_is_made_unless_unsigned_is_asked_for(tmp_path: Path) -> None:
    evidence = EvidenceBundles(SigningKeyFile(tmp_path / "none.pem"))
    with pytest.raises(SigningKeyMissing, match="d3 keys sign-init"):
        evidence.pack(a_case())
    file = tmp_path / "case.zip"
    file.write_bytes(evidence.pack(a_case(), signed=False))
    opened = evidence.open(file)
    assert opened.key_id is None
    assert b"not signed" in opened.members["report.html"]
    assert list(opened.members) == [*MEMBERS, "SHA256SUMS"]


def test_every_changed_byte_is_seen(a_bundle: bytes, keys: SigningKeyFile, tmp_path: Path) -> None:
    evidence = EvidenceBundles(keys)
    whole = tmp_path / "whole.zip"
    whole.write_bytes(a_bundle)
    assert evidence.open(whole).image == b"image"
    with zipfile.ZipFile(whole) as archive:
        starts = [one.header_offset for one in archive.infolist()]
        directory = archive.start_dir
    places = {*range(0, len(a_bundle), 4001), *range(directory, len(a_bundle))}
    places |= {place for start in starts for place in range(start, start + 46)}
    for place in sorted(places):
        spoilt = bytearray(a_bundle)
        spoilt[place] ^= 0x10
        whole.write_bytes(spoilt)
        with pytest.raises((EvidenceInvalid, EvidenceTooNew)):
            evidence.open(whole)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_bundle_that_is_cut_short_is_refused(
    a_bundle: bytes, evidence: EvidenceBundles, tmp_path: Path, share: float
) -> None:
    said = refused(evidence, a_bundle[: int(len(a_bundle) * share)], tmp_path)
    assert "cut short" in said


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            lambda m: m | {"case.json": m["case.json"].replace(b"photo", b"phote")},
            "'case.json' has",
        ),
        (lambda m: m | {"image.jpg": b"other"}, "'image.jpg' has another SHA-256"),
        (lambda m: {n: c for n, c in m.items() if n != "image.jpg"}, "lacks 'image.jpg'"),
        (lambda m: {n: c for n, c in m.items() if n != "report.pdf"}, "lacks 'report.pdf'"),
        (lambda m: {n: c for n, c in m.items() if n != "case.json"}, "lacks 'case.json'"),
        (lambda m: {n: c for n, c in m.items() if n != "SHA256SUMS"}, "lacks 'SHA256SUMS'"),
        (lambda m: {n: c for n, c in m.items() if n != "SHA256SUMS.sig"}, "signature was removed"),
        (lambda m: {n: c for n, c in m.items() if n != "public-key.pem"}, "public-key.pem"),
        (lambda m: m | {"heatmap.png": b"x"}, "SHA256SUMS does not list"),
        (lambda m: m | {"readme.txt": b"x"}, "D3 does not put there"),
        (lambda m: m | {"../../etc/passwd": b"x"}, "D3 does not put there"),
        (lambda m: m | {"/etc/passwd": b"x"}, "D3 does not put there"),
        (lambda m: m | {"SHA256SUMS": m["SHA256SUMS"] + b"\n"}, "SHA256SUMS that was changed"),
        (lambda m: m | {"SHA256SUMS.sig": bytes(64)}, "not a signature"),
        (lambda m: m | {"SHA256SUMS.sig": b""}, "not a signature"),
        (lambda m: dict(reversed(m.items())), "SHA256SUMS"),
    ],
)
def test_changed_missing_and_added_members_are_named(
    a_bundle: bytes, evidence: EvidenceBundles, tmp_path: Path, spoil: Any, said: str
) -> None:
    members = spoil(members_of(a_bundle))
    assert said in refused(evidence, bundles._zipped(members), tmp_path)


def test_hashes_that_were_made_to_fit_need_the_key(
    a_bundle: bytes, evidence: EvidenceBundles, tmp_path: Path
) -> None:
    members = members_of(a_bundle) | {"case.json": encode_case(a_case("other.jpg"))}
    members["SHA256SUMS"] = bundles._sums(members)
    assert "not a signature" in refused(evidence, bundles._zipped(members), tmp_path)


def test_a_bundle_signed_anew_by_somebody_else_is_not_the_owners(
    evidence: EvidenceBundles, public: Path, tmp_path: Path
) -> None:
    theirs = SigningKeyFile(tmp_path / "theirs.pem")
    theirs.make()
    file = tmp_path / "forged.zip"
    file.write_bytes(EvidenceBundles(theirs).pack(a_case("forged.jpg")))
    assert evidence.open(file).key_id == theirs.key().public.key_id
    with pytest.raises(EvidenceInvalid, match="another key"):
        evidence.open(file, public)
    file.write_bytes(evidence.pack(a_case()))
    assert evidence.open(file, public).key_id == evidence.keys.key().public.key_id
    file.write_bytes(evidence.pack(a_case(), signed=False))
    with pytest.raises(EvidenceInvalid, match="is not signed"):
        evidence.open(file, public)


def test_members_that_are_there_twice_are_refused(
    a_bundle: bytes, evidence: EvidenceBundles, tmp_path: Path
) -> None:
    file = io.BytesIO(a_bundle)
    with zipfile.ZipFile(file, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("case.json", b"{}")
    assert "'case.json' twice" in refused(evidence, file.getvalue(), tmp_path)


@pytest.mark.parametrize("around", [(b"before", b""), (b"", b"after"), (b"PK\5\6", b"")])
def test_bytes_around_the_members_are_seen(
    a_bundle: bytes, evidence: EvidenceBundles, tmp_path: Path, around: tuple[bytes, bytes]
) -> None:
    refused(evidence, around[0] + a_bundle + around[1], tmp_path)


def test_a_comment_of_the_archive_is_seen(
    a_bundle: bytes, evidence: EvidenceBundles, tmp_path: Path
) -> None:
    file = io.BytesIO(a_bundle)
    with zipfile.ZipFile(file, "a") as archive:
        archive.comment = b"trust me"
    said = refused(evidence, file.getvalue(), tmp_path)
    assert "archive around them" in said


def test_a_zip_bomb_is_never_unpacked(evidence: EvidenceBundles, tmp_path: Path) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("case.json", bytes(50_000_000))
    assert "another program" in refused(evidence, file.getvalue(), tmp_path)


def test_absurd_sizes_are_refused(
    a_bundle: bytes, evidence: EvidenceBundles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimed = bytearray(a_bundle)
    at = a_bundle.rindex(b"PK\1\2") + 20  # sizes in the last entry of the directory
    claimed[at : at + 8] = b"\xff\xff\xff\x7f" * 2
    refused(evidence, bytes(claimed), tmp_path)
    monkeypatch.setattr(bundles, "LARGEST", 1000)
    assert "more than 1,000 bytes" in refused(evidence, a_bundle, tmp_path)


@pytest.mark.parametrize("content", [b"", b"PK", b"no zip", bytes(1000)])
def test_what_is_no_zip_is_refused(
    evidence: EvidenceBundles, tmp_path: Path, content: bytes
) -> None:
    assert "not a zip archive" in refused(evidence, content, tmp_path)


def test_a_file_that_is_not_there_could_not_be_checked(
    evidence: EvidenceBundles, tmp_path: Path
) -> None:
    with pytest.raises(StorageFailed, match="cannot be read"):
        evidence.open(tmp_path / "nothing.zip")


def test_added_fields_of_a_later_d3_are_ignored() -> None:
    document = json.loads(encode_case(a_case()))
    document["added"] = {"deep": [1]}
    document["result"]["added"] = True
    assert decode_case(json.dumps(document).encode()) == a_case()


@pytest.mark.parametrize(
    "left_out", ["made_by", "result_id", "asked_by", "labels", "label_changes", "manifest"]
)
def test_fields_that_an_earlier_d3_did_not_have_may_be_missing(left_out: str) -> None:
    document = json.loads(encode_case(a_case()))
    del document[left_out]
    assert decode_case(json.dumps(document).encode()).result == a_case().result


def test_a_later_format_asks_for_a_newer_d3() -> None:
    document = json.loads(encode_case(a_case())) | {"format_version": FORMAT_VERSION + 1}
    with pytest.raises(EvidenceTooNew, match="newer D3"):
        decode_case(json.dumps(document).encode())


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b"[1]",
        b"\xff",
        b'{"format": "d3-evidence", "format_version": true}',
        b'{"format": "d3-evidence", "format_version": 0}',
        b'{"format": "other", "format_version": 1}',
        b'{"format": "d3-evidence", "format_version": 1, "result": 3}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_case_is_refused(text: bytes) -> None:
    with pytest.raises(EvidenceInvalid):
        decode_case(text)


def test_a_key_is_its_owners_alone_and_is_never_overwritten(tmp_path: Path) -> None:
    keys = SigningKeyFile(tmp_path / "deep" / "signing.pem")
    made = keys.make()
    assert stat.S_IMODE(keys.path.stat().st_mode) == 0o600
    with pytest.raises(StorageFailed, match="does not overwrite"):
        keys.make()
    assert keys.key().public == made.public
    assert keys.make(replace=True).public != made.public


def test_another_kind_of_key_is_refused(keys: SigningKeyFile, tmp_path: Path) -> None:
    other = generate_private_key(SECP256R1())
    keys.path.write_bytes(
        other.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    with pytest.raises(SigningKeyInvalid, match=r"signing\.pem"):
        keys.key()
    for content in (b"", b"words", bytes(100_000)):
        keys.path.write_bytes(content)
        with pytest.raises(SigningKeyInvalid):
            keys.key()


def test_each_half_of_a_broken_key_has_its_own_way_out(
    keys: SigningKeyFile, tmp_path: Path
) -> None:
    keys.path.write_bytes(b"broken")
    with pytest.raises(SigningKeyInvalid, match=r"--replace"):
        keys.key()
    with pytest.raises(SigningKeyInvalid, match=r"that `d3 keys sign-init` printed"):
        PublicKey.read(b"broken", "public.pem")


_PRIME = 2**255 - 19
_SMALL = [  # the y coordinates of the points of small order, by libsodium's list
    0,
    1,
    int("7a03ac9277fdc74ec6cc392cfa53202a0f67100d760b3cba4fd84d3d706a17c7", 16),
    int("05fc536d880238b13933c6d305acdfd5f098eff289f4c345b027b2c28f95e826", 16),
    _PRIME - 1,
    _PRIME,
    _PRIME + 1,
]


@pytest.mark.parametrize("y", _SMALL)
@pytest.mark.parametrize("sign", [0, 1])
def test_a_public_key_for_which_one_signature_fits_any_text_is_refused(y: int, sign: int) -> None:
    raw = (y | sign << 255).to_bytes(32, "little")
    pem = Ed25519PublicKey.from_public_bytes(raw).public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    with pytest.raises(SigningKeyInvalid):
        PublicKey.read(pem, "public.pem")


@pytest.mark.parametrize(("mode", "exposed"), [(0o600, False), (0o400, False), (0o644, True)])
def test_a_signing_key_that_others_can_read_is_noticed(
    keys: SigningKeyFile, mode: int, *, exposed: bool
) -> None:
    keys.path.chmod(mode)
    assert keys.is_exposed() is exposed


@pytest.mark.parametrize("name", NAMES)
def test_names_in_any_script_stand_in_both_reports(evidence: EvidenceBundles, name: str) -> None:
    members = members_of(evidence.pack(a_case(name)))
    assert name in members["report.html"].decode()
    shown = code_points(members["report.pdf"])
    for one in set(name) - {" "}:
        code = f"U+{ord(one):04X}"
        assert ord(one) in shown or set(map(ord, code)) <= shown, code


def test_a_name_cannot_write_into_the_page(evidence: EvidenceBundles) -> None:
    members = members_of(evidence.pack(a_case("<script>alert(1)</script>{{ 1 }}.png")))
    page = members["report.html"].decode()
    assert "<script" not in page
    assert "://" not in re.sub(r'xmlns="[^"]*"', "", page)  # nothing in it points elsewhere


def test_a_bundle_is_small(evidence: EvidenceBundles) -> None:
    assert len(evidence.pack(a_case(NAMES[2]))) < 500_000


def code_points(pdf: bytes) -> set[int]:
    """The characters that a PDF's fonts hold glyphs for, as its tables for copying text say."""
    found: set[int] = set()
    for stream in re.findall(rb"stream\n(.*?)\nendstream", pdf, re.DOTALL):
        text = stream
        with suppress(zlib.error):
            text = zlib.decompress(stream)
        if b"beginbfchar" in text:
            for code in re.findall(rb"<[0-9A-F]+> <([0-9A-F]+)>", text):
                found |= {ord(one) for one in bytes.fromhex(code.decode()).decode("utf-16-be")}
    return found


def test_times_are_those_of_the_case(evidence: EvidenceBundles) -> None:
    made_at = datetime(2031, 2, 3, 4, 5, 6, tzinfo=UTC)
    members = members_of(evidence.pack(replace(a_case(), made_at=made_at)))
    assert b"2031-02-03 04:05:06 UTC" in members["report.html"]
    assert b"2031-02-03T04:05:06" in members["report.pdf"]
