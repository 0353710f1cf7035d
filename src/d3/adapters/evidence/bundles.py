"""Bundles of evidence: written and read, byte for byte.

A bundle is a zip archive without compression that holds these members in this order and no others.

::

    case.json         the verdict and all that led to it
    report.html       the same for people
    report.pdf        the same on paper
    heatmap.png       where the image was at hand
    image.jpg         where it was asked for; the ending is the format's
    public-key.pem    of the key that signed
    SHA256SUMS        of all members above, as sha256sum writes and checks it
    SHA256SUMS.sig    Ed25519 over SHA256SUMS

The same content gives the same bytes. So a reader writes what it read once more, and whatever lies
in the archive beside its members is found.
"""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from d3.adapters.evidence.cases import decode_case, decode_document, encode_case
from d3.adapters.evidence.signing import PublicKey, SigningKey, SigningKeyFile, read_pem
from d3.domain.errors import EvidenceInvalid, SigningKeyInvalid, StorageFailed
from d3.domain.evidence import IMAGE_STEM, Case, OpenedEvidence, check_image

if TYPE_CHECKING:
    from d3.domain.clips import ClipVerdict
    from d3.domain.heatmaps import Heatmap
    from d3.domain.images import Pixels

CASE, HTML, PDF, HEATMAP = "case.json", "report.html", "report.pdf", "heatmap.png"
KEY, SUMS, SIGNATURE = "public-key.pem", "SHA256SUMS", "SHA256SUMS.sig"
LARGEST = 256 * 2**20
"""Bytes of a bundle that is read."""
_IMAGE = re.compile(r"image\.[a-z0-9]{1,8}")
_NEEDED = (CASE, HTML, PDF, SUMS)
_KNOWN = {*_NEEDED, HEATMAP, KEY, SIGNATURE}
_AGAIN = "Do not rely on it. Get the bundle again from where it was made."


class EvidenceBundles:
    """Writes and reads bundles of evidence.

    Args:
        keys: holds the key that signs.
    """

    def __init__(self, keys: SigningKeyFile) -> None:
        self.keys = keys

    def pack(
        self,
        case: Case,
        *,
        heatmap: Heatmap | None = None,
        image: bytes | None = None,
        pictures: Sequence[Pixels] = (),
        signed: bool = True,
    ) -> bytes:
        """A bundle.

        Args:
            case: what it is about.
            heatmap: of the image, by the same model.
            image: the file itself.
            pictures: of a clip's frames, at the times of :meth:`shown_times`.
            signed: False leaves out the signature, and the reports say so.

        Raises:
            SigningKeyMissing: there is no key to sign with.
            ReplayImpossible: the image is another one.
        """
        from d3.adapters.evidence.report import reports

        key = self.keys.key() if signed else None
        pages = reports(case, heatmap, None if key is None else key.public.key_id, pictures)
        members = {CASE: encode_case(case), HTML: pages.html, PDF: pages.pdf}
        if pages.heatmap is not None:
            members[HEATMAP] = pages.heatmap
        if image is not None:
            check_image(case, image)
            members[_image_name(case)] = image
        return _zipped(_sealed(members, key))

    def shown_times(self, clip: ClipVerdict) -> list[float]:
        """When the frames of a clip are whose pictures a report shows."""
        from d3.adapters.evidence.course import shown_times

        return shown_times(clip)

    def report(self, case: Case) -> bytes:
        """The report alone, as a PDF file. It is not signed, and says so."""
        from d3.adapters.evidence.report import reports

        return reports(case, None, None).pdf

    def open(self, file: Path, trusted: Path | None = None) -> OpenedEvidence:
        """Read a bundle and check that all of it is as it was written.

        Args:
            file: the bundle.
            trusted: PEM file of the key that must have signed it; by default any key will do.

        Raises:
            EvidenceInvalid: it is no bundle, was changed, or was signed with another key.
            EvidenceTooNew: a later D3 wrote it.
            SigningKeyInvalid: the file ``trusted`` holds no key.
            StorageFailed: a file cannot be read.
        """
        content = _content(file)
        known = None if trusted is None else _public_key(trusted)
        members = _members(content)
        with suppress(EvidenceInvalid):
            decode_document(members[CASE])  # a later format may have other members
        _check_names(members)
        _check_sums(members)
        key = _signed_with(members)
        case = decode_case(members[CASE])
        if known is not None and (key is None or key.key_id != known.key_id):
            by = "not signed" if key is None else f"signed with another key ({key.key_id})"
            raise EvidenceInvalid(
                f"The bundle is {by}, not with the one in {trusted} ({known.key_id}).", _AGAIN
            )
        if _zipped(members) != content:
            raise EvidenceInvalid(
                "Every member of the bundle is as it was written, but the archive around them was "
                "changed or packed again.",
                "Get the file again as it was made, or unpack it and check it without D3, as "
                "docs/evidence.md shows.",
            )
        if key is None:
            return OpenedEvidence(case, members)
        return OpenedEvidence(case, members, key.key_id, key.pem)


