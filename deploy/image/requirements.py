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
"""What comes from PyTorch's index for processors, and what its torch does not need."""


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

    ``torch.txt`` is what must come from PyTorch's index for processors: nothing for ``cuda``. The
    variables ``TORCH_VERSION`` and ``TORCHVISION_VERSION`` replace the lock's versions, and may end
    with ``--hash=sha256:DIGEST``. ``needs.txt`` are D3's requirements, ``lock.txt`` the versions
    and hashes of what comes from elsewhere, ``uv.txt`` and ``build.txt`` what only the build uses.
    """
    if torch not in {"cpu", "cuda"}:
        sys.exit(f"TORCH={torch!r} is neither cpu nor cuda.")
    tables = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
    locked = blocks(Path("requirements.lock").read_text(encoding="utf-8"))
    wanted = needs(tables["project"], [one for one in re.split(r"[ ,]+", extras) if one])
    apart = []
    if torch == "cpu":
        for name in ("torch", "torchvision"):  # of one index: each build fits one build of torch
            version = os.environ.get(f"{name.upper()}_VERSION") or version_of(locked[name])
            apart.append(f"{name}=={version}\n")
        locked = {name: one for name, one in locked.items() if not _CUDA.fullmatch(name)}
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    (out / "torch.txt").write_text("".join(apart), encoding="utf-8")
    (out / "needs.txt").write_text("\n".join(wanted) + "\n", encoding="utf-8")
    (out / "lock.txt").write_text("".join(locked.values()), encoding="utf-8")
    (out / "uv.txt").write_text(locked["uv"], encoding="utf-8")
    (out / "build.txt").write_text("\n".join(tables["dependency-groups"]["build"]) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
