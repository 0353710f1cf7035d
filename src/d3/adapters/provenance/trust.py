"""The certificates of those who are trusted to certify signers of Content Credentials."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from d3.domain.errors import SettingsInvalid

_BEGIN = re.compile(rb"-----BEGIN [A-Z0-9 ]*CERTIFICATE-----")


def read_trust(file: Path) -> str:
    """The certificates in a file, in PEM and nothing else: no byte order mark, no remarks.

    Raises:
        SettingsInvalid: the file cannot be read, or holds none or a broken one.
    """
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509 import load_pem_x509_certificates

    try:
        content = file.read_bytes()
    except OSError as error:
        raise SettingsInvalid(
            f"D3_C2PA_TRUST names a file that cannot be read: {file}.", "Check the path."
        ) from error
    certificates = []
    with suppress(ValueError):
        certificates = load_pem_x509_certificates(content)
    if not certificates or len(certificates) != len(_BEGIN.findall(content)):
        raise SettingsInvalid(
            f"D3_C2PA_TRUST names a file that holds no certificate in PEM, or a broken one: "
            f"{file}.",
            "Name a text file in which each certificate begins with -----BEGIN CERTIFICATE-----.",
        )
    return "".join(one.public_bytes(Encoding.PEM).decode() for one in certificates)
