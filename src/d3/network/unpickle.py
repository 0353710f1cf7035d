"""A child process that turns a foreign ``.pth`` into safetensors, under limits.

``torch.load(weights_only=True)`` runs no code of the file's, but a small file can still make it
allocate without bound or spin; here that costs the child its life and nobody else anything. Run as
a script, so that it imports torch and safetensors alone::

    python unpickle.py IN OUT BYTES SECONDS
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

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
            loaded = torch.load(source, map_location="cpu", weights_only=True)
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
