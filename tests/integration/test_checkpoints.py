"""Foreign checkpoints are read safely: sound ones exactly, all others refused in a sentence."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import subprocess
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from d3.domain.errors import CheckpointInvalid
from d3.domain.models import EncoderSpec, StoredModel
from d3.network import checkpoints
from d3.network.checkpoints import load_network, read_encoder, read_head, read_tensors
from d3.testing.models import TINY, tiny_model

Tensors = dict[str, torch.Tensor]


@pytest.fixture
def model(tmp_path: Path) -> StoredModel:
    return tiny_model(tmp_path)


@pytest.fixture
def encoder(model: StoredModel) -> Tensors:
    return read_tensors(model.encoder)


@pytest.fixture
def head(model: StoredModel) -> Tensors:
    return read_tensors(model.head)


def refused(read: Callable[[Path], object], file: Path) -> str:
    """The sentence with which the file is refused; it names no path and no library."""
    with pytest.raises(CheckpointInvalid) as caught:
        read(file)
    sentence = str(caught.value)
    assert str(file.parent) not in sentence
    for foreign in ("Traceback", "Error(", "torch.", "Unpickl", "safetensors_rust", "errno"):
        assert foreign not in sentence.replace("torch.save", "").replace("by torch.", "")
    assert caught.value.problem.endswith(".")
    return sentence


def same(found: Tensors, expected: Tensors) -> bool:
    return found.keys() == expected.keys() and all(
        torch.equal(found[name], tensor) for name, tensor in expected.items()
    )


def test_a_plain_pth_gives_its_tensors_and_leaves_nothing_behind(
    head: Tensors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    torch.save(head, tmp_path / "head.pth")
    width, found = read_head(tmp_path / "head.pth")
    assert width == TINY.width
    assert same(found, head)
    assert list(temporary.iterdir()) == []


def test_a_whole_clip_checkpoint_of_a_training_run_gives_its_visual_tower(
    encoder: Tensors, tmp_path: Path
) -> None:
    whole = {f"module.visual.{name}": tensor for name, tensor in encoder.items()}
    whole["module.visual.proj"] = torch.zeros(64, 32)
    whole["module.positional_embedding"] = torch.zeros(77, 64)
    whole["module.transformer.resblocks.0.ln_1.weight"] = torch.zeros(64)
    whole["module.logit_scale"] = torch.tensor(4.6)
    torch.save({"epoch": 3, "state_dict": whole, "name": "a run"}, tmp_path / "clip.pth")
    spec, found = read_encoder(tmp_path / "clip.pth")
    assert (spec.width, spec.layers, spec.grid) == (TINY.width, TINY.layers, TINY.grid)
    assert same(found, encoder)


@pytest.mark.parametrize("prefix", ["", "visual.", "module.visual.", "model.visual.", "module."])
def test_an_encoder_is_found_under_any_usual_prefix(
    prefix: str, encoder: Tensors, tmp_path: Path
) -> None:
    tensors = {prefix + name: tensor for name, tensor in encoder.items()}
    save_file(tensors | {"unrelated": torch.zeros(1)} if prefix else tensors, tmp_path / "a.st")
    if prefix == "module.":
        save_file(tensors, tmp_path / "a.st")
    assert same(read_encoder(tmp_path / "a.st")[1], encoder)


@pytest.mark.parametrize("prefix", ["attention_head.", "module.attention_head.", "module."])
def test_a_head_is_found_under_any_usual_prefix(prefix: str, head: Tensors, tmp_path: Path) -> None:
    save_file({prefix + name: tensor for name, tensor in head.items()}, tmp_path / "a.st")
    assert same(read_head(tmp_path / "a.st")[1], head)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_may_be_of_any_float_precision(
    dtype: torch.dtype, head: Tensors, tmp_path: Path
) -> None:
    save_file({name: tensor.to(dtype) for name, tensor in head.items()}, tmp_path / "a.st")
    assert {tensor.dtype for tensor in read_head(tmp_path / "a.st")[1].values()} == {dtype}


def test_a_file_whose_name_says_otherwise_is_read_by_its_content(
    head: Tensors, tmp_path: Path
) -> None:
    save_file(head, tmp_path / "classifier.pth")
    assert same(read_head(tmp_path / "classifier.pth")[1], head)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda t: t.pop("key.bias"), "does not have key.bias"),
        (lambda t: t.update(extra=torch.zeros(1)), "has extra"),
        (lambda t: t.update({"key.weight": torch.zeros(64, 32)}), "key.weight has the shape"),
        (lambda t: t.update({"fc.weight": torch.zeros(1, 64)}), "fc.weight has the shape"),
        (lambda t: t.update({"query.weight": torch.zeros(64)}), "query.weight has the shape"),
        (lambda t: t.update({"query.weight": torch.zeros(0, 64)}), "query.weight has the shape"),
        (lambda t: t["value.weight"][3, 3].fill_(torch.nan), "not finite"),
        (lambda t: t["value.bias"][3].fill_(torch.inf), "not finite"),
        (lambda t: t.update({"fc.bias": torch.zeros(1, dtype=torch.int64)}), "int64"),
        (lambda t: t.update({"fc.bias": torch.zeros(1, dtype=torch.bool)}), "bool"),
        (lambda t: t.clear(), "holds no head"),
    ],
)
def test_a_head_that_is_none_is_refused(
    spoil: Callable[[Tensors], object], words: str, head: Tensors, tmp_path: Path
) -> None:
    tensors = {name: tensor.clone() for name, tensor in head.items()}
    spoil(tensors)
    save_file(tensors, tmp_path / "head.st")
    assert words in refused(read_head, tmp_path / "head.st")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda t: t.pop("ln_post.weight"), "does not have ln_post.weight"),
        (lambda t: t.pop("transformer.resblocks.1.ln_1.bias"), "not have transformer.resblocks.1"),
        (lambda t: t.pop("conv1.weight"), "holds no encoder"),
        (lambda t: t.update({"positional_embedding": torch.zeros(16, 64)}), "do not form a square"),
        (lambda t: t.update({"positional_embedding": torch.zeros(1, 64)}), "do not fit"),
        (lambda t: t.update({"conv1.weight": torch.zeros(96, 3, 14, 14)}), "multiple of 64"),
        (lambda t: t.update({"conv1.weight": torch.zeros(64, 1, 14, 14)}), "conv1.weight has"),
        (lambda t: t.update({"conv1.weight": torch.zeros(64, 3, 14, 7)}), "has the shape"),
        (lambda t: t.update({"class_embedding": torch.full((64,), torch.nan)}), "not finite"),
        (
            lambda t: t.update(
                {f"transformer.resblocks.{n}.x": torch.zeros(0) for n in range(9999)}
            ),
            "at most",
        ),
    ],
)
def test_an_encoder_that_is_none_is_refused(
    spoil: Callable[[Tensors], object], words: str, encoder: Tensors, tmp_path: Path
) -> None:
    tensors = {name: tensor.clone() for name, tensor in encoder.items()}
    spoil(tensors)
    save_file(tensors, tmp_path / "encoder.st")
    begun = time.process_time()
    assert words in refused(read_encoder, tmp_path / "encoder.st")
    assert time.process_time() - begun < 2


@pytest.mark.parametrize("heads", [3, -1, 65])
def test_attention_heads_that_cannot_be_are_refused(heads: int, model: StoredModel) -> None:
    assert "do not fit" in refused(lambda file: read_encoder(file, heads), model.encoder)


def raw_safetensors(header: bytes, length: int | None = None, body: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + body


ONE = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"Just a sentence, and long enough to be looked into.",
        b"\0" * 1000,
        raw_safetensors(b"{" * 50),
        raw_safetensors(b"{}", 2**63),
        raw_safetensors(b"{}", 90_000_000),
        raw_safetensors(json.dumps({"fc.weight": ONE}).encode()),
        raw_safetensors(
            json.dumps({"fc.weight": ONE | {"shape": [2**62, 4]}}).encode(), body=bytes(4)
        ),
        raw_safetensors(json.dumps({"fc.weight": ONE | {"dtype": "X"}}).encode(), body=bytes(4)),
        raw_safetensors(
            json.dumps({"fc.weight": ONE | {"data_offsets": [0, 2**63]}}).encode(), body=bytes(4)
        ),
    ],
    ids=range(10),
)
def test_a_file_that_is_no_checkpoint_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "head.pth").write_bytes(content)
    begun = time.monotonic()
    refused(read_head, tmp_path / "head.pth")
    assert time.monotonic() - begun < 1  # no child process is started


@pytest.mark.parametrize("part", [0.01, 0.5, 0.99])
def test_safetensors_cut_short_are_refused(part: float, model: StoredModel, tmp_path: Path) -> None:
    content = model.encoder.read_bytes()
    (tmp_path / "cut.st").write_bytes(content[: int(len(content) * part)])
    refused(read_encoder, tmp_path / "cut.st")


def test_a_pth_cut_short_is_refused(head: Tensors, tmp_path: Path) -> None:
    torch.save(head, tmp_path / "head.pth")
    content = (tmp_path / "head.pth").read_bytes()
    (tmp_path / "head.pth").write_bytes(content[: len(content) // 2])
    refused(read_head, tmp_path / "head.pth")


@pytest.mark.parametrize("kind", ["pipe", "folder", "missing", "nul\0byte", "x" * 300])
def test_what_cannot_be_read_is_refused_at_once(kind: str, tmp_path: Path) -> None:
    place = tmp_path / kind
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
    assert "cannot be read" in refused(read_head, place)


class Malice:
    """Runs code when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self._marker),)