def _image_name(case: Case) -> str:
    ending = re.sub(r"[^a-z0-9]", "", (case.result.image_format or "").lower())[:8]
    return f"{IMAGE_STEM}{'jpg' if ending == 'jpeg' else ending or 'bin'}"


def _sealed(members: dict[str, bytes], key: SigningKey | None) -> dict[str, bytes]:
    """The members with their hashes and, where there is a key, a signature over these."""
    if key is None:
        return members | {SUMS: _sums(members)}
    members = members | {KEY: key.public.pem}
    sums = _sums(members)
    return members | {SUMS: sums, SIGNATURE: key.sign(sums)}


def _sums(members: Mapping[str, bytes]) -> bytes:
    return "".join(
        f"{hashlib.sha256(content).hexdigest()}  {name}\n"
        for name, content in members.items()
        if name not in {SUMS, SIGNATURE}
    ).encode("ascii")


def _zipped(members: Mapping[str, bytes]) -> bytes:
    """The archive: always the same bytes for the same members, on every system."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)  # of 1980
            info.create_system = 3
            info.external_attr = 0o644 << 16
            archive.writestr(info, content)
    return file.getvalue()


def _content(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            content = stream.read(LARGEST + 1)
    except OSError as error:
        raise StorageFailed(
            f"{str(file)!r} cannot be read ({error.strerror}).", "Check the path."
        ) from error
    if len(content) > LARGEST:
        raise EvidenceInvalid(
            f"The file has more than {LARGEST:,} bytes, which no bundle of evidence has.", _AGAIN
        )
    return content


def _public_key(file: Path) -> PublicKey:
    try:
        return PublicKey.read(read_pem(file, "public"), file.name)
    except FileNotFoundError as error:
        raise SigningKeyInvalid(f"There is no file {str(file)!r}.", "Check --key.") from error


def _members(content: bytes) -> dict[str, bytes]:
    """The archive's files by name, none larger than the archive; nothing is unpacked to disk."""
    members: dict[str, bytes] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for info in archive.infolist():
                if info.filename in members:
                    raise _changed(f"holds {info.filename!r} twice")
                if info.compress_type != zipfile.ZIP_STORED or info.file_size > len(content):
                    raise _changed(f"was packed again by another program ({info.filename!r})")
                try:
                    members[info.filename] = archive.read(info)
                except zipfile.BadZipFile as error:
                    raise _changed(f"is damaged in {info.filename!r}") from error
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, EOFError) as error:
        raise _changed("is not a zip archive, or is damaged or cut short") from error
    if CASE not in members:
        raise _changed(f"lacks {CASE!r}")
    return members


def _check_names(members: Mapping[str, bytes]) -> None:
    for name in _NEEDED:
        if name not in members:
            raise _changed(f"lacks {name!r}")
    for name in members:
        if name not in _KNOWN and not _IMAGE.fullmatch(name):
            raise _changed(f"holds a file that D3 does not put there ({name[:80]!r})")


def _check_sums(members: Mapping[str, bytes]) -> None:
    """Check the members against the hashes."""
    written, found = _lines(members[SUMS]), _lines(_sums(members))
    for name in found:
        if name not in written:
            raise _changed(f"holds {name!r}, which SHA256SUMS does not list")
        if written[name] != found[name]:
            raise _changed(f"was changed: {name!r} has another SHA-256 than SHA256SUMS says")
    for name in written:
        if name not in found:
            raise _changed(f"lacks {name[:80]!r}, which SHA256SUMS lists")
    if members[SUMS] != _sums(members):
        raise _changed("has a SHA256SUMS that was changed")


def _lines(sums: bytes) -> dict[str, str]:
    lines = filter(None, sums.decode("ascii", "replace").splitlines())
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def _signed_with(members: Mapping[str, bytes]) -> PublicKey | None:
    """The key that signed the hashes; None where there is neither key nor signature."""
    if (KEY in members) != (SIGNATURE in members):
        lacking = SIGNATURE if KEY in members else KEY
        raise _changed(f"lacks {lacking!r}: its signature was removed")
    if KEY not in members:
        return None
    try:
        key = PublicKey.read(members[KEY], KEY)
    except SigningKeyInvalid as error:
        raise _changed(f"has a {KEY} that is no Ed25519 key") from error
    if not key.signed(members[SUMS], members[SIGNATURE]):
        raise _changed(f"was changed: {SIGNATURE} is not a signature over SHA256SUMS by its key")
    return key


def _changed(problem: str) -> EvidenceInvalid:
    return EvidenceInvalid(f"The bundle {problem}.", _AGAIN)
