"""What engines took on this machine, kept in a folder: one file for each model and machine."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
from filelock import FileLock, Timeout

from d3.domain.files import put
from d3.domain.models import StoredModel
from d3.domain.ports.detector import Timing

_FORMAT = 1
_PATIENCE = 600.0


class TimingFiles:
    """Implements ``Timings``.

    Args:
        folder: made when it is needed.
        machine: what timings depend on beside the model: processor, threads, versions.
    """

    def __init__(self, folder: Path, machine: Mapping[str, Any]) -> None:
        self._folder = folder
        self._machine = machine

    def read(self, model: StoredModel) -> Mapping[str, Timing]:
        file = self._file(model)
        try:
            timings = msgspec.json.decode(file.read_bytes(), type=list[Timing])
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            _warn("What was measured of the engines cannot be read, so D3 measures them again.")
            return {}
        return {one.name: one for one in timings}

    def keep(self, model: StoredModel, timings: Iterable[Timing]) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            put(self._file(model), msgspec.json.encode(list(timings)))
        except OSError as error:
            _warn(
                "What was measured of the engines cannot be stored in D3_HOME "
                f"({error.strerror or type(error).__name__}), so D3 will measure them again. Free "
                "some space there, or set D3_ENGINE=torch and D3_PRECISION=fp32."
            )

    @contextmanager
    def alone(self, model: StoredModel) -> Iterator[None]:
        lock = FileLock(self._file(model).with_suffix(".lock"), timeout=_PATIENCE)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except (OSError, Timeout):
            pass  # measuring beside another process is no harm; keeping will say what is wrong
        try:
            yield
        finally:
            lock.release()

    def _file(self, model: StoredModel) -> Path:
        manifest = model.manifest
        depends = {
            "format": _FORMAT,
            "files": {role: one.sha256 for role, one in manifest.files.items() if role != "int8"},
            "spec": None if manifest.spec is None else asdict(manifest.spec),
            "permutations": manifest.permutations[:2],
            **self._machine,
        }
        name = hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()[:32]
        return self._folder / f"{name}.json"


def _warn(sentence: str) -> None:
    warnings.warn(sentence, RuntimeWarning, stacklevel=3)
