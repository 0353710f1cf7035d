"""The file of D3_C2PA_TRUST: what it may hold, and what is said of one that is of no use."""

from __future__ import annotations

from pathlib import Path

import pytest

from d3.adapters.pillow import PillowDecoder
from d3.adapters.provenance import ProvenanceReader, read_trust
from d3.domain.errors import SettingsInvalid
from d3.domain.provenance import State
from images import encoded, picture
from tests.support.credentials import Authority, manifest

AUTHORITY = Authority()
PEM = AUTHORITY.pem
SIGNED = AUTHORITY.sign(encoded(picture(96, 64), "JPEG"), "image/jpeg", manifest())


@pytest.mark.parametrize(
    "content",
    [
        PEM,
        b"\xef\xbb\xbf" + PEM,
        PEM.replace(b"\n", b"\r\n"),
        "# Zertifikat für Prüfer\n".encode("latin-1") + PEM,
        Authority("Somebody Else").pem + b"\n\n" + PEM,
    ],
)
def test_certificates_are_found_in_whatever_surrounds_them(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "trust.pem"
    file.write_bytes(content)
    decoder = PillowDecoder(provenance=ProvenanceReader(read_trust(file)))
    found = decoder.decode(SIGNED, 56).facts.provenance
    assert found is not None
    assert [one.state for one in found.sources] == [State.VALID]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xef\xbb\xbf",
        PEM.decode().encode("utf-16"),
        PEM[:200],
        PEM + PEM.replace(b"\nMII", b"\nMXX"),
        PEM.replace(b"CERTIFICATE", b"PRIVATE KEY"),
        PEM + PEM.replace(b"END CERTIFICATE", b"END"),
        PEM + PEM.replace(b"CERTIFICATE", b"TRUSTED CERTIFICATE"),
        SIGNED,
        b"no",
    ],
)
def test_a_file_without_certificates_is_named_as_that(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "trust.pem"
    file.write_bytes(content)
    with pytest.raises(SettingsInvalid, match="holds no certificate in PEM, or a broken one"):
        read_trust(file)


def test_a_file_that_is_not_there_is_named_as_that(tmp_path: Path) -> None:
    for file in (tmp_path, tmp_path / "none.pem"):
        with pytest.raises(SettingsInvalid, match="cannot be read"):
            read_trust(file)
