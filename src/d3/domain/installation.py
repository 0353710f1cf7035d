"""How this copy of D3 was installed: its version, and the command that adds an extra to it."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

from d3.domain.errors import D3Error

DISTRIBUTION = "d3-deepfake"
_Error = TypeVar("_Error", bound=D3Error)
_CONTAINERS = (Path("/.dockerenv"), Path("/run/.containerenv"))
_IMAGE = Path("/opt/d3")
"""Where the Dockerfile installs D3."""
_REQUIREMENT = re.compile(r"^(?P<package>[^;]+?)\s*;.*\bextra\s*==\s*['\"](?P<extra>[^'\"]+)['\"]")


_for_owner = [False]


def speak_to_owner() -> Callable[[], None]:
    """Let every hint be for who runs this process, as on the command line; how to undo that."""
    before, _for_owner[0] = _for_owner[0], True

    def undo() -> None:
        _for_owner[0] = before

    return undo


def own_version() -> str:
    """D3's version, such as ``0.1.0``: the one in pyproject.toml when this copy was installed."""
    return distribution(DISTRIBUTION).version


def extra_missing(
    kind: type[_Error], what: str, extra: str, *, otherwise: str = "", public: bool = False
) -> _Error:
    """The error for something that an extra would do.

    Args:
        kind: of the error.
        what: needs the extra, as the beginning of a sentence.
        extra: that is not installed.
        otherwise: what else would help, as a sentence.
        public: whether callers of a service may see it. Where one runs, it then names no path of
            this machine.
    """
    hint = install_hint(extra, public=public)
    # The command comes last: what follows it would be copied too.
    remedy = f"{otherwise} Or {hint[0].lower()}{hint[1:]}" if otherwise else hint
    return kind(f"{what} needs D3's extra {extra!r}, which is not installed.", remedy)


def install_hint(extra: str, *, public: bool = False) -> str:
    """How to add an extra to this copy of D3, as a sentence with a command for the shell."""
    if _is_image() and Path(sys.prefix) == _IMAGE:  # it has no installer
        return f"Build D3's image with it: docker build --build-arg EXTRAS={extra} ."
    return hint_for(*_requirements(extra), public=public)


def hint_for(*requirements: str, public: bool = False) -> str:
    """How to install packages beside D3, as :func:`install_hint`."""
    public = public and not _for_owner[0]
    command = " ".join([_installer(public=public), *map(_quoted, requirements)])
    if _is_image():
        return f"Add it to D3's image: RUN {command}"
    return f"Where D3 is installed, run {command}" if public else f"Run {command}"


def _requirements(extra: str) -> list[str]:
    """What to name to the installer.

    D3 itself only where it came from an index. Other ways, a folder, a repository or a file, are
    not repeated: they may be gone, or hold another version of D3 by now. The extra's own packages
    are all that is missing.
    """
    try:
        installed = distribution(DISTRIBUTION)
    except PackageNotFoundError:  # run from its source, and not installed
        return [f".[{extra}]"]
    found = (_REQUIREMENT.match(one) for one in installed.requires or ())
    packages = [one["package"] for one in found if one is not None and one["extra"] == extra]
    from_index = installed.read_text("direct_url.json") is None  # PEP 610
    return [f"{DISTRIBUTION}[{extra}]"] if from_index and not _is_pipx() else packages


def _installer(*, public: bool) -> str:
    """The beginning of the command: the program that installed D3, for the same environment."""
    if _is_pipx():
        return f"pipx inject {DISTRIBUTION}"
    python = Path(sys.executable)
    here = os.environ.get("VIRTUAL_ENV") == sys.prefix
    if _recorded_installer() == "uv" and (shutil.which("uv") or find_spec("pip") is None):
        return f"uv pip install{'' if here or public else f' --python {_quoted(str(python))}'}"
    pip = shutil.which("pip")
    if public or (pip is not None and Path(pip).parent == python.parent):
        return "pip install"
    return f"{_quoted(str(python))} -m pip install"


def _recorded_installer() -> str:
    try:
        installed: Distribution = distribution(DISTRIBUTION)
    except PackageNotFoundError:
        return ""
    return (installed.read_text("INSTALLER") or "").strip()


def _is_pipx() -> bool:
    return Path(sys.prefix, "pipx_metadata.json").is_file()


def _is_image() -> bool:
    """Whether D3 belongs to a container's image, which its user cannot change."""
    inside = "KUBERNETES_SERVICE_HOST" in os.environ or any(one.exists() for one in _CONTAINERS)
    return inside and not os.access(Path(__file__).parent, os.W_OK)


def _quoted(word: str) -> str:
    """A word as the shell takes it."""
    if os.name != "nt":
        return shlex.quote(word)
    return f'"{word}"' if re.search(r"[^\w\\/:.\[\]=-]", word) else word
