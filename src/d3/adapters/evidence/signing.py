"""The key that evidence is signed with: Ed25519 (RFC 8032), in a PEM file of its owner alone."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from d3.domain.errors import SigningKeyInvalid, SigningKeyMissing, StorageFailed
from d3.domain.files import put, storage_errors

_LARGEST = 64 * 1024
"""Bytes of a PEM file; an Ed25519 key needs about 120."""
_PRIME = 2**255 - 19
_ORDER_8 = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
_SMALL_ORDER = {0, 1, _PRIME - 1, _ORDER_8, _PRIME - _ORDER_8}
"""The y coordinates of the eight points of small order. For them, one signature fits any text."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that signatures are checked with.

    Attributes:
        pem: the key as a PEM file holds it.
        key_id: SHA-256 of the key (DER, SubjectPublicKeyInfo) in hexadecimal: its fingerprint.
    """

    key: Ed25519PublicKey = field(repr=False)
    pem: bytes
    key_id: str

    @classmethod
    def of(cls, key: Ed25519PublicKey) -> Self:
        """The key with its fingerprint."""
        spki = serialization.PublicFormat.SubjectPublicKeyInfo
        pem = key.public_bytes(serialization.Encoding.PEM, spki)
        der = key.public_bytes(serialization.Encoding.DER, spki)
        return cls(key, pem, hashlib.sha256(der).hexdigest())

    @classmethod
    def read(cls, pem: bytes, name: str) -> Self:
        """Read a PEM file.

        Raises:
            SigningKeyInvalid: it holds no public Ed25519 key, or one that fits any signature.
        """
        try:
            key = serialization.load_pem_public_key(pem)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise _invalid(name, "public") from error
        if not isinstance(key, Ed25519PublicKey) or _is_weak(key):
            raise _invalid(name, "public")
        return cls.of(key)

    def signed(self, content: bytes, signature: bytes) -> bool:
        """Whether the signature over the content was made with this key."""
        try:
            self.key.verify(signature, content)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key that signs, and its public half."""

    private: Ed25519PrivateKey = field(repr=False)
    public: PublicKey

    def sign(self, content: bytes) -> bytes:
        """The signature: 64 bytes."""
        return self.private.sign(content)


class SigningKeyFile:
    """The installation's signing key.

    Args:
        path: of the PEM file (PKCS #8, not encrypted).
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def is_exposed(self) -> bool:
        """Whether others on this machine can read the key."""
        return os.name != "nt" and bool(self.path.stat().st_mode & 0o044)

    def key(self) -> SigningKey:
        """The key.

        Raises:
            SigningKeyMissing: there is none.
            SigningKeyInvalid: the file holds something else.
            StorageFailed: it cannot be read.
        """
        try:
            private = serialization.load_pem_private_key(
                read_pem(self.path, "private"), password=None
            )
        except FileNotFoundError as error:
            raise SigningKeyMissing(
                "There is no key to sign evidence with.",
                "Run `d3 keys sign-init` once on the machine that runs D3, or set D3_SIGNING_KEY "
                "to the file of an existing key.",
            ) from error
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise _invalid(self.path.name, "private") from error
        if not isinstance(private, Ed25519PrivateKey):
            raise _invalid(self.path.name, "private")
        return SigningKey(private, PublicKey.of(private.public_key()))

    def make(self, *, replace: bool = False) -> SigningKey:
        """Make a key.

        Args:
            replace: whether one that is there may be lost.

        Raises:
            StorageFailed: one is there already, or the file cannot be written.
        """
        private = Ed25519PrivateKey.generate()
        made = SigningKey(private, PublicKey.of(private.public_key()))
        pem = private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        with storage_errors(
            f"{self.path.name} cannot be written", "Check D3_HOME or D3_SIGNING_KEY."
        ):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            put(self.path, pem, 0o600, only_new=not replace)
            if self.path.read_bytes() != pem:
                raise StorageFailed(
                    f"{self.path.name} already holds a key, which D3 does not overwrite.",
                    "`d3 keys sign-init --replace` makes a new one. What the old one signed can "
                    "still be checked with its public key, so save that first.",
                )
        return made


def read_pem(path: Path, kind: str) -> bytes:
    """The content of a key's file: ``"private"`` or ``"public"``.

    Raises:
        FileNotFoundError: it is not there.
        SigningKeyInvalid: it is far too large for a key.
        StorageFailed: it cannot be read.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(_LARGEST + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StorageFailed(
            f"{path.name} cannot be read ({error.strerror}).", "Check the path and its permissions."
        ) from error
    if len(content) > _LARGEST:
        raise _invalid(path.name, kind)
    return content


def _is_weak(key: Ed25519PublicKey) -> bool:
    y = int.from_bytes(key.public_bytes_raw(), "little") & (2**255 - 1)  # without x's sign
    return y % _PRIME in _SMALL_ORDER


_REMEDIES = {
    "private": "Put back the file that `d3 keys sign-init` made, or make a new key with "
    "`d3 keys sign-init --replace`.",
    "public": "Use the public key that `d3 keys sign-init` printed.",
}


def _invalid(name: str, kind: str) -> SigningKeyInvalid:
    return SigningKeyInvalid(
        f"{name} does not hold a usable {kind} Ed25519 key in PEM form.", _REMEDIES[kind]
    )
