"""A child process that says which tensors a foreign ``.pth`` holds, and where in it each one lies.

It reads what ``torch.save`` writes (a zip archive, or the plain pickles of torch before 1.6) and
what ``torch.jit.save`` writes, which is made to be run. Nothing of a file is run here: every name
in its pickle becomes a thing of this module that does nothing but hold what it is given, a name
that is not known to be data ends the reading, and no tensor is made. What a small file can still
do is to take memory or time without bound; that costs this child its life and nobody else
anything.

Run as a script, for it needs nothing but Python itself::

    python -I unpickle.py FILE BYTES SECONDS

It prints one JSON object: ``{"tensors": [[name, dtype, shape, stride, offset], ...]}`` with strides
in elements and the offset in bytes from the file's beginning, or ``{"refused": [problem, remedy]}``
with a sentence's end and another sentence.
"""

from __future__ import annotations

import collections
import json
import pickle
import re
import struct
import sys
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any, Self

MAX_RECORDS = 20_000
MAX_TENSORS = 100_000
MAX_DEPTH = 100
MAX_NAME = 1_000
CODE_BYTES = 128 * 2**20
"""What an archive's records may unpack to that are neither tensors nor pickles. Of a traced CLIP
ViT-L/14 they are 1.6 MB."""

_CHUNK = 2**20
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_AGAIN = "Download or export it again."
_PLAIN = "Save the module's state_dict() with torch.save or safetensors."

_DTYPES = {
    "float16": 2,
    "bfloat16": 2,
    "float32": 4,
    "float64": 8,
    "int8": 1,
    "uint8": 1,
    "int16": 2,
    "int32": 4,
    "int64": 8,
    "bool": 1,
}
"""The sizes of what tensors are read of; those of other types are passed over."""
_STORAGES = {
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "ShortStorage": "int16",
    "IntStorage": "int32",
    "LongStorage": "int64",
    "BoolStorage": "bool",
    "UntypedStorage": "uint8",
}

_HARMLESS = re.compile(
    r"""__torch__(\.[\w.]+)?
    | torch\.jit\._pickle\.build_\w+list | torch\.jit\._pickle\.restore_type_tag
    | torch\.(device|Size|Tensor|Generator|\w*Storage|strided|bool|(q?u?int|b?float|complex)\w*)
    | torch\.torch_version\.TorchVersion | torch\.nn\.parameter\.(Parameter|Buffer)
    | torch\._utils\._rebuild_\w+ | torch\._tensor\._rebuild_from_type_v2
    | torch\.serialization\._get_layout | torch\.storage\.\w*Storage
    | torch\.optim\.[\w.]+
    | (builtins|__builtin__)\.(set|frozenset|list|dict|tuple|int|float|complex|str|bytes|bytearray
      |bool|slice|range|object)
    | collections\.(defaultdict|Counter|deque) | argparse\.Namespace | types\.SimpleNamespace
    | pathlib(\._local)?\.(Pure)?(Posix|Windows)?Path
    | numpy(\._?core\.multiarray)?\.(scalar|dtype|ndarray|_reconstruct|u?int\w*|float\w*|bool_?)
    | numpy\.dtypes\.\w+ | _codecs\.encode | copy_?reg\._reconstructor
    | datetime\.(datetime|date|time|timedelta|timezone) | uuid\.UUID | decimal\.Decimal
    | typing\.(Any|Union|Optional|Dict|List|Tuple) | yacs\.config\.CfgNode | easydict\.EasyDict
    | addict\.addict\.Dict | ml_collections\.[\w.]+ | omegaconf\.[\w.]+
    | (pytorch_lightning|lightning|lightning_fabric)\.[\w.]+""",
    re.VERBOSE,
)
"""What stands beside the weights in checkpoints of training: settings, counters, records."""


class Refused(Exception):
    """The file is not read on; a sentence's end, and what to do."""


def main(source: str, spare_bytes: int, seconds: int) -> None:
    """Print what the file holds."""
    _limit(spare_bytes, seconds)
    try:
        size = Path(source).stat().st_size
        with open(source, "rb") as stream:  # noqa: PTH123
            read = _archived if stream.read(2) == b"PK" else _legacy
            stream.seek(0)
            found: dict[str, Any] = {"tensors": _table(read(stream, size), stream, size)}
    except Refused as refusal:
        found = {"refused": refusal.args}
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001  whatever it was, the file is to blame
        found = {"refused": ["is damaged, or is not a torch checkpoint", _AGAIN]}
    json.dump(found, sys.stdout)


