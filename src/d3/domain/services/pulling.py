"""Pulls published detectors: fetches their files, verifies them, makes a model.

D3 distributes none of their weights: each user fetches them from where their authors publish them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit, urlunsplit

from d3.domain.errors import ModelDamaged, ModelNotFound, SourceMismatch, SourceUnavailable
from d3.domain.files import storage_errors
from d3.domain.models import D3, PUBLISHED, Manifest, Role, StoredModel
from d3.domain.ports.models import ModelRegistry
from d3.domain.services.models import ModelService
from d3.domain.text import without_secrets

_CHUNK = 2**20
_GITHUB = "https://raw.githubusercontent.com"
_CLIP = "encoder: OpenAI's CLIP, whose repository has the MIT licence"


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file to fetch.

    Attributes:
        name: also on a mirror.
        url: where its makers publish it.
        most_bytes: its size at most.
        sha256: that it must have; None if another hash decides.
        git_blob: its git blob id (SHA-1), which decides in the same way.
        recorded_sha256: as one user recorded it; a difference is only worth a warning.
    """

    name: str
    url: str
    most_bytes: int
    sha256: str | None = None
    git_blob: str | None = None
    recorded_sha256: str | None = None

    def __post_init__(self) -> None:
        if self.sha256 is None and self.git_blob is None:
            raise ValueError("a source file is known by a hash")