@pytest.mark.parametrize("container", ["bare", "zip"])
def test_a_pickle_that_executes_code_does_not(container: str, tmp_path: Path) -> None:
    marker, file = tmp_path / "executed", tmp_path / "head.pth"
    malice = {"fc.weight": Malice(marker)}
    if container == "zip":
        torch.save(malice, file)
    else:
        file.write_bytes(pickle.dumps(malice, protocol=2))
    assert "code" in refused(read_head, file)
    assert not marker.exists()
    # The file does what it is said to, where nobody takes care.
    if container == "zip":
        torch.load(file, weights_only=False)
    else:
        pickle.loads(file.read_bytes())
    assert marker.exists()


MEASURE = """
import resource, sys, time
from pathlib import Path
from d3.domain.errors import CheckpointInvalid
from d3.network.checkpoints import read_tensors

for file in map(Path, sys.argv[1:]):
    begun = time.monotonic()
    try:
        read_tensors(file)
    except CheckpointInvalid:
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        print(peak, time.monotonic() - begun)
"""


def test_checkpoints_that_allocate_gigabytes_are_stopped(
    tmp_path: Path, run_python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    allocating, expanding = tmp_path / "allocating.pth", tmp_path / "expanding.pth"
    allocating.write_bytes(
        b"\x80\x02c__builtin__\nbytearray\nJ" + struct.pack("<i", 2_000_000_000) + b"\x85R."
    )
    torch.save({"fc.weight": torch.zeros(1).expand(2_000_000_000)}, expanding)
    # In a process of its own: a child's peak begins at that of whoever started it.
    lines = run_python(MEASURE, allocating, expanding, timeout=120).stdout.splitlines()
    assert len(lines) == 2
    for line in lines:
        peak, seconds = map(float, line.split())
        assert peak < 1_500_000_000
        assert seconds < 50


def test_an_archive_that_unpacks_to_gigabytes_is_refused(head: Tensors, tmp_path: Path) -> None:
    stored, file = io.BytesIO(), tmp_path / "head.pth"
    torch.save(head | {"fc.weight": torch.zeros(50_000_000)}, stored)
    with zipfile.ZipFile(stored) as plain, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as bomb:
        for entry in plain.infolist():
            bomb.writestr(entry.filename, plain.read(entry))
    assert file.stat().st_size < 1_000_000
    begun = time.monotonic()
    assert "unpacks" in refused(read_head, file)
    assert time.monotonic() - begun < 1


def test_a_pth_without_named_tensors_is_refused(tmp_path: Path) -> None:
    torch.save([torch.zeros(3)], tmp_path / "head.pth")
    assert "no named tensors" in refused(read_head, tmp_path / "head.pth")


def test_a_stored_model_that_is_not_its_manifests_is_refused(model: StoredModel) -> None:
    deeper = EncoderSpec(**(SPEC_OF_TINY | {"layers": 3}))
    with pytest.raises(CheckpointInvalid, match="does not have"):
        load_network(deeper, model.encoder, model.head)
    with pytest.raises(CheckpointInvalid, match="head"):
        load_network(TINY, model.encoder, model.encoder)


SPEC_OF_TINY = {name: getattr(TINY, name) for name in EncoderSpec.__slots__}


def test_the_limit_of_layers_is_far_beyond_any_published_encoder() -> None:
    assert checkpoints.MAX_LAYERS >= 3 * 60


@pytest.mark.parametrize(
    ("pickled", "words"),
    [
        (b"cposix\nsystem\n(X\x05\x00\x00\x00touchtR.", "refers to posix.system, which is code"),
        (
            (
                b"\x80\x02c__torch__\nTop\n)\x81}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n"
                b"((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"
                b"K\x04tQK\x00(J\xff\xff\xff\x7ft(K\x01t\x89NtRsb."
            ),
            "exceeds its storage",
        ),
    ],
    ids=["code", "beyond its storage"],
)
def test_a_torchscript_archive_runs_nothing_and_stays_in_its_bounds(
    tmp_path: Path, pickled: bytes, words: str
) -> None:
    file = tmp_path / "clip.pt"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("clip/data.pkl", pickled)
        archive.writestr("clip/data/0", bytes(16))
        archive.writestr("clip/constants.pkl", b"\x80\x02).")
    assert words in refused(read_encoder, file)


def test_code_records_may_be_deflated_and_tensors_may_not(head: Tensors, tmp_path: Path) -> None:
    torch.save(head, tmp_path / "plain.pth")
    for name, words in (("code/a.py", None), ("plain/data/2", "its tensors are compressed")):
        file = tmp_path / "packed.pth"
        with (
            zipfile.ZipFile(tmp_path / "plain.pth") as plain,
            zipfile.ZipFile(file, "w") as packed,
        ):
            for entry in plain.infolist():
                kind = zipfile.ZIP_DEFLATED if entry.filename == name else zipfile.ZIP_STORED
                packed.writestr(entry.filename, plain.read(entry), kind)
            packed.writestr("plain/code/a.py", b"x = 1\n" * 100_000, zipfile.ZIP_DEFLATED)
        if words is None:
            assert same(read_head(file)[1], head)
        else:
            assert words in refused(read_head, file)


def with_records(file: Path, head: Tensors, *records: tuple[str, int]) -> None:
    """A sound checkpoint with further records of zeros, deflated."""
    torch.save(head, file)
    zeros = bytes(2**20)
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive:
        for name, megabytes in records:
            with archive.open(name, "w", force_zip64=True) as stream:
                for _ in range(megabytes):
                    stream.write(zeros)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("head/code/__torch__.py", "bytes of code"),
        ("head/code/__torch__.py.debug_pkl", "bytes of code"),
        ("head/constants.pkl", "bytes of pickles"),
        ("head/data/99", "its tensors are compressed"),
    ],
)
def test_a_record_of_a_gigabyte_is_not_unpacked(
    name: str, words: str, head: Tensors, tmp_path: Path
) -> None:
    with_records(tmp_path / "head.pth", head, (name, 1024))
    begun = time.process_time()
    assert words in refused(read_head, tmp_path / "head.pth")
    assert time.process_time() - begun < 1


