"""The published detector: where its two files come from, how they are known, what is said of it.

No licence file stands in the authors' repository, so D3 passes nothing of it on: each user fetches
it from there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from d3.domain.models import PUBLISHED

HEAD_BLOB = "06d99cf7212cf5c5dc81df87de6b691d4ccbc67f"
HEAD_SHA256 = "c0bb66e0de538b0330613da1865da025756c1dc7a7290990d5343c35290ab63b"
HEAD_URL = "https://raw.githubusercontent.com/BigAandSmallq/D3/HEAD/ckpt/classifier.pth"

LICENCE = (
    "encoder: OpenAI's CLIP, whose repository is under MIT; head: none stated, for no licence file "
    "stands in the authors' repository (BigAandSmallq/D3)"
)
FIGURES = {
    "paper, accuracy in-domain (%)": 96.6,
    "paper, accuracy out-of-domain (%)": 86.7,
    "paper, accuracy total (%)": 90.7,
    "RRDataset, balanced accuracy on original images (%)": 79.2,
    "RRDataset, balanced accuracy on re-digitised images (%)": 62.0,
}
"""The paper's, and those of an independent benchmark with the official weights in the wild."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that is fetched from elsewhere.

    Attributes:
        name: its own, also on a mirror.
        url: where its makers keep it.
        most_bytes: it is not larger.
        sha256: that decides whether it is the one; None where another hash does.
        git_blob: its git blob id (SHA-1), that decides likewise.
        recorded_sha256: what somebody else found; another one is only worth a warning.
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


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model that is made of files from elsewhere.

    Attributes:
        encoder: a CLIP checkpoint.
        head: a D3 head.
        name: the model's.
        licence: of its manifest.
        metrics: of its manifest.
    """

    encoder: SourceFile
    head: SourceFile
    name: str = PUBLISHED
    licence: str = LICENCE
    metrics: dict[str, Any] = field(default_factory=lambda: dict(FIGURES))


def published_source(encoder_url: str) -> ModelSource:
    """The published detector's files.

    Args:
        encoder_url: of OpenAI's CLIP ViT-L/14; the last folder is the file's SHA-256.
    """
    *_, sha256, name = encoder_url.split("/")
    encoder = SourceFile(name, encoder_url, 2 * 2**30, sha256=sha256)
    head = SourceFile(
        "classifier.pth",
        HEAD_URL,
        64 * 2**20,
        git_blob=HEAD_BLOB,
        recorded_sha256=HEAD_SHA256,
    )
    return ModelSource(encoder, head)