_VIT_L14_SHA256 = "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836"
_VIT_L14 = SourceFile(
    "ViT-L-14.pt",
    f"https://openaipublic.azureedge.net/clip/models/{_VIT_L14_SHA256}/ViT-L-14.pt",
    2 * 2**30,
    sha256=_VIT_L14_SHA256,
)
"""OpenAI's CLIP ViT-L/14, as in open_clip's table."""


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A published detector: its files, and its manifest's entries.

    Attributes:
        files: by their role.
        about: what it is, in a few words.
        encoder_parts: what a stored model keeps of the encoder's file; one that has them all makes
            another download of the file needless.
        note: what whoever pulls it has to know of the licence; may be empty.
    """

    name: str
    files: Mapping[Role, SourceFile]
    architecture: str = D3
    about: str = ""
    encoder_parts: tuple[Role, ...] = ("encoder",)
    licence: str = "unknown"
    note: str = ""
    metrics: dict[str, Any] = field(default_factory=dict)


Sources: TypeAlias = Mapping[str, ModelSource]
"""By their name; the published D3 is the first."""


def published_sources() -> Sources:
    """The detectors that can be pulled."""
    sources = (_d3(), _ufd(), _ferretnet())
    return {one.name: one for one in sources}


def _d3() -> ModelSource:
    head = SourceFile(
        "classifier.pth",
        f"{_GITHUB}/BigAandSmallq/D3/HEAD/ckpt/classifier.pth",
        64 * 2**20,
        git_blob="06d99cf7212cf5c5dc81df87de6b691d4ccbc67f",
        recorded_sha256="c0bb66e0de538b0330613da1865da025756c1dc7a7290990d5343c35290ab63b",
    )
    return ModelSource(
        PUBLISHED,
        {"encoder": _VIT_L14, "head": head},
        about="D3 (Yang et al., CVPR 2025) on CLIP ViT-L/14",
        licence=f"{_CLIP}; head: none stated, because the authors' repository (BigAandSmallq/D3) "
        "has no licence file",
        note="The authors' repository states no licence, so D3 does not distribute its files. They "
        "are downloaded from their authors, or from the source you name.",
        metrics={
            "paper, accuracy in-domain (%)": 96.6,
            "paper, accuracy out-of-domain (%)": 86.7,
            "paper, accuracy total (%)": 90.7,
            # Independent, with the official weights in the wild.
            "RRDataset, balanced accuracy on original images (%)": 79.2,
            "RRDataset, balanced accuracy on re-digitised images (%)": 62.0,
            "AIGIBench, accuracy when trained anew on its data (%)": 63.7,
        },
    )


def _ufd() -> ModelSource:
    head = SourceFile(
        "fc_weights.pth",
        f"{_GITHUB}/WisconsinAIVision/UniversalFakeDetect/HEAD/pretrained_weights/fc_weights.pth",
        2**20,
        sha256="477100745713bcc957beb2b40859536859b6483fd6301b3b9293151b194c7847",
        git_blob="2a8efc8e238bf5a491e4fd5999655ed5eb3bbb72",
    )
    return ModelSource(
        "ufd-vit-l14",
        {"encoder": _VIT_L14, "head": head},
        "ufd",
        about="UniversalFakeDetect (Ojha et al., CVPR 2023) on CLIP ViT-L/14",
        encoder_parts=("encoder", "projection"),
        licence=f"{_CLIP}; head: MIT (WisconsinAIVision/UniversalFakeDetect)",
        metrics={
            "paper, accuracy above the best before it, on diffusion and autoregressive models "
            "(points)": 25.9,
            "paper, mean average precision likewise (points)": 15.07,
            "AIGIBench, accuracy when trained anew on its data (%)": 72.5,
        },
    )


def _ferretnet() -> ModelSource:
    network = SourceFile(
        "ferretnet-s-median-3.pth",
        f"{_GITHUB}/xigua7105/FerretNet/HEAD/checkpoints/4cls_ckpt/ferretnet-s-median-3.pth",
        8 * 2**20,
        sha256="5604ab1ade78dc615181b7d014242bf26f7bc5e2bc82351e6e8d42ce5f28f485",
        git_blob="1673e782284c2f7c3674fc641217500f7d7e6764",
    )
    return ModelSource(
        "ferretnet-s",
        {"network": network},
        "ferretnet",
        about="FerretNet-S (Liang et al., NeurIPS 2025), 0.5 MB",
        licence="Apache-2.0",
        metrics={
            "paper, accuracy of the larger size B on 22 generators (%)": 97.1,
            "AIGIBench, accuracy when trained anew on its data (%)": 79.4,
            # docs/detectors.md has intervals and more.
            "measured by D3, photographs called fake (%)": 3.7,
            "measured by D3, lossy generated images called fake (%)": 0.0,
        },
    )


@dataclass(frozen=True, slots=True)
class Pulled:
    """The result of a pull.

    Attributes:
        new: False if the model was there already.
        doubts: warnings.
    """

    manifest: Manifest
    new: bool
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Hashes:
    sha256: str
    git_blob: str


class PullService:
    """Fetches published detectors.

    Args:
        fetch: downloads an address to a path, of so many bytes at most; returns whether it resumed
            an earlier download.
        sources: what there is to pull.
        folder: where files lie until the model is made of them.
        origin: the address or folder to fetch from, unless a pull names another; None is where
            their makers publish them.
    """

    def __init__(
        self,
        registry: ModelRegistry,
        models: ModelService,
        fetch: Callable[[str, Path, int], bool],
        sources: Callable[[], Sources],
        *,
        folder: Path,
        origin: str | None = None,
    ) -> None:
        self._registry = registry
        self._models = models
        self._fetch = fetch
        self._sources = sources
        self._folder = folder
        self._origin = origin

    def sources(self) -> Sources:
        """What there is to pull."""
        return self._sources()

    def source(self, name: str) -> ModelSource:
        """What there is under this name.

        Raises:
            ModelNotFound: there is nothing of that name to pull.
        """
        sources = self._sources()
        if name not in sources:
            ways = " or ".join(f"`d3 models pull {one}`" for one in sources)
            raise ModelNotFound(f"There is no model {name!r} to pull.", f"Run {ways}.")
        return sources[name]

    def pull(self, name: str, origin: str | None = None) -> Pulled:
        """Make the model, unless it is there and sound.

        The file of an encoder is not fetched where a stored model has what is needed of it.

        Args:
            name: see :meth:`sources`.
            origin: a folder, or the address of one, that holds the files under their own names.

        Raises:
            ModelNotFound: there is nothing of that name to pull.
            ArchitectureUnavailable: its architecture cannot be used.
            SourceMismatch: a file has another hash; nothing is stored.
            SourceUnavailable: a file is missing, or the connection keeps breaking.
            CheckpointInvalid: a file has the right hash and still cannot be read.
            StorageFailed: there is no room.
        """
        source = self.source(name)
        if (there := self._sound(name)) is not None:
            return Pulled(there, new=False)
        origin = origin or self._origin
        donor, doubts = self._donor(source)
        wanted = {k: v for k, v in source.files.items() if donor is None or k != "encoder"}
        files: dict[Role, Path] = {}
        origins = [] if donor is None else [_encoder_of(donor, source.files["encoder"])]
        for role, file in wanted.items():
            files[role], fetched_from, hashes = self._file(file, origin)
            origins.append(f"{role} {fetched_from}, {_said(file, hashes)}")
            doubts += _doubts(file, hashes)
        manifest = self._models.import_files(
            name,
            architecture=source.architecture,
            files=files,
            encoder_of=donor,
            provenance="; ".join(origins),
            licence=source.licence,
            metrics=source.metrics,
        )
        for file in source.files.values():
            (self._folder / file.name).unlink(missing_ok=True)
        return Pulled(manifest, new=True, doubts=tuple(doubts))

    def _donor(self, source: ModelSource) -> tuple[StoredModel | None, list[str]]:
        """A pulled model that has what is needed of the encoder's file, and what to say of others.

        Which file it was made of is in its provenance: :meth:`pull` writes the SHA-256 there.
        """
        encoder, sources = source.files.get("encoder"), self._sources()
        if encoder is None or encoder.sha256 is None:
            return None, []
        lacking = []
        for one in self._registry.list():
            manifest = one.manifest
            if manifest.name not in sources or encoder.sha256 not in manifest.provenance:
                continue
            if missing := [part for part in source.encoder_parts if part not in manifest.files]:
                lacking.append(
                    f"{manifest.name} was stored by an older D3, without the {missing[0]} of its "
                    "encoder, so the encoder's file was fetched once more."
                )
                continue
            with suppress(ModelDamaged):
                return self._registry.open(manifest.name), []
        return None, lacking[:1]

    def _sound(self, name: str) -> Manifest | None:
        """The model, if it is there and verified."""
        try:
            return self._registry.verify(name)
        except (ModelNotFound, ModelDamaged):
            return None

    def _file(self, file: SourceFile, origin: str | None) -> tuple[Path, str, _Hashes]:
        """The verified file, where it came from, and its hashes."""
        if origin is not None and not origin.startswith(("http://", "https://")):
            return self._local(file, Path(origin).expanduser())
        url = file.url if origin is None else _joined(origin, file.name)
        target = self._folder / file.name
        if target.is_file() and _is(file, hashes := _hashes_of(target)):
            return target, without_secrets(url), hashes
        resumed = self._fetch(url, target, file.most_bytes)
        if not _is(file, hashes := _hashes_of(target)) and resumed:
            # What lay here may have been the bad part: once more, from the beginning.
            target.unlink()
            self._fetch(url, target, file.most_bytes)
            hashes = _hashes_of(target)
        if not _is(file, hashes):
            target.unlink()
            raise _mismatch(file, without_secrets(url), hashes)
        return target, without_secrets(url), hashes

    def _local(self, file: SourceFile, folder: Path) -> tuple[Path, str, _Hashes]:
        path = folder / file.name
        with storage_errors(
            f"{path} cannot be read",
            f"Use --from to name the folder or web address that holds {file.name} from {file.url}.",
            SourceUnavailable,
        ):
            hashes = _hashes_of(path)
        if not _is(file, hashes):
            raise _mismatch(file, str(path), hashes)
        return path, f"{file.url} from a folder", hashes


def _hashes_of(path: Path) -> _Hashes:
    sha256, blob = hashlib.sha256(), hashlib.sha1(usedforsecurity=False)
    with path.open("rb") as stream:
        blob.update(b"blob %d\0" % path.stat().st_size)
        while content := stream.read(_CHUNK):
            sha256.update(content)
            blob.update(content)
    return _Hashes(sha256.hexdigest(), blob.hexdigest())


def _is(file: SourceFile, found: _Hashes) -> bool:
    """Whether the file has every hash that is known of it."""
    return file.sha256 in (None, found.sha256) and file.git_blob in (None, found.git_blob)


def _mismatch(file: SourceFile, where: str, found: _Hashes) -> SourceMismatch:
    known, got = (
        (f"SHA-256 {file.sha256}", found.sha256)
        if file.sha256 is not None
        else (f"git blob id {file.git_blob}", found.git_blob)
    )
    return SourceMismatch(
        f"{where} is not the expected file {file.name}: expected {known}, received {got}. Nothing "
        "was stored.",
        "The file was changed or damaged, or its authors replaced it. Do not use it. Try another "
        "source with --from.",
    )


def _doubts(file: SourceFile, found: _Hashes) -> list[str]:
    if file.recorded_sha256 in (None, found.sha256):
        return []
    doubt = (
        f"{file.name} has the expected git blob id, but not the SHA-256 that one user recorded "
        f"({file.recorded_sha256}). The manifest names its actual SHA-256."
    )
    return [doubt]


def _said(file: SourceFile, found: _Hashes) -> str:
    """The hashes by which a file is known, for the record."""
    blob = f", git blob {found.git_blob}" if file.git_blob is not None else ""
    return f"SHA-256 {found.sha256}{blob}"


def _encoder_of(donor: StoredModel, file: SourceFile) -> str:
    return f"encoder of {donor.manifest.name}, made of {file.name}, SHA-256 {file.sha256}"


def _joined(address: str, name: str) -> str:
    try:
        parts = urlsplit(address)
    except ValueError as error:
        raise SourceUnavailable(
            "The source is not a web address.", "Start it with https:// or http:// and a host."
        ) from error
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{name}"))
