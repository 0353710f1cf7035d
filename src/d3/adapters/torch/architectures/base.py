"""What an architecture is: one class that says which files it wants and makes a network of them.

Plug-ins derive from :class:`Architecture`, which :mod:`d3.architectures` gives to them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from d3.domain.errors import CheckpointInvalid
from d3.domain.inputs import InputSpec
from d3.domain.models import Activation, Manifest, ModelFile, Role, StoredModel, file_of
from d3.network import checkpoints
from d3.network.names import network_of


@dataclass(slots=True)
class Draft:
    """A model in the making: foreign files on one side, D3's own on the other.

    Attributes:
        name: of the model.
        architecture: its name.
        package: the distribution that provides it; empty for D3's own.
        files: the foreign files by role.
        into: an existing folder for the converted ones.
        heads: of an encoder's attention; width / 64 unless given.
        activation: of an encoder's MLPs.
        names: the files' names in errors, by role; their own unless given.
        encoder: a stored model whose encoder is used, in place of a file.
        open_clip: ``MODEL:TAG`` of the encoder in open_clip's table, in place of a file.
        paths: the files of the model so far, by role.
    """

    name: str
    architecture: str
    package: str
    files: Mapping[Role, Path]
    into: Path
    heads: int | None = None
    activation: Activation = "quick_gelu"
    names: Mapping[Role, str] = field(default_factory=dict)
    encoder: StoredModel | None = None
    open_clip: str | None = None
    paths: dict[Role, Path] = field(default_factory=dict)

    def file(self, role: Role) -> Path:
        """The foreign file of a role.

        Raises:
            CheckpointInvalid: none was given.
        """
        if role not in self.files:
            raise CheckpointInvalid(
                f"The architecture {self.architecture!r} wants a file for its {role}.",
                f"Name it with --file {role}=FILE.",
            )
        return self.files[role]

    def called(self, role: Role) -> str:
        """The name of a role's file in errors."""
        return self.names.get(role) or self.file(role).name

    def tensors(self, role: Role) -> Mapping[str, Tensor]:
        """The tensors of a role's foreign file.

        Raises:
            CheckpointInvalid: it is not there, is no checkpoint, or wants code to be run.
        """
        return checkpoints.read_tensors(self.file(role), called=self.called(role))

    def keep(self, role: Role, tensors: Mapping[str, Tensor]) -> Path:
        """Write a file of the model."""
        self.paths[role] = self.into / f"{role}.safetensors"
        checkpoints.write_tensors(self.paths[role], tensors)
        return self.paths[role]

    def model(self, **fields: Any) -> StoredModel:
        """The model of the files that were kept.

        Args:
            fields: of its manifest, beside the name and the files.
        """
        parts: dict[Role, ModelFile] = {role: file_of(path) for role, path in self.paths.items()}
        manifest = Manifest(
            name=self.name,
            version=1,
            architecture=self.architecture,
            package=self.package,
            encoder=parts.pop("encoder", None),
            head=parts.pop("head", None),
            parts=parts,
            **fields,
        )
        return StoredModel(manifest, self.paths)


