"""What the image installs: from pyproject.toml and requirements.lock to files for uv.

``python3 requirements.py TORCH EXTRAS FOLDER``: TORCH is ``cpu`` or ``cuda``, EXTRAS names D3's
extras, with commas between them, or is empty. Needs Python's standard library alone.
"""

from __future__ import annotations

import os
import re
import sys
import tomllib
from pathlib import Path

_CUDA = re.compile(r"torch|torchvision|triton|nvidia-.*|cuda-.*")
"""Packages that PyTorch's index for processors has builds of its own of, or not at all."""


def blocks(lock: str) -> dict[str, str]:
    """Each package of a lock, with its version and hashes, by its name."""
    begins = re.compile(r"^(?=[a-zA-Z0-9])", re.MULTILINE)
    return {re.split(r"[=\[ ]", one, maxsplit=1)[0]: one for one in begins.split(lock)[1:]}


def version_of(block: str) -> str:
    """The version in a block of the lock."""
    return re.split(r"==|[ ;\\]", block)[1]


def needs(project: dict[str, object], extras: list[str]) -> list[str]:
    """The requirements of a ``[project]`` table with some of its extras.

    Raises:
        SystemExit: there is no such extra.
    """
    known = project["optional-dependencies"]
    if unknown := sorted(set(extras) - set(known)):
        sys.exit(f"D3 has no extra {', '.join(unknown)}. It has {', '.join(sorted(known))}.")
    return [*project["dependencies"], *(one for extra in extras for one in known[extra])]


def main(torch: str, extras: str, folder: str) -> None:
    """Write the files.

    ``needs.txt`` are D3's requirements, ``lock.txt`` the versions and hashes they must have,
    ``torch.txt`` torch's requirement where it comes from another index (``TORCH_VERSION`` and
    ``TORCH_SHA256`` may say more), ``uv.txt`` and ``build.txt`` what only the build uses.
    """
    if torch not in {"cpu", "cuda"}:
        sys.exit(f"TORCH={torch!r} is neither cpu nor cuda.")
    tables = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
    locked = blocks(Path("requirements.lock").read_text(encoding="utf-8"))
    chosen = [one for one in re.split(r"[ ,]+", extras) if one]
    wanted = needs(tables["project"], chosen)
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    (out / "needs.txt").write_text("\n".join(wanted) + "\n", encoding="utf-8")
    kept = {
        name: one for name, one in locked.items() if torch == "cuda" or not _CUDA.fullmatch(name)
    }
    (out / "lock.txt").write_text("".join(kept.values()), encoding="utf-8")
    version = os.environ.get("TORCH_VERSION") or version_of(locked["torch"])
    digest = os.environ.get("TORCH_SHA256")
    lines = [f"torch=={version}" + (f" --hash=sha256:{digest}" if digest else "")]
    if "open-clip" in chosen:  # it imports torchvision, which must be built for this very torch
        lines.append(f"torchvision=={version_of(locked['torchvision'])}")
    (out / "torch.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (out / "uv.txt").write_text(locked["uv"], encoding="utf-8")
    (out / "build.txt").write_text("\n".join(tables["dependency-groups"]["build"]) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
