"""Files of ``torch.save`` and ``torch.jit.save``, mapped without asking torch to read them.

A child process with limits says where in the file each tensor lies (:mod:`d3.network.unpickle`);
here those places are mapped, and only a tensor that is asked for is ever touched.
"""

from __future__ import annotations

import json
import mmap
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from d3.domain.errors import CheckpointInvalid
from d3.network import unpickle

STARTS = (b"PK\x03\x04", b"\x80")  # a zip archive, or the plain pickles of torch before 1.6

_Place = tuple[str, str, list[int], list[int], int]
"""A tensor's name, type, shape and stride in elements, and its offset in the file's bytes."""

_SPARE_BYTES = 512 * 2**20
_SECONDS = 60
_BYTES_A_SECOND = 20 * 2**20


class ForeignTensors(Mapping[str, Tensor]):
    """The tensors of a ``.pth`` by their dotted names, mapped when they are asked for.

    Args:
        called: the file's name in errors.

    Raises:
        CheckpointInvalid: it is no checkpoint, is damaged, wants code to be run, or exceeds the
            limits.
    """

    def __init__(self, file: Path, called: str) -> None:
        self._called = called
        self._places = {
            name: (getattr(torch, dtype), shape, stride, offset)
            for name, dtype, shape, stride, offset in _tensors_in(file, called)
        }
        with file.open("rb") as stream:
            # A private copy: writes never reach the file, and torch wants writable memory.
            self._bytes = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)

    def __getitem__(self, name: str) -> Tensor:
        dtype, shape, stride, offset = self._places[name]
        if 0 in shape:
            return torch.empty(shape, dtype=dtype)
        count = 1 + sum((length - 1) * step for length, step in zip(shape, stride, strict=True))
        try:
            if offset % dtype.itemsize:  # as in the old format, which aligns nothing
                some = count * dtype.itemsize
                raw = torch.frombuffer(self._bytes, dtype=torch.uint8, count=some, offset=offset)
                flat = raw.clone().view(dtype)
            else:
                flat = torch.frombuffer(self._bytes, dtype=dtype, count=count, offset=offset)
            return flat.as_strided(shape, stride)
        except (RuntimeError, ValueError) as error:  # changed since the child looked at it
            raise CheckpointInvalid(
                f"The checkpoint {self._called!r} was changed while it was being read.",
                "Import it again.",
            ) from error

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def _tensors_in(file: Path, called: str) -> list[_Place]:
    """What the child process finds."""
    seconds = _SECONDS + file.stat().st_size // _BYTES_A_SECOND
    command = [sys.executable, "-I", unpickle.__file__, str(file.resolve())]
    command += [str(_SPARE_BYTES), str(seconds)]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=2 * seconds, check=True
        )
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
        raise CheckpointInvalid(
            f"Reading the checkpoint {called!r} exceeded the memory or time limit.",
            "A valid checkpoint does not. Download or export it again.",
        ) from error
    found = json.loads(done.stdout)
    if "refused" in found:
        problem, remedy = found["refused"]
        raise CheckpointInvalid(f"The checkpoint {called!r} {problem}.", remedy)
    tensors: list[_Place] = found["tensors"]
    return tensors
