"""Prepared encoders on disk: found by what they were made of, and read only if they are whole.

A folder holds the files and ``made_of.json``, which names the weights, the shape, the precision,
OpenVINO and the processor, and the SHA-256 of every file. What does not match is made anew.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock

from d3.adapters.openvino.export import ENCODER, POSITIONS, WEIGHTS
from d3.adapters.sharing import shape_of
from d3.domain.errors import EngineUnavailable
from d3.domain.files import storage_errors
from d3.domain.machine import available_cores
from d3.domain.models import StoredModel, file_of

_FORMAT = 1
_RECORD = "made_of.json"
_FILES = (ENCODER, WEIGHTS, POSITIONS)
_SECONDS = 1800

Facts = dict[str, Any]


PRECISION_HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
"""OpenVINO's names of our precisions; of int8, for what is not quantized."""


def compile_options(precision: str, threads: int, group: int = 0) -> dict[str, Any]:
    """Options of the CPU device for one caller at a time.

    Args:
        precision: ``"fp32"``, ``"bf16"`` or ``"int8"``.
        threads: at most; never more than this process may use.
        group: how many values of an activation share a scale before 8-bit weights; 0 for none.
    """
    return {
        "INFERENCE_PRECISION_HINT": PRECISION_HINTS[precision],
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": group,
        "PERFORMANCE_HINT": "LATENCY",
        "EXECUTION_MODE_HINT": "PERFORMANCE",
        "INFERENCE_NUM_THREADS": min(threads, available_cores()),
        # Other processes live on these cores too.
        "ENABLE_CPU_PINNING": False,
    }


class PreparedEncoders:
    """A folder of encoders in OpenVINO's form.

    Args:
        folder: made when it is needed.
        machine: what a prepared encoder is bound to beside its weights: OpenVINO, the processor.
        preparing: called before a preparation, which may take a minute.
    """

    def __init__(self, folder: Path, machine: Facts, preparing: Callable[[], None]) -> None:
        self._folder = folder
        self._machine = machine
        self._preparing = preparing

    def get(self, model: StoredModel, precision: str, threads: int) -> Path:
        """A folder with the model's prepared encoder, made if it is not there or not whole.

        Raises:
            EngineUnavailable: it cannot be made or kept.
        """
        manifest = model.manifest
        facts = self._machine | {
            "format": _FORMAT,
            "encoder": manifest.files["encoder"].sha256,
            "spec": asdict(shape_of(manifest.encoder_spec)),
            "precision": precision,
            "threads": threads,
        }
        name = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
        with storage_errors(
            "OpenVINO's version of the encoder cannot be stored in D3_HOME",
            "Free some space there, or set D3_ENGINE=torch.",
            EngineUnavailable,
        ):
            self._folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self._folder / f"{name}.lock"):
                found = self._folder / name
                if not _is_whole(found, facts):
                    self._preparing()
                    self._make(found, model, facts)
                return found

    def _make(self, into: Path, model: StoredModel, facts: Facts) -> None:
        with tempfile.TemporaryDirectory(dir=self._folder, prefix="making-") as name:
            made = Path(name)
            _export(model, facts, made)
            hashes = {one: file_of(made / one).sha256 for one in _FILES}
            (made / _RECORD).write_text(json.dumps(facts | {"files": hashes}), encoding="utf-8")
            shutil.rmtree(into, ignore_errors=True)
            made.rename(into)
            made.mkdir()  # for the temporary folder to remove


def _is_whole(folder: Path, facts: Facts) -> bool:
    """Whether the folder holds a complete encoder prepared from exactly this model."""
    try:
        record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
        hashes = record.pop("files")
        return bool(record == facts) and all(
            file_of(folder / name).sha256 == hashes[name] for name in _FILES
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _export(model: StoredModel, facts: Facts, into: Path) -> None:
    command = [sys.executable, "-P", "-m", "d3.adapters.openvino.export", json.dumps(facts["spec"])]
    command += [str(model.encoder.resolve()), facts["precision"], str(facts["threads"]), str(into)]
    try:
        subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=True,
        )
    except subprocess.TimeoutExpired as error:
        raise _failed(f"not finished after {_SECONDS} seconds") from error
    except subprocess.CalledProcessError as error:
        last = ["", *error.stderr.strip().splitlines()][-1]
        raise _failed(last[:160] or f"exit code {error.returncode}") from error


def _failed(reason: str) -> EngineUnavailable:
    return EngineUnavailable(
        f"OpenVINO could not prepare this model ({reason}).",
        "Set D3_ENGINE=torch to hide this warning.",
    )