def test_a_hundred_thousand_records_are_too_many(head: Tensors, tmp_path: Path) -> None:
    with_records(tmp_path / "head.pth", head, *((f"head/code/{n}", 0) for n in range(100_000)))
    assert "holds 100,0" in refused(read_head, tmp_path / "head.pth")


def test_records_that_lie_over_one_another_are_refused(head: Tensors, tmp_path: Path) -> None:
    file = tmp_path / "head.pth"
    torch.save(head, file)
    with zipfile.ZipFile(file, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("head/data/0", bytes(4))
    assert "records overlap" in refused(read_head, file)
    torch.save(head, file)
    content = bytearray(file.read_bytes())
    # In the directory, a second name for the place where another record lies.
    first = content.index(b"PK\x01\x02")
    second = content.index(b"PK\x01\x02", first + 4)
    content[second + 42 : second + 46] = content[first + 42 : first + 46]
    file.write_bytes(content)
    assert "records overlap" in refused(read_head, file)


def test_a_flipped_bit_in_a_tensor_is_found(head: Tensors, tmp_path: Path) -> None:
    file = tmp_path / "head.pth"
    torch.save(head, file)
    content = bytearray(file.read_bytes())
    content[content.index(head["value.weight"].numpy().tobytes()) + 5] ^= 1
    file.write_bytes(content)
    assert "does not match its checksum" in refused(read_head, file)


def nested(levels: int) -> bytes:
    """A pickle of dictionaries within dictionaries."""
    return b"\x80\x02" + b"}X\x01\x00\x00\x00a" * levels + b"}" + b"s" * levels + b"."


CIRCLE = b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s."  # a dictionary that holds itself
MODULES = b"\x80\x02c__torch__\nTop\n)\x81q\x00}X\x01\x00\x00\x00ah\x00sb."  # a module likewise
MEMO = b"\x80\x02}r\xff\xff\xff\x7f."  # place number 2^31 in the memo
FRAME = b"\x80\x04\x95" + b"\xff" * 7 + b"\x7f}."  # a frame of 2^63 bytes
LONG = b"\x80\x02\x8b\xff\xff\xff\x7f\x01."  # a number of 2 GB
TEXT = b"\x80\x04\x8d" + b"\xff" * 7 + b"\x7fa."
ONLY_DATA = {
    "40 deep": nested(40),
    "a million deep": nested(1_000_000),
    "a circle": CIRCLE,
    "a module in itself": MODULES,
    "a memo without end": MEMO,
    "a frame without end": FRAME,
    "a number without end": LONG,
    "a text without end": TEXT,
    "nothing": b"",
    "its end missing": b"\x80\x02}",
    "a stack that is empty": b"\x80\x020.",
    "an extension": b"\x80\x02\x82\x01.",
}


@pytest.mark.parametrize("pickled", ONLY_DATA.values(), ids=ONLY_DATA.keys())
def test_strange_pickles_end_in_a_sentence(pickled: bytes, tmp_path: Path) -> None:
    file = tmp_path / "head.pth"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("head/data.pkl", pickled)
        archive.writestr("head/version", b"3\n")
    refused(read_head, file)


@pytest.mark.parametrize(
    "name",
    [
        "builtins.eval",
        "os.system",
        "torch.load",
        "torch.hub.load",
        "numpy.testing.measure",
        "functools.partial",
        "operator.attrgetter",
        "torch.jit.load",
        "builtins.getattr",
        "torch._dynamo.guards.GuardBuilder",
        "pip.main",
        "runpy._run_code",
    ],
)
def test_a_name_that_is_no_data_ends_the_reading_wherever_it_stands(
    name: str, head: Tensors, tmp_path: Path
) -> None:
    module, _, last = name.rpartition(".")
    torch.save({"state_dict": head, "extra": "MARK"}, tmp_path / "plain.pth")
    call = f"c{module}\n{last}\n(tR".encode()
    file = tmp_path / "head.pth"
    with zipfile.ZipFile(tmp_path / "plain.pth") as plain, zipfile.ZipFile(file, "w") as packed:
        for entry in plain.infolist():
            content = plain.read(entry).replace(b"X\x04\x00\x00\x00MARK", call)
            packed.writestr(entry.filename.replace("plain/", "head/"), content)
    with pytest.raises(CheckpointInvalid, match=f"refers to {name}, which is code"):
        read_head(file)
    # The same file without that name is sound.
    assert same(read_head(tmp_path / "plain.pth")[1], head)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 930000000\n", "Git LFS"),
        (b"<!DOCTYPE html><html><body>Sign in to download</body></html>", "a web page"),
        (b"\n  <html lang='en'>", "a web page"),
        (b'{"error": "Access to this resource is denied", "n": 1}', "JSON"),
        (b"GGUF\x03\x00\x00\x00" + bytes(40), "GGUF"),
        (b"\x89HDF\r\n\x1a\n" + bytes(40), "HDF5"),
        (b"\x08\x08\x12\x07pytorch\x1a\x052.0.0" + bytes(40), "an ONNX model"),
        (b"\x93NUMPY\x01\x00v\x00" + bytes(40), "NumPy"),
        (b"\x1f\x8b\x08" + bytes(40), "gzip"),
        (b"\xff\xd8\xff\xe0" + bytes(40), "an image"),
        (b"", "is empty"),
    ],
)
def test_a_file_of_another_kind_is_named(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "ViT.pt").write_bytes(content)
    sentence = refused(read_encoder, tmp_path / "ViT.pt")
    assert "'ViT.pt'" in sentence
    assert words in sentence


