"""Where everything is wired: the only module that names concrete adapters.

Adapters, and the services that work with arrays, are imported when they are first needed: no
command waits for what it does not use.
"""

from __future__ import annotations

import gc
import glob
import operator
import os
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dependency_injector import containers, providers

from d3.domain.errors import EngineUnavailable, ImageNotFound, RequestInvalid, SettingsInvalid
from d3.domain.installation import extra_missing, own_version
from d3.domain.machine import free_memory
from d3.domain.panels import PanelRule
from d3.domain.ports.tracing import NULL_TRACER
from d3.domain.scans import S3_SCHEME
from d3.domain.services.accounts import AccountService
from d3.domain.services.drift import DriftService
from d3.domain.services.engines import (
    ALLOWED_DRIFT,
    Candidate,
    Int8Engine,
    MeasuredEngine,
    PreferredEngine,
    runs_on_openvino,
    worth_preparing,
)
from d3.domain.services.evidence import EvidenceService
from d3.domain.services.history_writer import HistoryWriter
from d3.domain.services.key_cache import KeyCache
from d3.domain.services.lanes import LanePool
from d3.domain.services.local_host import LocalModelHost, chosen
from d3.domain.services.model_follower import ActiveModelFollower
from d3.domain.services.model_host import ModelHost, models_work_here
from d3.domain.services.models import ModelImporter, ModelService
from d3.domain.services.pulling import PullService, published_sources
from d3.domain.services.request_log_writer import RequestLogWriter
from d3.domain.services.webhook_delivery import WebhookDelivery
from d3.domain.services.webhooks import WebhookService
from d3.settings import Settings

if TYPE_CHECKING:
    from d3.adapters.bundles import BundleService
    from d3.adapters.evidence import EvidenceBundles
    from d3.adapters.filesystem.secrets import SecretFiles
    from d3.adapters.minio import S3Images, S3Place
    from d3.adapters.openvino.quantizing import QuantizeService
    from d3.adapters.pillow import Limits
    from d3.adapters.provenance import ProvenanceReader
    from d3.adapters.remote import EngineLink, EngineServer
    from d3.adapters.sql import Database, SqlCopier, SqlSchema
    from d3.adapters.torch.device import Precision
    from d3.domain.files import Progress
    from d3.domain.heatmaps import Encode
    from d3.domain.images import ImageSource
    from d3.domain.ports.accounts import Accounts, RateLimiter, Sessions
    from d3.domain.ports.architectures import Architectures
    from d3.domain.ports.clips import ClipReader
    from d3.domain.ports.clock import Clock
    from d3.domain.ports.detector import Detector, Engine, Timings
    from d3.domain.ports.history import History, ResultCache
    from d3.domain.ports.images import ImageDecoder, LinkedImage
    from d3.domain.ports.jobs import JobLedger, Spool
    from d3.domain.ports.models import ModelRegistry
    from d3.domain.ports.queue import DetectionQueue, QueueEvents
    from d3.domain.ports.scans import ImageCollection, ScanCluster, ScanLedger
    from d3.domain.ports.tracing import Tracer
    from d3.domain.ports.webhooks import Outbox, Webhooks, WebhookSender
    from d3.domain.services.clips import ClipService
    from d3.domain.services.detection import DetectionService, ImageJudge, SingleFlight
    from d3.domain.services.explaining import ExplanationService
    from d3.domain.services.jobs.runner import JobRunner
    from d3.domain.services.jobs.service import JobService
    from d3.domain.services.prediction import PredictionService
    from d3.domain.services.replaying import ReplayService
    from d3.domain.services.scans.service import ScanService

_PASS_SECONDS = 120.0
_SPOOL_THREADS = 4
"""That read files of jobs from the spool; a shard of it may have to be fetched first."""
_FETCH_THREADS = 8
"""That fetch images of jobs from elsewhere."""
STARTER_FOLDER = Path(__file__).parent / "starter"


def _clock() -> Clock:
    from d3.adapters.in_process import SystemClock

    return SystemClock()


def _tracer(settings: Settings, clock: Clock, version: str) -> Tracer:
    if not settings.traces:
        return NULL_TRACER
    try:
        from d3.adapters.otel import OpenTelemetryTracer
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("opentelemetry"):
            raise
        otherwise = "Set D3_TRACES to False."
        raise extra_missing(SettingsInvalid, "D3_TRACES", "otel", otherwise=otherwise) from error
    return OpenTelemetryTracer(clock, version)


