"""Every setting of D3: one frozen object, read once from the environment and a ``.env`` file.

A field's metadata names its variable. Nothing else in D3 reads the environment.
"""

from __future__ import annotations

import difflib
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import msgspec
from dotenv import dotenv_values
from msgspec import Meta
from platformdirs import user_data_path

from d3.domain.errors import ModelNameInvalid, SettingsInvalid
from d3.domain.models import checked_name

Count = Annotated[int, Meta(ge=1)]

_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off"}


def _variable(name: str, default: Any, about: str) -> Any:
    return field(default=default, metadata={"variable": name, "about": about})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What can be set; every field has a default, and the defaults need nothing installed.

    Raises:
        SettingsInvalid: from :meth:`from_environment`, naming every mistake at once.
    """

    home: Path = _variable(
        "D3_HOME", user_data_path("d3"), "where models and the embedded database are kept"
    )
    model: str | None = _variable(
        "D3_MODEL", None, "the model that answers; unset: the one of `d3 models use`"
    )
    cuda_device: Annotated[int, Meta(ge=0)] | Literal["cpu"] | None = _variable(
        "CUDA_DEVICE", None, "number of the GPU, or cpu; unset: the first GPU, else the CPU"
    )
    precision: Literal["auto", "fp32", "fp16", "bf16"] = _variable(
        "D3_PRECISION", "auto", "of the encoder: auto, fp32, fp16 or bf16"
    )
    use_fp16: bool = _variable("USE_FP16", False, "half precision on a GPU; D3_PRECISION beats it")
    batch_size: Annotated[int, Meta(ge=1, le=4096)] = _variable(
        "D3_BATCH_SIZE", 32, "images that share a forward pass at most"
    )
    max_image_bytes: Count = _variable("D3_MAX_IMAGE_BYTES", 50 * 2**20, "largest encoded image")
    max_image_pixels: Count = _variable(
        "D3_MAX_IMAGE_PIXELS", 50_000_000, "largest width times height"
    )
    max_image_side: Count = _variable("D3_MAX_IMAGE_SIDE", 30_000, "longest side in pixels")
    max_jpeg_scans: Count = _variable("D3_MAX_JPEG_SCANS", 100, "most scans of a progressive JPEG")

    @property
    def models_folder(self) -> Path:
        """Where the embedded model registry lies."""
        return self.home / "models"

    @property
    def effective_precision(self) -> Literal["auto", "fp32", "fp16", "bf16"]:
        """``precision``, or ``fp16`` where only ``USE_FP16`` was set."""
        return "fp16" if self.use_fp16 and self.precision == "auto" else self.precision

    @classmethod
    def from_environment(
        cls, environ: Mapping[str, str] | None = None, dotenv: Path | None = Path(".env")
    ) -> Settings:
        """Read the settings; the environment beats the file, and an empty value counts as unset.

        Args:
            environ: the process's own unless given.
            dotenv: a file of ``NAME=value`` lines that need not be there; None reads none.

        Raises:
            SettingsInvalid: one sentence for each variable that cannot be used.
        """
        merged = _read_dotenv(dotenv) | dict(os.environ if environ is None else environ)
        given = {name: value.strip() for name, value in merged.items() if value and value.strip()}
        types = get_type_hints(cls, include_extras=True)
        known = {one.metadata["variable"]: one.name for one in fields(cls)}
        values: dict[str, Any] = {}
        mistakes: list[str] = []
        for variable, name in known.items():
            if variable in given:
                try:
                    values[name] = _parse(given[variable], types[name], name)
                except (ValueError, ModelNameInvalid) as error:
                    mistakes.append(f"{variable}={given[variable]!r}: {error}")
        if mistakes:
            raise SettingsInvalid(
                "Some settings cannot be used. " + "; ".join(mistakes) + ".",
                "Correct them in the environment or in .env; .env.example describes each.",
            )
        _warn_of_unknown(given, known)
        return cls(**values)


def _parse(text: str, kind: Any, name: str) -> Any:
    """The text as a value of the type, or a ValueError that says what was expected."""
    if kind is Path:
        return Path(text).expanduser()
    if kind is bool:
        if text.lower() not in _TRUE | _FALSE:
            raise ValueError("expected true or false")
        return text.lower() in _TRUE
    if name == "model":
        return checked_name(text)
    if name == "cuda_device":
        text = text.lower().removeprefix("cuda:")
    try:
        return msgspec.convert(text, kind, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)[:1].lower() + str(error)[1:]) from error


def _read_dotenv(path: Path | None) -> dict[str, str]:
    if path is None or not path.is_file():
        return {}
    try:
        values = dotenv_values(path, interpolate=False, encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsInvalid(
            f"The settings file {path.name!r} cannot be read.",
            "Check its permissions and that it is UTF-8 text.",
        ) from error
    return {name: value for name, value in values.items() if value is not None}


def _warn_of_unknown(given: Mapping[str, str], known: Mapping[str, str]) -> None:
    for name in sorted(given):
        if name.startswith("D3_") and name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]}?" if close else "."
            warnings.warn(f"{name} is not a setting of D3{hint}", RuntimeWarning, stacklevel=3)