@pytest.mark.parametrize(
    ("names", "what", "missing", "unexpected"),
    [
        (
            ["conv1.weight", "bn1.weight", "layer1.0.conv1.weight", "fc.weight"],
            "a whole ResNet",
            "class_embedding",
            "layer1.0.conv1.weight",
        ),
        (
            [
                "visual.conv1.weight",
                "visual.layer1.0.conv1.weight",
                "visual.attnpool.q_proj.weight",
            ],
            "a CLIP with a ResNet",
            "class_embedding",
            "visual.attnpool.q_proj.weight",
        ),
        (
            ["state.0.exp_avg", "state.0.exp_avg_sq"],
            "an optimiser's state",
            "conv1.weight",
            "state.0.exp_avg",
        ),
        (
            [
                "vision_model.embeddings.patch_embedding.weight",
                "vision_model.head.probe",
                "logit_bias",
            ],
            "a SigLIP",
            "embeddings.class_embedding",
            "logit_bias",
        ),
        (
            ["visual.trunk.blocks.0.attn.qkv.weight"],
            "a vision transformer of timm",
            "conv1.weight",
            "visual.trunk.blocks.0.attn.qkv.weight",
        ),
        (
            ["down_blocks.0.resnets.0.conv1.weight"],
            "a U-Net or an autoencoder of diffusers",
            "class_embedding",
            "down_blocks.0.resnets.0.conv1.weight",
        ),
        (
            ["model.diffusion_model.input_blocks.0.0.weight"],
            "a Stable Diffusion checkpoint",
            "conv1.weight",
            "model.diffusion_model.input_blocks.0.0.weight",
        ),
        (
            ["model.layers.0.self_attn.q_proj.weight"],
            "a language model",
            "conv1.weight",
            "model.layers.0.self_attn.q_proj.weight",
        ),
        (
            ["text_model.encoder.layers.0.layer_norm1.weight"],
            "only CLIP's text tower",
            "conv1.weight",
            "text_model.encoder.layers.0.layer_norm1.weight",
        ),
        (["query.weight", "fc.weight"], "a D3 head", "conv1.weight", "query.weight"),
        (["fc.weight", "fc.bias"], "only a linear layer", "conv1.weight", "fc.bias"),
    ],
)
def test_a_checkpoint_of_something_else_is_named_with_what_is_missing_and_not_expected(
    names: list[str], what: str, missing: str, unexpected: str, tmp_path: Path
) -> None:
    save_file({name: torch.zeros(1) for name in names}, tmp_path / "other.safetensors")
    sentence = refused(read_encoder, tmp_path / "other.safetensors")
    assert f"'other.safetensors' looks like {what}" in sentence
    assert f"{missing} is missing and {unexpected} is unexpected" in sentence