def _limits(settings: Settings) -> Limits:
    from d3.adapters.pillow import Limits

    return Limits(
        bytes=settings.max_image_bytes,
        pixels=settings.max_image_pixels,
        side=settings.max_image_side,
        jpeg_scans=settings.max_jpeg_scans,
    )


def _png() -> Encode:
    from d3.adapters.pillow import png

    return png


def _pictures() -> Mapping[str, Encode]:
    from d3.adapters.pillow import PICTURES

    return PICTURES


def _decoder(settings: Settings) -> ImageDecoder:
    from d3.adapters.pillow import PillowDecoder

    return PillowDecoder(_limits(settings), _provenance(settings))


def _prompts(settings: Settings) -> Callable[[ImageSource], list[str]]:
    from d3.adapters.pillow import PillowDecoder

    return PillowDecoder(_limits(settings)).prompts


def _provenance(settings: Settings) -> ProvenanceReader:
    from d3.adapters.provenance import ProvenanceReader, read_trust

    trust = read_trust(settings.c2pa_trust) if settings.c2pa_trust is not None else ""
    return ProvenanceReader(trust, settings.keep_position, settings.watermarks)


def _isolated_decoder(settings: Settings) -> ImageDecoder:
    from d3.adapters.pillow.isolated import IsolatedDecoder

    return IsolatedDecoder(_limits(settings), settings.decode_seconds, _provenance(settings))


def _untrusted_decoder(settings: Settings, isolated: Callable[[], ImageDecoder]) -> ImageDecoder:
    """For what a service decodes: untrusted files."""
    return isolated() if settings.isolate_decoding else _decoder(settings)


def _folder_registry(settings: Settings) -> ModelRegistry:
    from d3.adapters.filesystem import FilesystemRegistry

    return FilesystemRegistry(settings.models_folder, packaged=[STARTER_FOLDER])


def _s3_registry(
    settings: Settings, architectures: Callable[[], Architectures], progress: Progress | None
) -> ModelRegistry:
    from d3.adapters.minio import AdoptingRegistry, MinioRegistry

    registry = MinioRegistry(
        _s3_place(settings),
        settings.cache_folder,
        [STARTER_FOLDER],
        progress,
        cache_bytes=settings.model_cache_bytes,
    )
    return AdoptingRegistry(registry, ModelImporter(registry, architectures, settings.encoder))


def _s3_place(settings: Settings) -> S3Place:
    from d3.adapters.minio import S3Place

    if settings.minio_endpoint is None:
        raise SettingsInvalid(
            "No S3 store is configured.",
            "Set MINIO_ENDPOINT, MINIO_ACCESS_KEY and MINIO_SECRET_KEY.",
        )
    return S3Place(
        endpoint=settings.minio_endpoint,
        bucket=settings.minio_bucket_name,
        access_key=settings.minio_access_key,
        secret_key=settings.minio_secret_key,
        secure=settings.minio_secure,
        region=settings.s3_region,
    )


def _store(settings: Settings) -> str:
    return "folder" if settings.minio_endpoint is None else "s3"


def _where(engine_sockets: Sequence[Path]) -> str:
    """Where models run: in this process, or in engine processes."""
    return "elsewhere" if engine_sockets else "here"


def _architectures() -> Architectures:
    models_work_here()  # they compute with torch when they read checkpoints
    from d3.adapters.torch import TorchArchitectures

    return TorchArchitectures()


def _fetch(progress: Progress | None) -> Callable[[str, Path, int], bool]:
    from d3.adapters.web import HttpFetcher

    return HttpFetcher(progress).fetch


def _links(settings: Settings) -> Callable[[str], LinkedImage]:
    from d3.adapters.web import GuardedLinks

    links = GuardedLinks(settings.max_image_bytes, settings.fetch_seconds, settings.fetch_allow)
    return links.fetch


def _receivers(settings: Settings, version: str) -> WebhookSender:
    from d3.adapters.web import WebhookReceivers

    return WebhookReceivers(settings.webhook_seconds, version, settings.webhook_allow)


def _check_receiver(settings: Settings, url: str) -> str:
    from d3.adapters.web import check_receiver

    return check_receiver(url, settings.webhook_allow)


def _webhook_rows(database: Database) -> Webhooks:
    from d3.adapters.sql import SqlWebhooks

    return SqlWebhooks(database)


def _outbox(database: Database) -> Outbox:
    from d3.adapters.sql import SqlOutbox

    return SqlOutbox(database)


def _bundling(
    registry: ModelRegistry, architectures: Callable[[], Architectures], progress: Progress | None
) -> BundleService:
    from d3.adapters.bundles import BundleService

    return BundleService(registry, architectures, progress)


