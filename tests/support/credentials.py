"""Content Credentials made for tests: an authority of their own, and images that it signs."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

IPTC = "http://cv.iptc.org/newscodes/digitalsourcetype/"
PART = "xmp:iid:part"
"""The ingredient that is opened or placed."""

GENERATED, CAPTURED = IPTC + "trainedAlgorithmicMedia", IPTC + "digitalCapture"


class Authority:
    """A root certificate and one signer under it.

    Attributes:
        pem: the root, as a trust list holds it.
    """

    def __init__(self, organisation: str = "D3 Tests", days: int = 30) -> None:
        root_key = ec.generate_private_key(ec.SECP256R1())
        root = _certificate(f"{organisation} Root", root_key, None, root_key, days)
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = _certificate(organisation, key, root, root_key, days)
        self.pem = _pem(root)
        self._chain = _pem(leaf) + self.pem
        self._key = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    def sign(self, data: bytes, mime: str, manifest: dict[str, Any], **builder: Any) -> bytes:
        """The file with this manifest in it.

        Args:
            data: an image file.
            mime: its media type.
            manifest: of c2pa's builder.
            builder: ``remote``, an address that is written into the file's XMP in place of the
                manifest; ``ingredients``, pairs of a description and a file; ``thumbnail``, bytes
                of any kind and length.
        """
        import c2pa

        info = c2pa.C2paSignerInfo(b"es256", self._chain, self._key, None)
        source, target = io.BytesIO(data), io.BytesIO()
        with c2pa.Builder(json.dumps(manifest)) as made, c2pa.Signer.from_info(info) as signer:
            for about, other in builder.get("ingredients", ()):
                made.add_ingredient(json.dumps(about), mime, io.BytesIO(other))
            if "thumbnail" in builder:
                made.add_resource("thumbnail", io.BytesIO(builder["thumbnail"]))
            if "remote" in builder:
                made.set_no_embed()
                made.set_remote_url(builder["remote"])
            made.sign(signer, mime, source, target)
        return target.getvalue()


def manifest(
    source_type: str | None = GENERATED,
    actions: Sequence[str] = (),
    generator: str = "Test Studio",
    created: str = "c2pa.created",
    **more: Any,
) -> dict[str, Any]:
    """A manifest as cameras, editors and generators write it."""
    first: dict[str, Any] = {"action": created}
    if source_type is not None:
        first["digitalSourceType"] = source_type
    listed = [first, *({"action": one} for one in actions)]
    for one in listed:
        if one["action"] in {"c2pa.opened", "c2pa.placed"}:
            one["parameters"] = {"ingredientIds": [PART]}
    return {
        "claim_generator_info": [{"name": generator, "version": "1.0"}],
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": listed}}],
        **more,
    }


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Certificate | None,
    issuer_key: ec.EllipticCurvePrivateKey,
    days: int,
) -> x509.Certificate:
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, name),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )
    now, is_root = datetime.now(UTC), issuer is None
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=2))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=is_root, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=not is_root,
                key_cert_sign=is_root,
                crl_sign=is_root,
                **dict.fromkeys(
                    (
                        *("content_commitment", "key_encipherment", "data_encipherment"),
                        *("key_agreement", "encipher_only", "decipher_only"),
                    ),
                    False,
                ),
            ),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
    )
    if not is_root:
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
        made = made.add_extension(usage, critical=False)
    return made.sign(issuer_key, hashes.SHA256())


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