def test_what_nobody_knows_is_refused_with_the_names_it_has(tmp_path: Path) -> None:
    save_file({f"thing.{n}": torch.zeros(1) for n in range(9)}, tmp_path / "a.st")
    sentence = refused(read_encoder, tmp_path / "a.st")
    assert "conv1.weight is missing; it has thing.0, thing.1, thing.2 and 6 more" in sentence


def test_an_encoder_in_place_of_a_head_is_named(encoder: Tensors, tmp_path: Path) -> None:
    save_file(encoder, tmp_path / "a.st")
    assert "looks like CLIP's vision transformer and holds no head" in refused(
        read_head, tmp_path / "a.st"
    )


def test_two_encoders_are_not_chosen_between(encoder: Tensors, tmp_path: Path) -> None:
    both = {f"student.{name}": tensor for name, tensor in encoder.items()}
    both |= {f"teacher.{name}": tensor + 1 for name, tensor in encoder.items()}
    save_file(both, tmp_path / "a.st")
    assert "holds 2 encoders, under student., teacher." in refused(read_encoder, tmp_path / "a.st")


@pytest.mark.parametrize(
    "words", [("conv1.weight", "class_embedding"), ("fc.weight", "query.weight")]
)
def test_thousands_of_models_in_a_file_cost_no_time(words: tuple[str, str], tmp_path: Path) -> None:
    one = torch.zeros(1)
    held = {f"{n}.{word}": one + n for n in range(10_000) for word in words}
    save_file(held | {"query.weight": one, "fc.weight": one + 1}, tmp_path / "a.st")
    begun = time.process_time()
    for read in (read_encoder, read_head):
        refused(read, tmp_path / "a.st")
    assert time.process_time() - begun < 5


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda file: torch.save(torch.nn.Linear(2, 2), file), "refers to torch.nn.modules"),
        (lambda file: file.write_bytes(pickle.dumps({"a": 1})), "not written by torch.save"),
        (lambda file: zipped(file, "weights.npy"), "a NumPy archive"),
        (lambda file: zipped(file, "model/pytorch_model.bin"), "a zip archive of other files"),
        (lambda file: zipped(file, "manifest.json", "encoder.safetensors"), "a D3 bundle"),
        (lambda file: zipped(file, "word/document.xml"), "was not written by torch"),
    ],
)
def test_archives_and_pickles_of_others_are_named(
    write: Callable[[Path], None], words: str, tmp_path: Path
) -> None:
    write(tmp_path / "a.pth")
    with pytest.raises(CheckpointInvalid, match=words):
        read_head(tmp_path / "a.pth")


def zipped(file: Path, *names: str) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, b"content")


def test_a_file_is_blamed_by_the_name_that_it_was_given(head: Tensors, tmp_path: Path) -> None:
    del head["key.bias"]
    save_file(head, tmp_path / "tmp8d2x")
    with pytest.raises(
        CheckpointInvalid, match=r"In 'classifier\.pth', the head does not have key\.bias"
    ):
        read_head(tmp_path / "tmp8d2x", called="classifier.pth")