def _evidence_bundles(settings: Settings) -> EvidenceBundles:
    from d3.adapters.evidence import EvidenceBundles, SigningKeyFile

    return EvidenceBundles(SigningKeyFile(settings.signing_key_file))


def _replaying(**parts: Any) -> ReplayService:
    from d3.domain.services.replaying import ReplayService

    return ReplayService(**parts)


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Importing torch leaves little garbage, and looking for it takes a tenth of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _torch_engine(settings: Settings, precision: Precision | None = None) -> Engine:
    with _without_garbage_collection():
        from d3.adapters.torch import TorchEngine

    asked = precision or settings.effective_precision
    return TorchEngine(settings.cuda_device, asked, settings.batch_size)


def _openvino_engine(settings: Settings, precision: Precision | None = None) -> Engine:
    from d3.adapters.openvino import OpenVinoEngine

    return OpenVinoEngine(
        settings.cache_folder / "openvino",
        precision or settings.effective_precision,
        settings.batch_size,
    )


def _engine(settings: Settings, timings: Callable[[], Timings], clock: Clock) -> Engine:
    """The engine and the precision that were asked for; what was left to D3 is measured."""
    torch, openvino = partial(_torch_engine, settings), partial(_openvino_engine, settings)
    precision = settings.effective_precision
    if settings.engine == "openvino":
        if isinstance(settings.cuda_device, int):
            warnings.warn(
                f"OpenVINO runs on the CPU, so CUDA_DEVICE={settings.cuda_device} is not used. Set "
                "D3_ENGINE=torch to use the GPU, or CUDA_DEVICE=cpu to hide this warning.",
                RuntimeWarning,
                stacklevel=2,
            )
        installed = openvino()  # else an error that names the extra, at once
        preferred = _measured(settings, timings, clock, ["openvino"]) or installed
        return PreferredEngine(lambda: preferred, torch, runs_on_openvino)
    here = settings.engine == "auto" and find_spec("openvino") is not None
    if not _on_cpu(settings):
        return torch()
    if precision == "bf16" and here:
        return PreferredEngine(openvino, torch, worth_preparing)
    engines = ["torch", "openvino"] if here else ["torch"]
    return _measured(settings, timings, clock, engines) or torch()


def _measured(
    settings: Settings, timings: Callable[[], Timings], clock: Clock, engines: list[str]
) -> Engine | None:
    """The quickest of these engines on the CPU, the first's float32 first; None for no choice."""
    asked = settings.effective_precision
    if asked not in ALLOWED_DRIFT:
        return None
    make = {"torch": _torch_engine, "openvino": _openvino_engine}
    precisions: list[Precision] = ["fp32"]
    if asked == "fast":  # no other arithmetic is as exact as `auto` promises
        from d3.network.precision import processor_has_bfloat16

        precisions += ["bf16"] if processor_has_bfloat16() else []
    candidates = [
        Candidate(engine, precision, partial(make[engine], settings, precision))
        for engine in engines
        for precision in precisions
    ]
    if len(candidates) == 1:
        return None
    return MeasuredEngine(candidates, ALLOWED_DRIFT[asked], timings(), clock)


def _timings(settings: Settings) -> Timings:
    from d3.adapters.filesystem.timings import TimingFiles
    from d3.domain.machine import available_cores, processor

    machine = {
        "processor": processor(),
        "cores": available_cores(),
        "torch": _version_of("torch"),
        "openvino": _version_of("openvino"),
    }
    if settings.engine != "openvino":  # which does without torch
        with _without_garbage_collection():
            import torch

        machine["threads"] = torch.get_num_threads()
    return TimingFiles(settings.cache_folder / "timings", machine)


