"""A child process that turns a foreign ``.pth`` into safetensors, under limits.

``torch.load(weights_only=True)`` runs no code of the file's, but a small file can still make it
allocate without bound or spin; here that costs the child its life and nobody else anything.

OpenAI's CLIP files are TorchScript archives, which ``torch.load`` gives to ``torch.jit.load``, and
that runs code. Their tensors are read without it: the pickle names modules, numbers and storages,
and every name in it becomes a thing of this module that does nothing but hold what it is given.

Run as a script, so that it imports torch and safetensors alone::

    python unpickle.py IN OUT BYTES SECONDS
"""

from __future__ import annotations

import collections
import io
import pickle
import sys
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NOT_A_CHECKPOINT = 3
NO_TENSORS = 4

_WRAPPERS = ("state_dict", "model", "model_state_dict")


def main(source: str, target: str, spare_bytes: int, seconds: int) -> int:
    """Convert ``source``; 0 on success, else a code from above."""
    import safetensors.torch
    import torch

    torch.set_num_threads(1)
    _limit(spare_bytes, seconds)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = (
                _read_torchscript(source)
                if _is_torchscript(source)
                else torch.load(source, map_location="cpu", weights_only=True)
            )
    except Exception:  # noqa: BLE001  whatever it was, the file is to blame
        return NOT_A_CHECKPOINT
    for wrapper in _WRAPPERS:
        if isinstance(loaded, dict) and isinstance(loaded.get(wrapper), dict):
            loaded = loaded[wrapper]
            break
    if not isinstance(loaded, dict):
        return NO_TENSORS
    tensors = {
        name: tensor.detach().contiguous().clone()
        for name, tensor in loaded.items()
        if isinstance(name, str) and isinstance(tensor, torch.Tensor) and not tensor.is_sparse
    }
    if not tensors:
        return NO_TENSORS
    safetensors.torch.save_file(tensors, target)
    return 0


class _Module:
    """A module of a TorchScript archive: what it holds, by name."""

    def __init__(self) -> None:
        self.held: dict[str, Any] = {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.held = state


def _is_torchscript(source: str) -> bool:
    if not zipfile.is_zipfile(source):
        return False
    with zipfile.ZipFile(source) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _read_torchscript(source: str) -> dict[str, Any]:
    """The tensors of a TorchScript archive by the names that its state dict would give them."""
    with zipfile.ZipFile(source) as archive:
        (pickled,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
        reader = _TorchScriptUnpickler(archive, pickled.removesuffix(".pkl"))
        return dict(_tensors_of(reader.load(), ""))


def _tensors_of(module: _Module, prefix: str) -> Iterator[tuple[str, Any]]:
    import torch

    for name, held in module.held.items():
        if isinstance(held, torch.Tensor):
            yield prefix + name, held
        elif isinstance(held, _Module):
            yield from _tensors_of(held, f"{prefix}{name}.")


class _TorchScriptUnpickler(pickle.Unpickler):
    """Knows the few names that stand in a TorchScript archive's pickle, and refuses all others."""

    def __init__(self, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(io.BytesIO(archive.read(f"{folder}.pkl")))
        self._archive = archive
        self._folder = folder
        self._storages: dict[str, Any] = {}

    def find_class(self, module: str, name: str) -> Any:
        import torch

        if module == "__torch__" or module.startswith("__torch__."):
            return _Module
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        dtypes = {
            "HalfStorage": torch.float16,
            "BFloat16Storage": torch.bfloat16,
            "FloatStorage": torch.float32,
            "DoubleStorage": torch.float64,
            "LongStorage": torch.int64,
            "IntStorage": torch.int32,
            "BoolStorage": torch.bool,
        }
        if module == "torch" and name in dtypes:
            return dtypes[name]
        if module == "torch.jit._pickle" and name.startswith("build_"):
            return list
        raise pickle.UnpicklingError(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        import torch

        kind, dtype, key, _, _ = pid
        if kind != "storage":
            raise pickle.UnpicklingError("no storage")
        if key not in self._storages:
            content = bytearray(self._archive.read(f"{self._folder}/{key}"))
            self._storages[key] = torch.frombuffer(content, dtype=dtype)
        return self._storages[key]


def _tensor(storage: Any, offset: int, size: Any, stride: Any, *_: Any) -> Any:
    """A view of a storage; one that leaves its bounds is an error."""
    return storage.as_strided(size, stride, offset)


def _limit(spare_bytes: int, seconds: int) -> None:
    """Bound what may be allocated and computed from here on, where the system can."""
    try:
        import resource
    except ImportError:  # Windows: the parent's timeout remains
        return
    if sys.platform == "linux":  # elsewhere the mapped size is not to be had so simply
        pages = Path("/proc/self/statm").read_text().split()[0]
        mapped = int(pages) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + spare_bytes, mapped + spare_bytes))
    used = int(resource.getrusage(resource.RUSAGE_SELF).ru_utime) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (used + seconds, used + seconds))
    resource.setrlimit(resource.RLIMIT_FSIZE, (spare_bytes, spare_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
