"""Which architectures are installed, D3's own too: the entry points of ``d3.architectures``."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points

from d3.adapters.torch.architectures.base import Architecture
from d3.domain.errors import ArchitectureUnavailable
from d3.domain.installation import DISTRIBUTION
from d3.domain.models import Manifest
from d3.domain.ports.architectures import ArchitectureInfo, not_installed

GROUP = "d3.architectures"


class Installed:
    """The architectures of this environment. Each is imported when it is first asked for."""

    def __init__(self) -> None:
        self._made: dict[str, Architecture] = {}

    def names(self) -> list[str]:
        """All of them, in order, usable or not."""
        return sorted(self._found)

    def info(self, name: str) -> ArchitectureInfo:
        """What is known of one of :meth:`names`."""
        packages = [_package(one) for one in self._found[name]]
        try:
            known = self.get(name)
        except ArchitectureUnavailable as error:
            trouble = f"{error.problem} {error.remedy}".strip()
            return ArchitectureInfo(name, " and ".join(packages), trouble=trouble)
        return ArchitectureInfo(name, known.package, known.files, known.views, known.explains)

    def get(self, name: str) -> Architecture:
        """The architecture of this name.

        Raises:
            ArchitectureUnavailable: it is not installed, is there twice, or fails to import.
        """
        if name not in self._made:
            self._made[name] = _made(name, self._found.get(name, []))
        return self._made[name]

    def of(self, manifest: Manifest) -> Architecture:
        """The architecture of a model.

        Raises:
            ArchitectureUnavailable: as :meth:`get`; it says which package to install.
        """
        if manifest.architecture not in self._found:
            raise not_installed(manifest)
        return self.get(manifest.architecture)

    @cached_property
    def _found(self) -> Mapping[str, list[EntryPoint]]:
        """The entry points of each name; one, unless several packages claim it."""
        found: dict[str, list[EntryPoint]] = {}
        for one in entry_points(group=GROUP):
            found.setdefault(one.name, []).append(one)
        for name, claims in found.items():
            own = [one for one in claims if not _package(one)]
            if own and len(claims) > 1:
                others = " and ".join(_package(one) for one in claims if _package(one))
                warnings.warn(
                    f"{others} has an architecture named {name!r}, which is D3's own name. D3 uses "
                    "its own.",
                    RuntimeWarning,
                    stacklevel=2,
                )
                found[name] = own
        return found


def _made(name: str, claims: list[EntryPoint]) -> Architecture:
    if not claims:
        raise ArchitectureUnavailable(
            f"The architecture {name!r} is not installed.",
            "`d3 models architectures` shows those that are.",
        )
    if len(claims) > 1:
        packages = " and ".join(sorted(_package(one) for one in claims))
        raise ArchitectureUnavailable(
            f"The architecture {name!r} is provided by {packages}, so D3 uses neither.",
            "Uninstall all but one of them.",
        )
    (claim,) = claims
    package = _package(claim)
    try:
        kind = claim.load()
        made = kind(name, package) if callable(kind) else None
    except (Exception, SystemExit) as error:  # whatever somebody's code raises when it is imported
        raise ArchitectureUnavailable(
            f"The architecture {name!r} of the package {package or DISTRIBUTION} cannot be used "
            f"({said(error)}).",
            "Reinstall or update that package.",
        ) from error
    if not isinstance(made, Architecture):
        raise ArchitectureUnavailable(
            f"The architecture {name!r} of the package {package or DISTRIBUTION} cannot be used: "
            "it is no d3.architectures.Architecture.",
            "Tell the package's authors.",
        )
    return made


def said(error: BaseException) -> str:
    """An error of somebody else's code in one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:160]}" if lines else type(error).__name__


def _package(one: EntryPoint) -> str:
    """The distribution that provides it; empty for D3's own."""
    name = one.dist.name if one.dist is not None else "an unknown package"
    return "" if re.sub(r"[-_.]+", "-", name).lower() == DISTRIBUTION else name
