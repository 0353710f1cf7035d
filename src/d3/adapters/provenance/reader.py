"""All that a file says of itself, put together from its metadata and, if asked, its pixels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from PIL import Image

from d3.adapters.provenance.credentials import CredentialsReader, elsewhere
from d3.adapters.provenance.exif import Exif, read_exif
from d3.adapters.provenance.metadata import Metadata
from d3.adapters.provenance.records import Record, read_records
from d3.adapters.provenance.source_types import says, source_type
from d3.adapters.provenance.texts import read_texts
from d3.adapters.provenance.words import is_editor, is_generator, line
from d3.adapters.provenance.xmp import Xmp, read_credit, read_xmp
from d3.domain.provenance import UNREADABLE, Provenance, Says, Source, SourceKind, weight


@dataclass(frozen=True, slots=True)
class ProvenanceReader:
    """Reads what a file says of itself. Keeps nothing of it and is thread-safe.

    Attributes:
        trust: certificates of those who are trusted to certify signers, in PEM.
        keep_position: whether to say where a photograph was taken.
        watermarks: whether to look for invisible watermarks in the pixels.
    """

    trust: str = ""
    keep_position: bool = False
    watermarks: bool = False
    _credentials: CredentialsReader = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_credentials", CredentialsReader(self.trust))

    def read(
        self, kind: str, data: bytes, metadata: Metadata, rgb: Image.Image | None = None
    ) -> Provenance:
        """What the file says.

        Args:
            kind: its format.
            data: the file.
            metadata: what the walk over its skeleton found.
            rgb: its picture, in its own size.
        """
        try:
            return self._read(kind, data, metadata, rgb)
        # Whatever metadata does to its readers, the image is judged by its pixels.
        except Exception:  # noqa: BLE001
            return UNREADABLE

    def _read(
        self, kind: str, data: bytes, metadata: Metadata, rgb: Image.Image | None
    ) -> Provenance:
        mark = self._mark(rgb)
        if not metadata:
            return _NOTHING if mark is None else Provenance.of([mark])
        words = _Words(metadata, position=self.keep_position)
        credentials = None
        if metadata.c2pa:
            credentials = self._credentials.read(kind, data)
        elif address := words.xmp.said("remote"):
            credentials = elsewhere(address)
        return Provenance.of(
            [
                *([] if credentials is None else [credentials]),
                *_of_iptc(words.xmp),
                *map(_of_record, words.records()),
                *_of_exif(words.exif, words.xmp),
                *([] if mark is None else [mark]),
                *([_CUT] if words.cut else []),
            ]
        )

    def _mark(self, rgb: Image.Image | None) -> Source | None:
        if not self.watermarks or rgb is None:
            return None
        from d3.adapters.provenance.watermark import read_watermark

        return read_watermark(rgb)

    def prompts(self, metadata: Metadata) -> list[str]:
        """The prompts in generators' records, in full: only for whoever asks for them."""
        records = _Words(metadata, position=False).records() if metadata else []
        return [one.prompt for one in records if one.prompt]


_NOTHING = Provenance()
_CUT = Source(
    kind=SourceKind.RECORD,
    reason="The file holds more metadata than D3 reads. The rest was not read.",
)
_MAX_TYPES = 4
"""Source types of one file that are shown, the weightiest first."""

_NO_SYSTEM = frozenset({"", "-", "0", "false", "n/a", "na", "no", "no ai", "none", "not used"})
"""What people write who used no AI."""


class _Words:
    """The metadata, read."""

    def __init__(self, metadata: Metadata, *, position: bool) -> None:
        read = read_texts(metadata.texts)
        self.cut = read.cut or metadata.cut
        self.exif = read_exif(metadata.exif, position=position)
        self.xmp = read_xmp([*metadata.xmp, *read.packets])
        credit = read_credit(metadata.iptc)
        self._texts: dict[str, Iterable[str]] = {
            **read.texts,
            **{f"exif:{name}": [text] for name, text in self.exif.texts.items()},
            **{f"xmp:{name}": texts for name, texts in self.xmp.texts.items()},
            "iptc:credit": [credit or ""],
        }

    def records(self) -> list[Record]:
        return read_records(self._texts)


def _of_iptc(xmp: Xmp) -> list[Source]:
    """One source for each source type, the weightiest first."""
    programs = filter(_is_system, map(line, xmp.texts.get("generator", ())))
    program = next(iter(programs), None)
    if program is not None:
        program = line(" ".join(filter(None, (program, xmp.said("version")))))
    said = (source_type(one) for text in xmp.texts.get("source_type", ()) for one in text.split())
    kinds = sorted(filter(None, dict.fromkeys(said)), key=lambda one: weight(says(one)))[
        :_MAX_TYPES
    ]
    found = [Source(kind=SourceKind.IPTC, says=says(one), digital_source_type=one) for one in kinds]
    if not found and (program is not None or xmp.refused is not None):
        found = [Source(kind=SourceKind.IPTC)]
    if found:
        found[0] = replace(
            found[0],
            # The standard has this property for nothing else.
            says=found[0].says if program is None else Says.GENERATED,
            generator=program,
            prompt=True if "prompt" in xmp.texts else None,
            reason=xmp.refused,
        )
    return found


def _is_system(name: str | None) -> bool:
    return name is not None and name.casefold().strip(" .") not in _NO_SYSTEM


def _of_record(record: Record) -> Source:
    return Source(
        kind=SourceKind.RECORD,
        says=record.says,
        generator=record.generator,
        model=record.model,
        prompt=bool(record.prompt),
    )


def _of_exif(exif: Exif, xmp: Xmp) -> list[Source]:
    """What speaks of a camera or an editor; generators put other things into these fields."""
    software, make, model = (
        exif.said(one) or xmp.said(one) for one in ("software", "make", "model")
    )
    camera = None
    # A name begins with a letter or a digit: what lies at a wrong pointer rarely does.
    if make and model and make[0].isalnum() and "{" not in make + model and not is_generator(make):
        camera = model if model.casefold().startswith(make.casefold()) else f"{make} {model}"
    programs = [exif.said("software"), *map(line, xmp.texts.get("software", ()))]
    if any(map(is_editor, programs)):
        speaks = Says.EDITED
    else:
        speaks = Says.CAMERA if camera is not None else Says.NOTHING
    found = Source(
        kind=SourceKind.EXIF,
        says=speaks,
        camera=camera,
        software=None if is_generator(software) else software,
        created_at=exif.date("created_at"),
        modified_at=exif.date("modified_at"),
        position=exif.position,
    )
    return [] if found == Source(kind=SourceKind.EXIF) else [found]