@dataclass(slots=True)
class _Storage:
    """Where elements lie: their bytes' offset in the file, how many bytes, and their checksum."""

    dtype: str
    bytes: int
    offset: int = -1
    checksum: int | None = None


@dataclass(slots=True)
class _Tensor:
    storage: _Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class _Inert(dict[Any, Any]):
    """Whatever a name in the pickle stands for: it holds what it is given, and does nothing."""

    def __new__(cls, *_: Any, **__: Any) -> Self:
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.update(state)

    def append(self, _: Any) -> None:
        pass

    add = extend = append
    __hash__ = object.__hash__  # type: ignore[assignment]


class _MakeTensor:
    """``torch._utils._rebuild_tensor`` and ``_v2``. It has no state that a pickle could set."""

    __slots__ = ()

    def __call__(self, storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Any:
        if not isinstance(storage, _Storage):
            return _Inert()
        return _Tensor(storage, storage.dtype, offset, size, stride)


class _MakeTypedTensor:
    """``torch._utils._rebuild_tensor_v3``: the same, its type is an argument."""

    __slots__ = ()

    def __call__(
        self,
        storage: Any,
        offset: Any,
        size: Any,
        stride: Any,
        _: Any,
        __: Any,
        dtype: Any,
        *___: Any,
    ) -> Any:
        if not isinstance(storage, _Storage):
            return _Inert()
        return _Tensor(storage, dtype, offset, size, stride)


class _MakeParameter:
    """``torch._utils._rebuild_parameter``: its tensor."""

    __slots__ = ()

    def __call__(self, tensor: Any, *_: Any) -> Any:
        return tensor


class _MakeSubclass:
    """``torch._tensor._rebuild_from_type_v2``: the tensor without its class."""

    __slots__ = ()

    def __call__(self, make: Any, _: Any, arguments: Any, *__: Any) -> Any:
        return make(*arguments) if type(make) in _TENSOR_MAKERS else _Inert()


_TENSOR_MAKERS = (_MakeTensor, _MakeTypedTensor, _MakeParameter)


_MAKERS = {
    "torch._utils._rebuild_tensor": _MakeTensor(),
    "torch._utils._rebuild_tensor_v2": _MakeTensor(),
    "torch._utils._rebuild_tensor_v3": _MakeTypedTensor(),
    "torch._utils._rebuild_parameter": _MakeParameter(),
    "torch._utils._rebuild_parameter_with_state": _MakeParameter(),
    "torch._tensor._rebuild_from_type_v2": _MakeSubclass(),
}


class _Unpickler(pickle.Unpickler):
    """Knows names that are data, and refuses all others."""

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full in _MAKERS:
            return _MAKERS[full]
        if module in ("torch", "torch.storage", "torch.cuda") and name in _STORAGES:
            return _STORAGES[name]
        if module == "torch" and name in _DTYPES:
            return name
        if full == "collections.OrderedDict":
            return collections.OrderedDict
        if _HARMLESS.fullmatch(full):
            return _Inert
        shown = re.sub(r"[^\w.]", "?", full[:80])
        raise Refused(f"is not a plain checkpoint: it refers to {shown}, which is code", _PLAIN)


# Zip archives


@dataclass(frozen=True, slots=True)
class _Record:
    info: zipfile.ZipInfo
    offset: int


_TENSOR_RECORD = re.compile(r"[^/]+/(data|tensors|constants|traced_inputs)/[^/]+")


class _ArchiveUnpickler(_Unpickler):
    def __init__(self, stream: IO[bytes], folder: str, records: dict[str, _Record]) -> None:
        super().__init__(stream)
        self._folder = folder
        self._records = records
        self._storages: dict[tuple[str, str], _Storage] = {}

    def persistent_load(self, pid: Any) -> Any:
        kind, dtype, key, _, count = pid
        if kind != "storage" or dtype not in _DTYPES:
            return _Inert()
        if (key, dtype) not in self._storages:
            record = self._records[f"{self._folder}/{key}"]
            info = record.info
            if count * _DTYPES[dtype] > info.file_size:
                raise Refused("is damaged: a tensor is larger than its record", _AGAIN)
            storage = _Storage(dtype, info.file_size, record.offset, info.CRC)
            self._storages[key, dtype] = storage
        return self._storages[key, dtype]


def _archived(stream: IO[bytes], size: int) -> Any:
    try:
        with zipfile.ZipFile(stream) as archive:
            records = _records(archive, stream, size)
            pickles = [name for name in records if re.fullmatch(r"[^/]+/data\.pkl", name)]
            if len(pickles) != 1:
                raise Refused(*_other_archive(records))
            (pickled,) = pickles
            order = pickled.replace("data.pkl", "byteorder")
            if order in records and archive.read(order) != b"little":
                raise Refused("was written on a big-endian machine", _PLAIN)
            content = archive.read(pickled)
    except zipfile.BadZipFile as error:
        raise Refused("is damaged or was cut short", _AGAIN) from error
    return _ArchiveUnpickler(BytesIO(content), pickled.removesuffix(".pkl"), records).load()


def _records(archive: zipfile.ZipFile, stream: IO[bytes], size: int) -> dict[str, _Record]:
    """The archive's records by name; no two share a name or a byte of the file."""
    infos = archive.infolist()
    if len(infos) > MAX_RECORDS:
        raise Refused(
            f"holds {len(infos):,} records, more than the limit of {MAX_RECORDS:,}", _PLAIN
        )
    _check_sizes(infos, size)
    records: dict[str, _Record] = {}
    end = 0
    for info in sorted(infos, key=lambda one: one.header_offset):
        if info.filename in records or info.header_offset < end:
            raise Refused("is damaged: records overlap", _AGAIN)
        stream.seek(info.header_offset)
        head = stream.read(30)
        if head[:4] != b"PK\3\4":
            raise Refused("is damaged: a record is not at its stated position", _AGAIN)
        offset = info.header_offset + 30 + sum(struct.unpack("<HH", head[26:30]))
        records[info.filename] = _Record(info, offset)
        end = offset + info.compress_size
    if end > size:
        raise Refused("is damaged or was cut short", _AGAIN)
    return records


def _check_sizes(infos: list[zipfile.ZipInfo], size: int) -> None:
    """Refuse an archive that would unpack to more than a sound one of its size does.

    Tensors are stored as they are, so all of them together are no larger than the file; so are all
    pickles. TorchScript deflates the rest, which has a bound of its own and is never read.
    """
    pickles = code = 0
    for info in infos:
        packed = info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size
        if info.flag_bits & 1 or info.compress_type not in (
            zipfile.ZIP_STORED,
            zipfile.ZIP_DEFLATED,
        ):
            raise Refused(
                "is encrypted, or compressed in a way that torch does not support", _PLAIN
            )
        if info.filename.endswith(".pkl"):
            pickles += info.file_size
        elif not _TENSOR_RECORD.fullmatch(info.filename):
            code += info.file_size
        elif packed:
            raise Refused(
                f"unpacks to {sum(one.file_size for one in infos):,} bytes from {size:,}: its "
                "tensors are compressed",
                "Save it with torch, which does not compress tensors.",
            )
    for what, unpacked, most in (("pickles", pickles, size), ("code", code, CODE_BYTES)):
        if unpacked > most:
            raise Refused(
                f"unpacks to more than a checkpoint may: {unpacked:,} bytes of {what}, more than "
                f"the limit of {most:,}",
                _PLAIN,
            )


def _other_archive(names: dict[str, _Record]) -> tuple[str, str]:
    """What an archive is that torch did not write."""
    if "manifest.json" in names and "encoder.safetensors" in names:
        return "is a D3 bundle", "Import it without other options: `d3 models import FILE`."
    if any(name.endswith(".npy") for name in names):
        return "is a NumPy archive (.npz)", _PLAIN
    if any(name.endswith(".weights.h5") for name in names):
        return "is a Keras model", _PLAIN
    if any("archive_format" in name or name.endswith("models/model.json") for name in names):
        return "is a program of torch.export", _PLAIN
    if any(name.endswith((".pt", ".pth", ".bin", ".ckpt", ".safetensors")) for name in names):
        return "is a zip archive of other files", "Unpack it and use the checkpoint inside."
    return "is a zip archive that was not written by torch", _PLAIN


# Plain pickles


class _LegacyUnpickler(_Unpickler):
    storages: dict[str, _Storage]

    def persistent_load(self, pid: Any) -> Any:
        kind, dtype, key, _, count, view = pid
        if kind != "storage" or view is not None or dtype not in _DTYPES:
            raise Refused("has a format that torch dropped in 2018", _PLAIN)
        return self.storages.setdefault(key, _Storage(dtype, count * _DTYPES[dtype]))


def _legacy(stream: IO[bytes], size: int) -> Any:
    """What torch wrote before version 1.6: five pickles, then one storage after another."""
    if _Unpickler(stream).load() != _LEGACY_MAGIC:
        raise Refused("is a pickle that was not written by torch.save", _PLAIN)
    _Unpickler(stream).load()  # the protocol's version
    if _Unpickler(stream).load().get("little_endian") is False:
        raise Refused("was written on a big-endian machine", _PLAIN)
    unpickler = _LegacyUnpickler(stream)
    unpickler.storages = {}
    loaded = unpickler.load()
    offset = None
    for key in _Unpickler(stream).load():
        storage = unpickler.storages[key]
        offset = stream.tell() if offset is None else offset
        stream.seek(offset)
        (count,) = struct.unpack("<q", stream.read(8))
        if count * _DTYPES[storage.dtype] != storage.bytes or storage.offset >= 0:
            raise Refused("is damaged: a tensor does not have its stated size", _AGAIN)
        storage.offset = offset + 8
        offset = storage.offset + storage.bytes
        if offset > size:
            raise Refused("is damaged or was cut short", _AGAIN)
    return loaded


# What was found


def _table(loaded: Any, stream: IO[bytes], size: int) -> list[list[Any]]:
    """All tensors that have names, checked to lie within the file."""
    rows: list[list[Any]] = []
    checked: set[int] = set()
    unpacked = 0
    for name, tensor in _named(loaded) if isinstance(loaded, dict) else ():
        if tensor.dtype not in _DTYPES:
            continue
        each, storage = _DTYPES[tensor.dtype], tensor.storage
        elements = _elements(tensor)
        unpacked += elements * each
        if unpacked > 2 * size + _CHUNK or len(rows) == MAX_TENSORS:
            raise Refused("unpacks to more than twice its size", _PLAIN)
        if elements and id(storage) not in checked:
            checked.add(id(storage))
            _check(storage, stream)
        place = storage.offset + tensor.offset * each
        rows.append([name, tensor.dtype, list(tensor.shape), list(tensor.stride), place])
    if not rows:
        raise Refused("holds no named tensors", "Save the module's state_dict().")
    return rows


def _elements(tensor: _Tensor) -> int:
    """How many elements a tensor has, none of them outside its storage."""
    shape, stride = list(tensor.shape), list(tensor.stride)
    numbers = (tensor.offset, *shape, *stride)
    if len(shape) != len(stride) or any(type(n) is not int or n < 0 for n in numbers):
        raise Refused("is damaged: a tensor has an invalid shape", _AGAIN)
    elements, last = 1, tensor.offset
    for length, step in zip(shape, stride, strict=True):
        elements *= length
        last += (length - 1) * step
    storage = tensor.storage
    beyond = (last + 1) * _DTYPES[tensor.dtype] > storage.bytes
    if elements and (storage.offset < 0 or beyond):
        raise Refused("is damaged: a tensor exceeds its storage", _AGAIN)
    return elements


def _named(loaded: dict[Any, Any]) -> Iterator[tuple[str, _Tensor]]:
    """Every tensor in dictionaries and modules, with the dotted way to it; each of them once."""
    waiting: list[tuple[str, dict[Any, Any], int]] = [("", loaded, 0)]
    seen = {id(loaded)}
    while waiting:
        prefix, held, depth = waiting.pop()
        for key, value in held.items():
            if not isinstance(key, str | int):
                continue
            name = f"{prefix}{key}"
            if isinstance(value, _Tensor):
                if len(name) > MAX_NAME:
                    raise Refused("holds an endless list of names", _PLAIN)
                yield name, value
            elif isinstance(value, dict) and id(value) not in seen:
                if depth == MAX_DEPTH or len(name) > MAX_NAME:
                    raise Refused(f"is nested more than {MAX_DEPTH} deep", _PLAIN)
                seen.add(id(value))
                waiting.append((f"{name}.", value, depth + 1))


def _check(storage: _Storage, stream: IO[bytes]) -> None:
    """Compare a storage's bytes with the checksum that its archive gives."""
    if storage.checksum is None:
        return
    stream.seek(storage.offset)
    found, rest = 0, storage.bytes
    while rest > 0:
        content = stream.read(min(rest, _CHUNK))
        if not content:
            break
        found = zlib.crc32(content, found)
        rest -= len(content)
    if rest or found != storage.checksum:
        raise Refused("is damaged: a tensor does not match its checksum", _AGAIN)


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
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
