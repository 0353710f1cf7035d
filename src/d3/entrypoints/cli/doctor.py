"""``d3 doctor``: what must be right, checked one by one, with what to do where it is not.

Exit code 0 if everything works, warnings included; 2 if something failed.
"""

from __future__ import annotations

import json
import platform
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from d3.domain.errors import D3Error
from d3.domain.installation import own_version
from d3.entrypoints.cli.options import JSON
from d3.entrypoints.cli.output import out, print_json, printable
from d3.entrypoints.cli.progress import progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from d3.container import Container
    from d3.domain.models import Manifest
    from d3.domain.services.models import ModelService
    from d3.settings import Settings

_COLOURS = {"ok": "green", "warning": "yellow", "failed": "bold red"}
_FAILED = 2
_TOLERANCE = 1e-3
_COARSE = 0.25
_RECORDED = "self_test_logit"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Attributes:
        check: what was looked at.
        state: how it is.
        found: what is there, or what is wrong.
        remedy: what to do about it; empty where nothing need be done.
    """

    check: str
    state: Literal["ok", "warning", "failed"]
    found: str
    remedy: str = ""


@click.command()
@JSON
def doctor(*, as_json: bool) -> int:
    """Check the installation and suggest fixes.

    Checks settings, device, database and models, and judges a built-in image.
    """
    failed = False
    with progress("Checking", below_rows=True):
        for finding in examine():
            failed = failed or finding.state == "failed"
            if as_json:
                print_json(asdict(finding))
            else:
                _print(finding)
    return _FAILED if failed else 0


def examine() -> Iterator[Finding]:
    """Every check in turn; one that fails stops only those that need it."""
    settings: Settings | None = None
    with _noted("settings") as notes:
        settings = _settings(notes)
    yield from notes.findings
    yield Finding("python", "ok", f"Python {platform.python_version()} on {platform.platform()}")
    if settings is None:
        return
    from d3.container import Container

    container = Container(settings=settings)
    checks: list[tuple[str, Callable[[Container, _Notes], None]]] = [
        ("device", _device),
        ("engines", _engines),
        ("home", _home),
        ("database", _database),
        ("redis", _redis),
        ("key", _key),
        ("evidence", _evidence),
        ("provenance", _provenance),
        ("architectures", _architectures),
        ("models", _models),
        ("model", _model),
        ("panel", _panel),
        ("self-test", _self_test),
    ]
    for name, check in checks:
        with _noted(name) as notes:
            check(container, notes)
        yield from notes.findings
    container.host().close()


class _Notes:
    """What one check writes down."""

    def __init__(self, check: str) -> None:
        self.check = check
        self.findings: list[Finding] = []

    def add(self, state: Literal["ok", "warning", "failed"], found: str, remedy: str = "") -> None:
        self.findings.append(Finding(self.check, state, found, remedy))


@contextmanager
def _noted(check: str) -> Iterator[_Notes]:
    """Notes of a check, with its error and its warnings among them."""
    notes = _Notes(check)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RuntimeWarning)
        try:
            yield notes
        except D3Error as error:
            notes.add("failed", error.problem, error.remedy)
    said = {str(one.message) for one in caught if issubclass(one.category, RuntimeWarning)}
    for sentence in sorted(said):
        notes.add("warning", sentence)


def _settings(notes: _Notes) -> Settings:
    from d3.settings import Settings

    settings = Settings.from_environment()
    source = "the environment and .env" if Path(".env").is_file() else "the environment"
    notes.add("ok", f"read from {source}")
    return settings


def _device(container: Container, notes: _Notes) -> None:
    import torch

    detector = container.host().load().queue.detector
    notes.add(
        "ok",
        f"torch {torch.__version__}, {detector.device}, {detector.precision}, "
        f"engine {detector.engine}, "
        f"D3 {own_version()}",
    )


def _engines(container: Container, notes: _Notes) -> None:
    """What was measured when the model was first loaded here, where there was a choice."""
    from d3.domain.services.engines import compared

    loaded = container.host().loaded()
    if loaded is None:
        return  # the check before said why
    stored = container.registry().open(loaded.manifest.name, loaded.manifest.version)
    for one in compared(container.timings(), stored, loaded.queue.detector):
        seconds = one.timing.seconds
        notes.add("ok", f"{one.timing.name}: {1000 * seconds:.0f} ms per image, {one.note}")


def _home(container: Container, notes: _Notes) -> None:
    home = container.settings().home
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home):
            pass
    except OSError as error:
        reason = error.strerror or type(error).__name__
        notes.add(
            "failed",
            f"D3 cannot write to {home} ({reason}).",
            "Set D3_HOME to a folder that D3 can write to.",
        )
    else:
        notes.add("ok", f"{home} is writable")


def _database(container: Container, notes: _Notes) -> None:
    schema = container.schema()
    state, revision = schema.state(), schema.current()
    about = (
        f"{schema.database}, {state.value}, revision {revision or 'none'}, newest {schema.head()}"
    )
    container.database().close()
    if state.value in {"at head", "empty"}:
        notes.add("ok", about)
    elif state.value == "behind":
        notes.add("warning", about, "Make a backup, then run `d3 db upgrade`.")
    else:
        notes.add("failed", about, "Set D3_DATABASE_URL to D3's own database, or update D3.")


def _evidence(container: Container, notes: _Notes) -> None:
    from d3.domain.errors import SigningKeyMissing

    try:
        key_id = container.evidence_bundles().keys.key().public.key_id
    except SigningKeyMissing:
        notes.add("ok", "no key to sign evidence with; `d3 keys sign-init` makes one")
    else:
        notes.add("ok", f"signed with the key {key_id}")


def _provenance(container: Container, notes: _Notes) -> None:
    container.decoder()  # reads the certificates
    file = container.settings().c2pa_trust
    notes.add("ok", f"signers are trusted by {file}" if file else "no signer is trusted")


def _redis(container: Container, notes: _Notes) -> None:
    """Whether the server answers that a service would share its cache and limits through."""
    from d3.container import Container
    from d3.domain.ports.history import CacheKey

    settings = container.settings()
    cache = Container(settings=settings, serving=True).cache()
    if settings.redis_url is None or cache is None:
        return
    try:
        cache.get(CacheKey("", "", 1, "", ""))
        if cache.trouble is None:
            notes.add("ok", "the server at D3_REDIS_URL answers")
        else:
            notes.add(
                "warning",
                f"Redis: {cache.trouble}",
                "Until then results are computed again, and there are no rate limits.",
            )
    finally:
        cache.close()


def _key(container: Container, notes: _Notes) -> None:
    from d3.domain.errors import AccessRefused, SchemaMismatch

    kept = container.secrets().key()
    if kept is None:
        notes.add("ok", "this machine has no key; `d3 keys init` creates the first")
        return
    try:
        container.account_service().authenticate(kept)
    except (AccessRefused, SchemaMismatch):
        notes.add(
            "warning",
            f"{container.secrets().key_file} holds a key that is not in this database.",
            "Set D3_DATABASE_URL to the database it belongs to, or run `d3 keys init --replace`.",
        )
    else:
        notes.add("ok", f"the key in {container.secrets().key_file} is accepted")
    finally:
        container.database().close()


def _architectures(container: Container, notes: _Notes) -> None:
    infos = container.models().architectures()
    notes.add("ok", ", ".join(one.name for one in infos if not one.trouble))
    for one in infos:
        if one.trouble:
            notes.add("warning", f"{one.name}: {one.trouble}")


def _models(container: Container, notes: _Notes) -> None:
    service: ModelService = container.models()
    manifests = [one.manifest for one in service.list()]
    if manifests:
        names = ", ".join(one.name for one in manifests)
        notes.add("ok", f"{len(manifests)} in the registry: {names}")
    else:
        notes.add("failed", "The registry is empty.", "Run `d3 models import` to add a model.")
    for manifest in manifests:
        if (trouble := service.trouble(manifest)) is not None:
            notes.add("warning", trouble.problem, trouble.remedy)


def _model(container: Container, notes: _Notes) -> None:
    manifest = container.models().verify(container.host().chosen())
    notes.add(
        "ok", f"{manifest.name} version {manifest.version} is in use and its files are intact"
    )
    if manifest.notice:
        notes.add("warning", manifest.notice)


def _panel(container: Container, notes: _Notes) -> None:
    """Which models of D3_PANEL can be heard."""
    members, rule = container.settings().panel, container.settings().panel_rule
    if not members:
        return
    service: ModelService = container.models()
    for name in members:
        try:
            trouble: D3Error | None = service.trouble(service.verify(name))
        except D3Error as error:
            trouble = error
        if trouble is not None:
            ways = container.pulling().sources()
            remedy = f"Run `d3 models pull {name}`." if name in ways else trouble.remedy
            notes.add("warning", f"{name} of D3_PANEL is missing: {trouble.problem}", remedy)
    notes.add("ok", f"D3_PANEL is {', '.join(members)}; the rule is {rule}")


def _self_test(container: Container, notes: _Notes) -> None:
    """Two scores of a built-in image: alike, and like the recorded one where there is one."""
    service, image = container.detection(), built_in_image()
    first, second = (service.detect(image, views=2).logit for _ in range(2))
    with container.host().using() as model:
        recorded = _recorded(model.manifest)
        # Reduced precision may differ from the recorded float32 score by more.
        tolerance = _TOLERANCE if model.queue.detector.precision == "fp32" else _COARSE
    if first != second:
        notes.add(
            "failed",
            f"The same image scored {first:.6f} the first time and {second:.6f} the second.",
            "Check the machine's memory and the device's driver.",
        )
    elif recorded is None:
        notes.add("ok", f"the built-in image scores {first:.4f} both times")
    elif abs(first - recorded) <= tolerance:
        notes.add("ok", f"the built-in image scores {first:.4f}, as recorded")
    else:
        notes.add(
            "failed",
            f"The built-in image scores {first:.4f} instead of the recorded {recorded:.4f}.",
            "Update torch and the driver, or set CUDA_DEVICE=cpu and D3_PRECISION=fp32.",
        )


def _recorded(manifest: Manifest) -> float | None:
    """The built-in image's logit where the model was made: in its manifest, or beside the starter.

    The starter's file names the weights it was measured with; others have no say in it.
    """
    from d3.container import STARTER_FOLDER

    if _RECORDED in manifest.metrics:
        return float(manifest.metrics[_RECORDED])
    with suppress(OSError):
        beside = json.loads((STARTER_FOLDER / "self_test.json").read_text(encoding="utf-8"))
        if beside["model_sha256"] == manifest.sha256:
            return float(beside[_RECORDED])
    return None


def built_in_image() -> NDArray[np.uint8]:
    """The built-in image: uint8 (224, 224, 3), the same everywhere and for ever."""
    import numpy as np

    y, x = np.mgrid[0:224, 0:224]
    channels = [(x * 255) // 223, (y * 255) // 223, ((x // 28 + y // 28) % 2) * 200]
    return np.stack(channels, axis=-1).astype(np.uint8)


def _print(finding: Finding) -> None:
    from rich.text import Text

    line = Text(f"{finding.state:<8}", style=_COLOURS[finding.state])
    line.append(f"{finding.check:<14}", style="bold")
    line.append(printable(f"{finding.found} {finding.remedy}".rstrip()), style="default")
    out().print(line, soft_wrap=True)
