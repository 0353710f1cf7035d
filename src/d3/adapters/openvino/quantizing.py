"""Gives a model an int8 form: made of images, measured against fp32, kept only if it is close."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from d3.adapters.cpu_sizing import worthwhile_threads
from d3.adapters.openvino.engine import OpenVinoEngine, multiplies_int8
from d3.adapters.openvino.export import ENCODER, POSITIONS
from d3.adapters.openvino.search import FOUND, HELD_BACK, JOB, LEARNING, Job
from d3.domain.errors import (
    ArchitectureUnsuitable,
    EngineMissing,
    ImageError,
    ModelProtected,
    QuantizationFailed,
    RequestInvalid,
    StorageFailed,
)
from d3.domain.files import Progress, no_progress, storage_errors
from d3.domain.images import DecodedImage
from d3.domain.installation import extra_missing, own_version
from d3.domain.machine import processor
from d3.domain.models import (
    D3,
    Int8Candidate,
    Int8Form,
    Manifest,
    StoredModel,
    checked_name,
    derived_notice,
    file_of,
)
from d3.domain.ports.images import ImageDecoder
from d3.domain.ports.models import ModelRegistry
from d3.domain.ports.scans import ImageCollection
from d3.domain.scoring import Calibration

IMAGES = 160
"""That are used unless said otherwise."""
FEWEST = 40
_LEARNT = 32
_LEARNT_SHARE = 4
_SEED = 2026
_FP32_MARK = "fitted in fp32"
_ROOM = "Free some space, or set TMPDIR to a folder on a larger disk."
_FULL = "No space left"
_ALMOST_FULL = 2**20


@dataclass(frozen=True, slots=True)
class Quantized:
    """The result of a search.

    Attributes:
        manifest: of the new version.
        unused: files that could not be read, or hold nothing to judge.
    """

    manifest: Manifest
    unused: int


class QuantizeService:
    """Makes, measures and stores int8 forms.

    Args:
        folder: of encoders prepared for OpenVINO.
        collection: opens a folder or a pattern.
    """

    def __init__(
        self,
        registry: ModelRegistry,
        decoder: ImageDecoder,
        collection: Callable[[str], ImageCollection],
        folder: Path,
        progress: Progress | None = None,
    ) -> None:
        self._registry = registry
        self._decoder = decoder
        self._collection = collection
        self._folder = folder
        self._progress = progress or no_progress

    def quantize(
        self,
        name: str,
        images: str,
        *,
        version: int | None = None,
        target: str | None = None,
        limit: int = IMAGES,
        max_mean_drift: float = 0.01,
        max_flips: float = 0.01,
        min_speedup: float = 1.05,
    ) -> Quantized:
        """Store the quickest int8 form within the bounds as the next version of a model.

        Args:
            name: of the model.
            images: a folder, a pattern or ``s3://BUCKET/PREFIX`` of images like those to be judged.
            version: the newest unless said.
            target: the name to store it under; the model's own unless said.
            limit: images to use at most; they are drawn from all of them.
            max_mean_drift: how far a probability may be from fp32 in the mean.
            max_flips: the share of images that may go over to the other side of the threshold.
            min_speedup: over fp32; a form that gains less is not worth its drift.

        Raises:
            EngineMissing: OpenVINO or NNCF is not installed.
            EngineUnavailable: OpenVINO cannot run the model here.
            ModelNotFound: there is no such model.
            ModelProtected: no version can be stored under the name.
            QuantizationFailed: it has an int8 form already, or none is quick and close enough.
            RequestInvalid: there are too few images.
            StorageFailed: there is no room.
        """
        engine = self._engine()
        name = checked_name(name)
        model = self._registry.open(name, version)
        target = checked_name(target or name)
        self._check_target(model, target)
        with _working_folder(model) as work:
            digest, learnt, measured, skipped = self._gather(model, images, limit, work)
            self._progress("Preparing the model", 0, 0)
            prepared = engine.prepared(model)
            job = replace(
                _job(model, prepared),
                max_mean_drift=max_mean_drift,
                max_flips=max_flips,
                min_speedup=min_speedup,
            )
            (work / JOB).write_text(json.dumps(asdict(job)), encoding="utf-8")
            tools = self._step("learn", work)
            found = self._step("measure", work)
            if found["kept"] is None:
                raise _none_kept(found, job)
            form = Int8Form(
                file=file_of(work / FOUND),
                group=found["group"],
                kept=found["kept"],
                candidates=tuple(Int8Candidate(**one) for one in found["candidates"]),
                fp32_seconds=found["fp32_seconds"],
                max_mean_drift=max_mean_drift,
                max_flips=max_flips,
                learnt=learnt,
                measured=measured,
                images_sha256=digest,
                base_sha256=model.manifest.sha256,
                tools=tools | {"d3": own_version(), "processor": processor()["name"]},
            )
            manifest = replace(
                model.manifest,
                name=target,
                int8=form,
                calibration=_marked(model.manifest.calibration),
                notice=derived_notice(model.manifest),
                created_at="",
            )
            stored = self._registry.put(
                StoredModel(manifest, {**model.paths, "int8": work / FOUND})
            )
        return Quantized(stored, skipped)

    def _engine(self) -> OpenVinoEngine:
        for package in ("openvino", "nncf"):
            if find_spec(package) is None:
                raise extra_missing(EngineMissing, "Quantizing", "openvino")
        if not multiplies_int8():
            raise QuantizationFailed(
                "This CPU has no int8 instructions (VNNI), so int8 cannot be measured here.",
                "Run the command on a CPU that has them.",
            )
        return OpenVinoEngine(self._folder, "fp32")

    def _check_target(self, model: StoredModel, target: str) -> None:
        manifest = model.manifest
        if manifest.architecture != D3:
            raise ArchitectureUnsuitable(
                f"The model {manifest.name!r} is a {manifest.architecture}, and only a D3 can be "
                "quantized.",
                "Quantize a D3 on the same encoder: what is beside it uses its int8 form.",
            )
        if manifest.int8 is not None:
            raise QuantizationFailed(
                f"Version {manifest.version} of the model {manifest.name!r} has an int8 form "
                "already.",
                f"Name a version without one: {manifest.name}@VERSION.",
            )
        if any(one.packaged and one.manifest.name == target for one in self._registry.list()):
            raise ModelProtected(
                f"The model {target!r} ships with D3 and cannot be changed.",
                f"Store the new one under another name: --as {target}-int8.",
            )

    def _gather(
        self, model: StoredModel, source: str, limit: int, work: Path
    ) -> tuple[str, int, int, int]:
        """Write the pixels to learn from and to measure on.

        Returns:
            The hash of the images, how many are learnt from and measured on, how many were not
            used.
        """
        collection = self._collection(source)
        collection.check()
        uris = sorted(one.uri for one in collection.list(None))
        random.Random(_SEED).shuffle(uris)  # noqa: S311  a sample, no secret
        drawn: dict[str, DecodedImage] = {}
        skipped = 0
        for uri in uris:
            if len(drawn) == limit:
                break
            try:
                image = self._decoder.decode(collection.read(uri), model.manifest.input_spec.pixels)
            except ImageError:
                skipped += 1
                continue
            if image.facts.lack is not None:
                skipped += 1
                continue
            drawn.setdefault(image.facts.sha256, image)
            self._progress("Reading images", len(drawn), min(limit, len(uris)))
        self._progress("Reading images", len(drawn), len(drawn))
        if len(drawn) < FEWEST:
            also = f" {skipped:,} other files hold no image or only one colour." if skipped else ""
            raise RequestInvalid(
                f"{len(drawn)} different images are too few to quantize a model.{also}",
                f"Use at least {FEWEST} images like those you judge, better {IMAGES}.",
            )
        pixels = np.stack([one.pixels for one in drawn.values()])
        learnt = min(_LEARNT, len(pixels) // _LEARNT_SHARE)
        np.save(work / LEARNING, pixels[:learnt])
        np.save(work / HELD_BACK, pixels[learnt:])
        digest = hashlib.sha256("\n".join(sorted(drawn)).encode()).hexdigest()
        return digest, learnt, len(pixels) - learnt, skipped

    def _step(self, step: str, work: Path) -> dict[str, Any]:
        """Run a child process; what it found."""
        command = [sys.executable, "-P", "-m", "d3.adapters.openvino.search", step, str(work)]
        found: dict[str, Any] | None = None
        with (
            (work / f"{step}.log").open("w+", encoding="utf-8", errors="replace") as log,
            subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True
            ) as child,
        ):
            assert child.stdout is not None
            try:
                for line in child.stdout:
                    told = json.loads(line)
                    if "found" in told:
                        found = told["found"]
                    else:
                        self._progress(told["stage"], told["done"], told["total"])
            finally:
                if found is None:
                    child.kill()
            if (status := child.wait()) or found is None:
                log.seek(0)
                raise _child_failed(work, log.read(), status)
        return found


@contextmanager
def _working_folder(model: StoredModel) -> Iterator[Path]:
    """A temporary folder with room for two int8 forms; an error of the system is one of ours."""
    with (
        storage_errors("The temporary folder cannot be used", _ROOM),
        tempfile.TemporaryDirectory(prefix="d3-int8-") as name,
    ):
        needed = model.manifest.files["encoder"].size_bytes
        if (free := shutil.disk_usage(name).free) < needed:
            raise StorageFailed(
                f"Quantizing needs {needed:,} bytes in the temporary folder, which has {free:,}.",
                _ROOM,
            )
        yield Path(name)


def _job(model: StoredModel, prepared: Path) -> Job:
    manifest = model.manifest
    return Job(
        graph=str(prepared / ENCODER),
        positions=str(prepared / POSITIONS),
        head=str(model.head.resolve()),
        width=manifest.encoder_spec.width,
        permutation=manifest.permutations[0],
        scale=manifest.calibration.scale,
        bias=manifest.calibration.bias,
        threshold=manifest.threshold,
        certain_below=manifest.threshold - manifest.abstain_band.below,
        certain_above=manifest.threshold + manifest.abstain_band.above,
        threads=worthwhile_threads(manifest.encoder_spec),
    )


def _marked(calibration: Calibration) -> Calibration:
    """The calibration with a word in its name, which each result has, that fp32 was fitted."""
    if not calibration.fitted:
        return calibration
    return replace(calibration, name=f"{calibration.name}, {_FP32_MARK}")


def _none_kept(found: dict[str, Any], job: Job) -> QuantizationFailed:
    tried = [Int8Candidate(**one) for one in found["candidates"]]
    lines = "; ".join(
        f"{one.name}: {one.speedup:.2f} times as fast, drift {one.mean_drift:.4f} in the mean and "
        f"{one.max_drift:.3f} at most, {one.flips:.1%} flipped"
        for one in tried
    )
    reached = f"Measured with {found['fp32_seconds']:.3g} s an image in fp32: {lines}."
    if found["within"]:
        return QuantizationFailed(
            f"No int8 form of this model that is close to fp32 is {job.min_speedup:g} times as "
            f"fast, so nothing was stored. {reached}",
            "Small models gain less from int8: keep the model as it is.",
        )
    return QuantizationFailed(
        f"No int8 form of this model is within a mean drift of {job.max_mean_drift:g} and "
        f"{job.max_flips:.1%} flips, so nothing was stored. {reached}",
        "Use more images, or allow more with --max-mean-drift and --max-flips.",
    )


def _child_failed(work: Path, log: str, status: int) -> QuantizationFailed | StorageFailed:
    if _FULL in log or shutil.disk_usage(work).free < _ALMOST_FULL:
        return StorageFailed("The temporary folder is full. Nothing was stored.", _ROOM)
    last = ["", *log.strip().splitlines()][-1]
    if status < 0:
        last = f"its process was ended by signal {-status}; perhaps memory ran out"
    return QuantizationFailed(
        f"The model could not be quantized ({last[:200] or f'exit code {status}'}). Nothing was "
        "stored.",
        "Check the versions of openvino and nncf, and the free memory.",
    )