class Architecture:
    """One kind of network that makes logits of pixels.

    A plug-in sets :attr:`input` and defines :meth:`build`; mostly that is all. What fails, fails
    with a :class:`d3.errors.CheckpointInvalid`, whose sentence is for people.

    Args:
        name: by which manifests name it.
        package: the distribution that provides it; empty for D3's own.

    Attributes:
        files: which files it wants by their role, and what each holds, in a few words. The state
            dict of the network is that of the only file; of several files, each one's names begin
            with its role and a dot.
        input: the pixels that it takes.
        views: how many logits it gives for an image; they are averaged.
        explains: whether it can draw heat maps.
        landmark: the name of one of the tensors, by which the network is found in a file that wraps
            its names (``model.``, ``state_dict.module.``) or holds other things too. Empty: the
            names are the network's own.
    """

    files: ClassVar[Mapping[Role, str]] = {"network": "the network's state dict"}
    input: ClassVar[InputSpec]
    views: ClassVar[int] = 1
    explains: ClassVar[bool] = False
    landmark: ClassVar[str] = ""

    def __init__(self, name: str, package: str = "") -> None:
        self.name = name
        self.package = package

    def config_of(self, tensors: Mapping[str, Tensor]) -> dict[str, Any]:  # noqa: ARG002
        """What :meth:`build` has to know, found from the shapes of the tensors; plain JSON.

        Raises:
            CheckpointInvalid: they are not this network's.
        """
        return {}

    def build(self, config: Mapping[str, Any]) -> nn.Module:
        """The network, without its weights.

        Its input is float32 (n, 3, S, S), normalised as :attr:`input` says; it gives logits (n,) or
        (n, views), above 0 where an image looks generated.
        """
        raise NotImplementedError

    def read(self, draft: Draft) -> StoredModel:
        """Make a model of foreign files.

        Raises:
            CheckpointInvalid: a file is missing, or is not what it should be.
        """
        files = {role: self._own(draft.tensors(role), draft.called(role)) for role in self.files}
        state = self._joined(files)
        called = " and ".join(map(draft.called, self.files))
        config = self._config(state, called)
        self._check(state, self.build(config), called)
        for role, tensors in files.items():
            draft.keep(role, _weights(tensors))
        return draft.model(config=config, input=self.input, own_views=self.views)

    def check(self, model: StoredModel, called: str) -> None:
        """Check that the model's files are sound and what its manifest says.

        Args:
            model: as stored.
            called: where it came from, for errors.

        Raises:
            CheckpointInvalid: they are not.
        """
        state, config = self._state(model), model.manifest.config
        if {**config, **self._config(state, called)} != config:
            raise CheckpointInvalid(
                f"The shapes of the weights in {called!r} do not match its manifest.",
                "Get it again from where it was made.",
            )
        self._check(state, self.build(config), called)

    def network(self, model: StoredModel) -> nn.Module:
        """The network of a stored model, in evaluation mode, its weights on the CPU.

        Raises:
            CheckpointInvalid: the files do not match the manifest.
        """
        network, state = self.build(model.manifest.config), self._state(model)
        checkpoints.check_names_and_shapes(state, _weights(network.state_dict()), self.name)
        network.load_state_dict(state, strict=False)  # counts of batches matter in training alone
        return network.eval().requires_grad_(False)

    def _own(self, tensors: Mapping[str, Tensor], called: str) -> Mapping[str, Tensor]:
        if not self.landmark:
            return tensors
        return network_of(tensors, self.landmark, called, self.name)

    def _config(self, state: Mapping[str, Tensor], called: str) -> dict[str, Any]:
        try:
            return self.config_of(state)
        except KeyError as error:
            raise CheckpointInvalid(
                f"The checkpoint {called!r} is no {self.name}: it has no {error.args[0]}.",
                "Use a file of this network.",
            ) from error

    def _joined(self, files: Mapping[Role, Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """The state dict, without what matters in training alone."""
        return {
            f"{role}.{name}" if len(self.files) > 1 else name: one
            for role, tensors in files.items()
            for name, one in _weights(tensors).items()
        }

    def _check_files(self, model: StoredModel) -> None:
        if missing := self.files.keys() - model.paths.keys():
            raise CheckpointInvalid(
                f"The model {model.manifest.name!r} has no file for its {min(missing)}.",
                "Import it again.",
            )

    def _state(self, model: StoredModel) -> dict[str, Tensor]:
        self._check_files(model)
        return self._joined(
            {role: checkpoints.read_tensors(model.paths[role]) for role in self.files}
        )

    def _check(self, state: Mapping[str, Tensor], network: nn.Module, called: str) -> None:
        expected = _weights(network.state_dict())
        checkpoints.check_names_and_shapes(state, expected, self.name, called)
        floats = {k: v for k, v in state.items() if expected[k].is_floating_point()}
        checkpoints.check_values(floats, self.name, called)


def _weights(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without BatchNorm's counts of batches, which only training looks at."""
    return {k: tensors[k] for k in tensors if not k.endswith("num_batches_tracked")}