def _version_of(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _int8_engine(settings: Settings) -> Engine:
    """The engine of int8 forms.

    Raises:
        EngineUnavailable: it is not installed, not wanted, or a GPU is used.
    """
    if settings.engine == "torch":
        raise EngineUnavailable("Only OpenVINO can run int8, and D3_ENGINE is torch.")
    if not _on_cpu(settings):
        raise EngineUnavailable("Only a CPU can run int8, and D3 uses a GPU.")
    from d3.adapters.openvino import OpenVinoEngine

    return OpenVinoEngine(settings.cache_folder / "openvino", "int8", settings.batch_size)


def _model_engine(settings: Settings, plain: Callable[[], Engine]) -> Engine:
    """What loads any model: int8 where a model has it, unless a precision was asked for."""
    if settings.effective_precision in {"fp32", "fp16", "bf16"}:
        return plain()
    return Int8Engine(partial(_int8_engine, settings), plain)


def _quantizing(settings: Settings, **parts: Any) -> QuantizeService:
    from d3.adapters.openvino.quantizing import QuantizeService

    return QuantizeService(folder=settings.cache_folder / "openvino", **parts)


def _on_cpu(settings: Settings) -> bool:
    if settings.cuda_device == "cpu":
        return True
    with _without_garbage_collection():
        import torch

    return not torch.cuda.is_available()


def _single_flight(cache: ResultCache | None) -> SingleFlight:
    from d3.domain.services.detection import SingleFlight

    return SingleFlight(cache)


def _judge(**parts: Any) -> ImageJudge:
    from d3.domain.services.detection import ImageJudge

    return ImageJudge(**parts)


def _detection(**parts: Any) -> DetectionService:
    from d3.domain.services.detection import DetectionService

    return DetectionService(**parts)


def _prediction(**parts: Any) -> PredictionService:
    from d3.domain.services.prediction import PredictionService

    return PredictionService(**parts)


def _explaining(**parts: Any) -> ExplanationService:
    from d3.domain.services.explaining import ExplanationService

    return ExplanationService(**parts)


def _clip_reader(settings: Settings) -> ClipReader:
    from d3.adapters.video.reader import ClipLimits, IsolatedClips

    return IsolatedClips(
        ClipLimits(
            bytes=settings.max_video_bytes,
            seconds=settings.max_video_seconds,
            cpu_seconds=settings.video_cpu_seconds,
        ),
        _limits(settings),
    )


def _clips(**parts: Any) -> ClipService:
    from d3.domain.services.clips import ClipService

    return ClipService(**parts)


def _scans(**parts: Any) -> ScanService:
    from d3.domain.services.scans.service import ScanService

    return ScanService(**parts)


def _queue(
    detector: Detector,
    clock: Clock,
    settings: Settings,
    events: QueueEvents | None,
    tracer: Tracer,
    *,
    serving: bool,
) -> DetectionQueue:
    """A detector's queue: bounded for a service, which refuses what is too much."""
    from d3.adapters.batching import Bounds, ThreadedQueue

    if not serving:
        return ThreadedQueue(detector, clock, Bounds.offline(settings.batch_size), events, tracer)
    bounds = Bounds(
        batch_size=settings.batch_size,
        images=settings.queue_images,
        size_bytes=settings.queue_bytes,
        bulk_share=settings.bulk_percent / 100,
    )
    return ThreadedQueue(detector, clock, bounds, events, tracer)


def _take_turns(queues: Collection[DetectionQueue]) -> None:
    """Let detectors that share this process's cores score one after another."""
    from d3.adapters.batching import ThreadedQueue, Turns

    turns = Turns()
    for one in queues:
        if isinstance(one, ThreadedQueue) and one.detector.device == "cpu":
            one.turns = turns


def _free_memory(settings: Settings) -> int | None:
    """Bytes that are left for a model; None on a GPU, which says itself that it is full."""
    on_cpu = settings.engine == "openvino" or _on_cpu(settings)
    return free_memory() if on_cpu else None


def import_for_fronts() -> None:
    """Import what every front needs, so that those forked from this process have it already."""
    for name in (
        *("d3.adapters.evidence", "d3.adapters.limits", "d3.adapters.pillow.isolated"),
        "d3.adapters.remote",
        *("d3.adapters.sql", "d3.domain.services.explaining", "d3.domain.services.prediction"),
        *("d3.domain.services.jobs.service", "d3.domain.services.scans.service"),
    ):
        import_module(name)


def _database(settings: Settings) -> Database:
    from d3.adapters.sql import Database

    return Database(
        settings.database,
        pool_size=settings.database_pool_size,
        prepared=settings.database_prepared,
    )


def _schema(database: Database) -> SqlSchema:
    from d3.adapters.sql import SqlSchema

    return SqlSchema(database)


def _history(database: Database) -> History:
    from d3.adapters.sql import SqlHistory

    return SqlHistory(database)


def _accounts(database: Database) -> Accounts:
    from d3.adapters.sql import SqlAccounts

    return SqlAccounts(database)


def _secrets(settings: Settings) -> SecretFiles:
    from d3.adapters.filesystem.secrets import SecretFiles

    return SecretFiles(settings.key_file, settings.secret_key_file)


def _engine_links(sockets: Sequence[Path], version: str) -> list[EngineLink]:
    from d3.adapters.remote import EngineLink

    return [EngineLink(path, f"process {os.getpid()}", version) for path in sockets]


def _remote_host(
    settings: Settings,
    links: Sequence[EngineLink],
    registry: ModelRegistry,
    clock: Clock,
    events: QueueEvents | None,
) -> ModelHost:
    from d3.adapters.remote import RemoteModelHost

    name = partial(chosen, registry, settings.chief)
    bounds = settings.queue_images, settings.queue_bytes
    return RemoteModelHost(links, name, *bounds, clock, events, _rule(settings))


def _engine_server(
    host: LocalModelHost, single_flight: SingleFlight, limiter: RateLimiter, version: str
) -> EngineServer:
    from d3.adapters.remote import EngineServer

    server = EngineServer(host, single_flight, limiter, version)
    host.changed = server.tell_all
    return server


def _limiter(settings: Settings, secrets: SecretFiles, links: Sequence[EngineLink]) -> RateLimiter:
    """Counts in this process, or where all processes count: in Redis, or in the engine process."""
    from d3.adapters.limits import CountingLimiter

    if links and settings.redis_url is None:
        from d3.adapters.remote import RemoteLimiter

        return RemoteLimiter(links[0])

    if settings.redis_url is None:
        return CountingLimiter(b"")
    return CountingLimiter(_secret_key(settings, secrets).encode(), settings.redis_url)


def _sessions(settings: Settings, secrets: SecretFiles, clock: Clock) -> Sessions:
    from d3.adapters.sessions import SignedSessions

    return SignedSessions(_secret_key(settings, secrets), clock, settings.session_hours * 3600)


def _secret_key(settings: Settings, secrets: SecretFiles) -> str:
    return settings.secret_key or secrets.secret_key()


def _scan_ledger(database: Database) -> ScanLedger:
    from d3.adapters.sql import SqlScanLedger

    return SqlScanLedger(database)


def _job_ledger(database: Database) -> JobLedger:
    from d3.adapters.sql import SqlJobLedger

    return SqlJobLedger(database)


def _spool(settings: Settings) -> Spool:
    """Where the files of jobs wait: a folder, or a prefix of a bucket."""
    place = settings.spool_place
    if isinstance(place, Path):
        from d3.adapters.filesystem import FolderSpool

        return FolderSpool(place)
    from d3.adapters.minio import S3Spool

    bucket, _, prefix = place.removeprefix(S3_SCHEME).partition("/")
    return S3Spool(_s3_images(settings).bucket(bucket), prefix, settings.cache_folder / "spool")


def _jobs(settings: Settings, **parts: Any) -> JobService:
    from d3.domain.services.jobs.service import JobLimits, JobService

    limits = JobLimits(
        items=settings.max_job_items,
        file_bytes=max(settings.max_image_bytes, settings.max_video_bytes),
        spool_bytes=settings.spool_bytes,
        days=settings.job_days,
    )
    return JobService(limits=limits, **parts)


def _job_runner(settings: Settings, **parts: Any) -> JobRunner:
    """What works on jobs: on what lies in the spool, and apart from it on what has to be fetched.

    So no slow server of a link delays files that are there.
    """
    from d3.domain.jobs import ItemPlace
    from d3.domain.services.jobs.runner import JobRunner
    from d3.domain.services.jobs.worker import JobWorker
    from d3.domain.services.pipeline import Pipeline

    judge, decoder, isolated = (parts.pop(name) for name in ("judge", "decoder", "isolated"))
    pool, version, links = (parts.pop(name) for name in ("pool", "version", "links"))
    clips, tracer = parts.pop("clips"), parts.pop("tracer")
    pipeline = partial(
        Pipeline,
        judge,
        decoder,
        isolated=isolated,
        batch_size=settings.batch_size,
        decoding=pool,
        clips=clips,
    )
    images = cache(partial(_s3_images, settings))

    def fetch(place: ItemPlace, source: str) -> bytes:
        return images().read(source) if place is ItemPlace.S3 else links()(source).data

    def workers() -> list[JobWorker]:
        shared = parts["ledger"](), parts["spool"](), parts["host"], fetch
        rest = parts["clock"], version
        return [
            JobWorker(
                *shared,
                pipeline(threads=_SPOOL_THREADS),
                *rest,
                {ItemPlace.SPOOL},
                clips.sampling,
                tracer,
            ),
            JobWorker(
                *shared,
                pipeline(threads=_FETCH_THREADS, ahead=_FETCH_THREADS),
                *rest,
                {ItemPlace.LINK, ItemPlace.S3},
                clips.sampling,
                tracer,
            ),
        ]

    receiving = timedelta(seconds=max(2 * settings.upload_seconds, 3600))
    return JobRunner(workers, receiving=receiving, close=isolated.close, **parts)


def _collection(settings: Settings, decoder: ImageDecoder, source: str) -> ImageCollection:
    """The images at ``s3://BUCKET/PREFIX``, in a folder, of a pattern, or listed by a file."""
    from d3.adapters.filesystem import FolderCollection, ListCollection, PatternCollection

    if source.startswith(S3_SCHEME):
        from d3.adapters.minio import S3Collection

        return S3Collection(_s3_images(settings), source)
    path = Path(source)
    if os.path.isdir(source):  # noqa: PTH112  Path.is_dir raises where it may not look
        opened = settings.scan_folder
        confined = opened is not None and path.resolve().is_relative_to(opened.resolve())
        return FolderCollection(path, inside=opened if confined else None)
    if os.path.isfile(source):  # noqa: PTH113  likewise
        if decoder.recognises(path):
            raise RequestInvalid(
                f"{path.name!r} is an image, not a folder or a list of images.",
                "Use `d3 detect` for single images.",
            )
        read, check = _listed_elsewhere(settings)
        return ListCollection(path, read, check)
    if glob.has_magic(source):
        return PatternCollection(source)
    raise ImageNotFound(
        "There is no such folder or file.",
        "Name a folder, a pattern, s3://BUCKET/PREFIX, or a file that lists paths or URIs.",
    )


def _listed_elsewhere(
    settings: Settings,
) -> tuple[Callable[[str], ImageSource], Callable[[str], None]]:
    """How an entry of a list is read that is no path, and its place asked for."""
    images = cache(partial(_s3_images, settings))

    def check(uri: str) -> None:
        from d3.adapters.minio import S3Collection
        from d3.adapters.minio.collection import split

        S3Collection(images(), f"{S3_SCHEME}{split(uri)[0]}").check()

    return (lambda uri: images().read(uri)), check


def _s3_images(settings: Settings) -> S3Images:
    from d3.adapters.minio import S3Images

    return S3Images(_s3_place(settings), settings.max_image_bytes)


def _cluster(settings: Settings, address: str, *, isolate: bool = False) -> ScanCluster:
    """The Ray cluster at an address, whose workers have these settings.

    Args:
        settings: of the scan; every node must reach what they name.
        address: ``auto`` or ``HOST:PORT``.
        isolate: whether workers decode as the service does.
    """
    try:
        from d3.adapters.ray import RayCluster
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise extra_missing(SettingsInvalid, "Scanning on a Ray cluster", "ray") from error
    work = partial(_work_on_scan, replace(settings, isolate_decoding=isolate))
    return RayCluster(
        address,
        work,
        cores=settings.ray_cores,
        gpus=settings.cuda_device != "cpu",
        shared=not settings.uses_sqlite,
    )


def _work_on_scan(settings: Settings, name: str, cores: int, gpu: bool) -> None:  # noqa: FBT001
    """What a worker on another machine does: work on a scan until it is over."""
    # Ray shows a worker its own GPU alone.
    own = replace(settings, decode_threads=cores, cuda_device=None if gpu else "cpu")
    with working(own) as container:
        container.scans().resume(name)


@contextmanager
def working(settings: Settings) -> Iterator[Container]:
    """D3 in a process that works on scans: decoding as the service does; closed in the end."""
    container = Container(settings=settings)
    container.decoder.override(container.untrusted_decoder)
    try:
        yield container
    finally:
        container.host().close(_PASS_SECONDS)
        container.decoder().close()
        container.database().close()
        container.tracer().close()


def _copier(settings: Settings, source: str | Path | None, target: str | Path | None) -> SqlCopier:
    """From the embedded database to the one that is set, unless said otherwise."""
    from d3.adapters.sql import Database, SqlCopier

    return SqlCopier(
        Database(source if source is not None else settings.embedded_database),
        Database(target if target is not None else settings.database),
    )


def _rule(settings: Settings) -> PanelRule:
    return PanelRule(settings.panel_rule)


def _warms_up(settings: Settings, serving: bool) -> bool:  # noqa: FBT001
    """Whether a model is timed before anybody waits for it; a script's first image may wait."""
    return serving and settings.warm_up


def _decoding(settings: Settings) -> LanePool:
    return LanePool(settings.decode_threads, settings.bulk_percent / 100, "d3-decode")


def _cache(settings: Settings, serving: bool, sockets: Sequence[Path]) -> ResultCache | None:  # noqa: FBT001
    """A service's cache of results. A script has none, and a front asks an engine process."""
    if not serving or sockets or not settings.cache_entries:
        return None
    if settings.redis_url is not None:
        from d3.adapters.redis import RedisResultCache

        return RedisResultCache(settings.redis_url, settings.cache_seconds)
    from d3.adapters.in_process import MemoryResultCache

    return MemoryResultCache(settings.cache_entries, settings.cache_bytes)


class Container(containers.DeclarativeContainer):
    """D3's parts, each made once and shared by all threads."""

    settings = providers.Dependency(instance_of=Settings)
    clock = providers.ThreadSafeSingleton(_clock)
    version = providers.Callable(own_version)
    tracer = providers.ThreadSafeSingleton(_tracer, settings, clock, version)
    decoder = providers.ThreadSafeSingleton(_decoder, settings)
    prompts = providers.Factory(_prompts, settings)
    png = providers.ThreadSafeSingleton(_png)
    pictures = providers.ThreadSafeSingleton(_pictures)
    isolated_decoder = providers.ThreadSafeSingleton(_isolated_decoder, settings)
    untrusted_decoder = providers.ThreadSafeSingleton(
        _untrusted_decoder, settings, isolated_decoder.provider
    )
    architectures = providers.ThreadSafeSingleton(_architectures)
    progress: providers.Provider[Progress | None] = providers.Object(None)
    folder_registry = providers.ThreadSafeSingleton(_folder_registry, settings)
    s3_registry = providers.ThreadSafeSingleton(
        _s3_registry, settings, architectures.provider, progress
    )
    registry = providers.Selector(
        providers.Callable(_store, settings), folder=folder_registry, s3=s3_registry
    )
    timings = providers.ThreadSafeSingleton(_timings, settings)
    engine = providers.ThreadSafeSingleton(_engine, settings, timings.provider, clock)
    model_engine = providers.ThreadSafeSingleton(_model_engine, settings, engine.provider)
    serving: providers.Provider[bool] = providers.Object(False)
    queue_events: providers.Provider[QueueEvents | None] = providers.Object(None)
    queue = providers.Factory(
        _queue,
        clock=clock,
        settings=settings,
        events=queue_events,
        tracer=tracer,
        serving=serving,
    )
    decoding = providers.ThreadSafeSingleton(_decoding, settings)
    engine_sockets: providers.Provider[Sequence[Path]] = providers.Object(())
    cache = providers.ThreadSafeSingleton(_cache, settings, serving, engine_sockets)
    single_flight = providers.ThreadSafeSingleton(_single_flight, cache)
    judge = providers.ThreadSafeSingleton(_judge, clock=clock, flights=single_flight, tracer=tracer)
    engine_links = providers.ThreadSafeSingleton(_engine_links, engine_sockets, version)
    local_host = providers.ThreadSafeSingleton(
        LocalModelHost,
        registry=registry,
        engine=model_engine.provider,
        queue=queue.provider,
        choice=settings.provided.chief,
        warm_up=providers.Callable(_warms_up, settings, serving),
        members=settings.provided.panel,
        rule=providers.Callable(_rule, settings),
        on_demand=providers.Callable(operator.not_, serving),
        in_use=providers.Object(_take_turns),
        free_memory=providers.Callable(_free_memory, settings).provider,
    )
    remote_host = providers.ThreadSafeSingleton(
        _remote_host, settings, engine_links, registry, clock, queue_events
    )
    host = providers.Selector(
        providers.Callable(_where, engine_sockets), here=local_host, elsewhere=remote_host
    )
    follower = providers.ThreadSafeSingleton(
        ActiveModelFollower,
        registry=registry,
        host=host,
        clock=clock,
        seconds=settings.provided.follow_seconds,
    )
    detection = providers.ThreadSafeSingleton(
        _detection, host=host, decoder=decoder, judge=judge, pool=decoding, tracer=tracer
    )
    clip_reader = providers.ThreadSafeSingleton(_clip_reader, settings)
    clips = providers.ThreadSafeSingleton(
        _clips,
        host=host,
        reader=clip_reader,
        decoder=decoder,
        judge=judge,
        pool=decoding,
        clock=clock,
        most=settings.provided.video_frames,
    )
    explaining = providers.ThreadSafeSingleton(
        _explaining,
        host=host,
        decoder=decoder,
        encode=png,
        pool=decoding,
        clock=clock,
    )
    collection = providers.Factory(_collection, settings, decoder)
    quantizing = providers.ThreadSafeSingleton(
        _quantizing,
        settings,
        registry=registry,
        decoder=decoder,
        collection=collection.provider,
        progress=progress,
    )
    models = providers.ThreadSafeSingleton(
        ModelService,
        registry=registry,
        architectures=architectures.provider,
        host=host,
        encoder=settings.provided.encoder,
    )
    sources = providers.ThreadSafeSingleton(published_sources)
    fetch = providers.ThreadSafeSingleton(_fetch, progress)
    pulling = providers.ThreadSafeSingleton(
        PullService,
        registry=registry,
        models=models,
        fetch=fetch,
        sources=sources.provider,
        folder=settings.provided.pull_folder,
        origin=settings.provided.pull_from,
    )
    links = providers.ThreadSafeSingleton(_links, settings)
    bundling = providers.ThreadSafeSingleton(_bundling, registry, architectures.provider, progress)
    database = providers.ThreadSafeSingleton(_database, settings)
    schema = providers.ThreadSafeSingleton(_schema, database)
    history = providers.ThreadSafeSingleton(_history, database)
    accounts = providers.ThreadSafeSingleton(_accounts, database)
    webhook_rows = providers.ThreadSafeSingleton(_webhook_rows, database)
    outbox = providers.ThreadSafeSingleton(_outbox, database)
    webhook_sender = providers.Factory(_receivers, settings, version)
    check_receiver = providers.Factory(_check_receiver, settings)
    webhooks = providers.ThreadSafeSingleton(
        WebhookService,
        webhooks=webhook_rows,
        outbox=outbox,
        check_url=check_receiver.provider,
        sender=webhook_sender.provider,
        clock=clock,
    )
    webhook_delivery = providers.ThreadSafeSingleton(
        WebhookDelivery,
        outbox=outbox,
        sender=webhook_sender.provider,
        clock=clock,
        seconds=settings.provided.webhook_seconds,
        tracer=tracer,
    )
    account_service = providers.ThreadSafeSingleton(AccountService, accounts=accounts, clock=clock)
    secrets = providers.ThreadSafeSingleton(_secrets, settings)
    limiter = providers.ThreadSafeSingleton(_limiter, settings, secrets, engine_links)
    engine_server = providers.ThreadSafeSingleton(
        _engine_server, local_host, single_flight, limiter, version
    )
    sessions = providers.ThreadSafeSingleton(_sessions, settings, secrets, clock)
    key_cache = providers.ThreadSafeSingleton(KeyCache, accounts=accounts, clock=clock)
    scan_ledger = providers.ThreadSafeSingleton(_scan_ledger, database)
    scans = providers.ThreadSafeSingleton(
        _scans,
        host=host,
        decoder=decoder,
        judge=judge,
        isolated=isolated_decoder,
        clips=clips,
        clock=clock,
        ledger=scan_ledger.provider,
        collection=collection.provider,
        threads=settings.provided.decode_threads,
        batch_size=settings.provided.batch_size,
        tracer=tracer,
    )
    evidence_bundles = providers.ThreadSafeSingleton(_evidence_bundles, settings)
    evidence = providers.ThreadSafeSingleton(
        EvidenceService,
        registry=registry,
        history=history.provider,
        accounts=account_service.provider,
        clock=clock,
        version=version,
    )
    replaying = providers.ThreadSafeSingleton(
        _replaying,
        registry=registry,
        engine=model_engine.provider,
        decoder=decoder,
        pulling=pulling.provider,
    )
    scan_cluster = providers.Factory(_cluster, settings)
    copier = providers.Factory(_copier, settings)
    drift = providers.ThreadSafeSingleton(
        DriftService, history=history, registry=registry, host=host, clock=clock
    )
    history_writer = providers.ThreadSafeSingleton(
        HistoryWriter, history=history, clock=clock, tracer=tracer
    )
    job_ledger = providers.ThreadSafeSingleton(_job_ledger, database)
    spool = providers.ThreadSafeSingleton(_spool, settings)
    jobs = providers.ThreadSafeSingleton(
        _jobs,
        settings,
        ledger=job_ledger.provider,
        spool=spool.provider,
        host=host,
        writer=history_writer,
        clock=clock,
        check_receiver=check_receiver.provider,
    )
    job_runner = providers.ThreadSafeSingleton(
        _job_runner,
        settings,
        ledger=job_ledger.provider,
        spool=spool.provider,
        host=host,
        clock=clock,
        judge=judge,
        decoder=untrusted_decoder,
        isolated=isolated_decoder,
        clips=clips,
        pool=decoding,
        links=links.provider,
        version=version,
        tracer=tracer,
    )
    request_log = providers.ThreadSafeSingleton(RequestLogWriter, history=history, clock=clock)
    prediction = providers.ThreadSafeSingleton(
        _prediction,
        host=host,
        decoder=decoder,
        judge=judge,
        clips=clips,
        pool=decoding,
        writer=history_writer,
        clock=clock,
        version=version,
    )
