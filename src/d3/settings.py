"""Every setting of D3: one frozen object, read once from the environment and a ``.env`` file.

A field's metadata names its variable. Nothing else in D3 reads the environment.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints
from urllib.parse import quote, urlencode, urlsplit

import msgspec
from dotenv import dotenv_values
from msgspec import Meta
from platformdirs import user_data_path

from d3.domain.errors import ModelNameInvalid, RequestInvalid, SettingsInvalid
from d3.domain.machine import available_cores
from d3.domain.models import checked_name
from d3.domain.panels import panel_named
from d3.domain.text import without_logins

Count = Annotated[int, Meta(ge=1)]

_RATE = r"none|[1-9][0-9]{0,8}/(?:second|minute|hour|day)"
_RATE_EXPECTED = "a number per second, minute, hour or day such as 100/minute, or none"
_FORMS = {
    "database_url": (
        r"(?:sqlite:///|postgres://|postgresql://|postgresql\+psycopg://)(?s:.*)",
        "sqlite:///FILE or postgresql://USER:PASSWORD@HOST:PORT/NAME",
    ),
    "minio_endpoint": (
        r"(?:[A-Za-z0-9._-]+|\[[0-9a-fA-F:.]+\])(?::[0-9]{1,5})?",
        "HOST:PORT, without http:// or a path",
    ),
    "minio_bucket_name": (
        r"[a-z0-9](?:[a-z0-9-]|\.(?![.-])){1,61}[a-z0-9]",
        "3 to 63 lowercase letters, digits, '-' and '.'",
    ),
    "s3_region": (r"[A-Za-z0-9][A-Za-z0-9-]{0,62}", "a region such as us-east-1"),
    "redis_url": (
        r"(?:rediss?|unix)://.+",
        "redis://USER:PASSWORD@HOST:PORT/NUMBER, or rediss:// for TLS",
    ),
    "rate_per_key": (_RATE, _RATE_EXPECTED),
    "rate_per_address": (_RATE, _RATE_EXPECTED),
    "rate_failed_keys": (_RATE, _RATE_EXPECTED),
    "allowed_hosts": (
        r"\*|(?:\*\.)?[A-Za-z0-9_](?:[A-Za-z0-9_.-]*)|\[[0-9a-fA-F:.]+\]",
        "names such as d3.example.net or *.example.net, without http:// or a port",
    ),
    "cors_origins": (
        r"\*|null|https?://(?:[A-Za-z0-9_.-]+|\[[0-9a-fA-F:.]+\])(?::[0-9]{1,5})?",
        "origins such as https://app.example.net, without a path",
    ),
    "job_sources": (r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](?:/.*)?", "s3://BUCKET/PREFIX"),
    "api_key": (r"[\x21-\x7e]{1,1024}", "one word of at most 1024 characters"),
}
"""What texts have to look like, by field, and how to say so."""
_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off"}


def _variable(name: str, default: Any, about: str, *, secret: bool = False) -> Any:
    metadata = {"variable": name, "about": about, "secret": secret}
    return field(default=default, repr=not secret, metadata=metadata)


def _users_folder() -> Path:
    """Where this user's programs keep their data."""
    try:
        return user_data_path("d3")
    except RuntimeError as error:
        raise SettingsInvalid(
            "This user has no home folder.", "Set D3_HOME to a folder where D3 can store its data."
        ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What can be set; every field has a default, and the defaults need nothing installed.

    Raises:
        SettingsInvalid: from :meth:`from_environment`, naming every mistake at once.
    """

    home: Path = field(
        default_factory=_users_folder,
        metadata={
            "variable": "D3_HOME",
            "about": "folder for models and the embedded database",
            "secret": False,
        },
    )
    model: str | None = _variable(
        "D3_MODEL", None, "name of the model; unset: the one of `d3 models use`"
    )
    panel: tuple[str, ...] = _variable(
        "D3_PANEL",
        (),
        "models that judge every image, separated by commas, the chief first; unset: one model",
    )
    panel_rule: Literal["chief", "any", "majority"] = _variable(
        "D3_PANEL_RULE", "chief", "how their verdicts become one: chief, any or majority"
    )
    cuda_device: Annotated[int, Meta(ge=0)] | Literal["cpu"] | None = _variable(
        "CUDA_DEVICE", None, "number of the GPU, or cpu; unset: the first GPU, else the CPU"
    )
    precision: Literal["auto", "fast", "fp32", "fp16", "bf16"] = _variable(
        "D3_PRECISION", "auto", "precision of the encoder: auto, fast, fp32, fp16 or bf16"
    )
    engine: Literal["auto", "torch", "openvino"] = _variable(
        "D3_ENGINE", "auto", "engine that runs the model: auto, torch or openvino"
    )
    use_fp16: bool = _variable(
        "USE_FP16", False, "half precision on a GPU; D3_PRECISION overrides it"
    )
    batch_size: Annotated[int, Meta(ge=1, le=4096)] = _variable(
        "D3_BATCH_SIZE", 32, "largest number of images per forward pass"
    )
    warm_up: bool = _variable(
        "D3_WARM_UP", True, "whether the service measures the speed of a model before it uses it"
    )
    queue_images: Annotated[int, Meta(ge=1, le=1_000_000)] = _variable(
        "D3_QUEUE_IMAGES", 1000, "largest number of waiting images per lane (interactive and bulk)"
    )
    queue_bytes: Count = _variable(
        "D3_QUEUE_BYTES", 256 * 2**20, "memory of the waiting images per lane, in bytes"
    )
    bulk_percent: Annotated[int, Meta(ge=1, le=99)] = _variable(
        "D3_BULK_PERCENT",
        20,
        "percent of the work that batches of files get while single images wait",
    )
    request_seconds: Annotated[int, Meta(ge=1, le=3600)] = _variable(
        "D3_REQUEST_SECONDS",
        30,
        "seconds a request may wait for an image; a batch waits this long for each file",
    )
    isolate_decoding: bool = _variable(
        "D3_ISOLATE_DECODING", True, "whether the service decodes images in child processes"
    )
    decode_seconds: Annotated[int, Meta(ge=1, le=600)] = _variable(
        "D3_DECODE_SECONDS", 10, "CPU seconds that a child process may spend on one image"
    )
    max_image_bytes: Count = _variable(
        "D3_MAX_IMAGE_BYTES", 50 * 2**20, "largest image file, in bytes"
    )
    max_image_pixels: Count = _variable(
        "D3_MAX_IMAGE_PIXELS", 120_000_000, "largest number of pixels (width times height)"
    )
    max_image_side: Count = _variable("D3_MAX_IMAGE_SIDE", 30_000, "longest side in pixels")
    max_video_bytes: Count = _variable(
        "D3_MAX_VIDEO_BYTES", 200 * 2**20, "largest video file, in bytes"
    )
    max_video_seconds: Annotated[int, Meta(ge=1, le=86400)] = _variable(
        "D3_MAX_VIDEO_SECONDS", 3600, "seconds of a video that are looked at; the rest is not"
    )
    video_frames: Annotated[int, Meta(ge=1, le=1000)] = _variable(
        "D3_VIDEO_FRAMES", 100, "largest number of frames of a video that are judged"
    )
    video_cpu_seconds: Annotated[int, Meta(ge=1, le=36000)] = _variable(
        "D3_VIDEO_CPU_SECONDS", 300, "CPU seconds that a child process may spend on one video"
    )
    c2pa_trust: Path | None = _variable(
        "D3_C2PA_TRUST",
        None,
        "certificates (PEM) of those who are trusted to certify signers of Content Credentials; "
        "unset: nobody",
    )
    keep_position: bool = _variable(
        "D3_KEEP_POSITION", False, "whether results keep where a photograph was taken"
    )
    watermarks: bool = _variable(
        "D3_WATERMARKS",
        False,
        "whether to look for Stable Diffusion's invisible watermark; takes some milliseconds",
    )
    fetch_links: bool = _variable(
        "D3_FETCH_LINKS", False, "whether the service fetches images from links"
    )
    fetch_seconds: Annotated[int, Meta(ge=1, le=600)] = _variable(
        "D3_FETCH_SECONDS", 15, "seconds that fetching such an image may take"
    )
    fetch_allow: tuple[str, ...] = _variable(
        "D3_FETCH_ALLOW",
        (),
        "private addresses or networks to fetch from, separated by commas; unset: none",
    )
    webhook_allow: tuple[str, ...] = _variable(
        "D3_WEBHOOK_ALLOW",
        (),
        "private addresses or networks that webhooks may be sent to, separated by commas; unset: "
        "none",
    )
    webhook_seconds: Annotated[int, Meta(ge=1, le=600)] = _variable(
        "D3_WEBHOOK_SECONDS", 15, "seconds that the receiver of a webhook may take to answer"
    )
    max_jpeg_scans: Count = _variable(
        "D3_MAX_JPEG_SCANS", 100, "largest number of scans in a progressive JPEG"
    )
    database_url: str | None = _variable(
        "D3_DATABASE_URL",
        None,
        "sqlite:///FILE or postgresql://USER:PASSWORD@HOST:PORT/NAME; unset: POSTGRES_HOST, "
        "else a file in D3_HOME",
        secret=True,
    )
    postgres_host: str | None = _variable(
        "POSTGRES_HOST", None, "PostgreSQL server for the history; unset: the embedded database"
    )
    postgres_port: Annotated[int, Meta(ge=1, le=65535)] = _variable(
        "POSTGRES_PORT", 5432, "port of the PostgreSQL server"
    )
    postgres_user: str = _variable("POSTGRES_USER", "postgres", "user name at the server")
    postgres_password: str | None = _variable(
        "POSTGRES_PASSWORD", None, "password of this user", secret=True
    )
    postgres_db: str = _variable("POSTGRES_DB", "d3_deepfake", "name of the database")
    database_pool_size: Annotated[int, Meta(ge=1, le=1000)] = _variable(
        "D3_DATABASE_POOL_SIZE", 5, "largest number of open database connections"
    )
    database_prepared: Literal["auto", "on", "off"] = _variable(
        "D3_DATABASE_PREPARED",
        "auto",
        "whether to use prepared statements in PostgreSQL; auto: yes, except behind a pooler such "
        "as PgBouncer",
    )
    minio_endpoint: str | None = _variable(
        "MINIO_ENDPOINT",
        None,
        "HOST:PORT of the S3 server for models; unset: a folder in D3_HOME",
    )
    minio_access_key: str | None = _variable(
        "MINIO_ACCESS_KEY", None, "access key at the S3 server; unset: anonymous", secret=True
    )
    minio_secret_key: str | None = _variable(
        "MINIO_SECRET_KEY", None, "secret key at the S3 server", secret=True
    )
    minio_secure: bool = _variable("MINIO_SECURE", False, "whether to use TLS for the S3 server")
    minio_bucket_name: str = _variable(
        "MINIO_BUCKET_NAME", "d3-models", "bucket for models; created if it is missing"
    )
    s3_region: str = _variable("D3_S3_REGION", "us-east-1", "where the bucket is")
    model_cache_bytes: Annotated[int, Meta(ge=0)] = _variable(
        "D3_MODEL_CACHE_BYTES",
        10 * 2**30,
        "bytes that copies of models from S3 may take in D3_HOME; models in use are always kept",
    )
    follow_seconds: Annotated[int, Meta(ge=1, le=3600)] = _variable(
        "D3_FOLLOW_SECONDS", 10, "seconds between the service's checks for a new default model"
    )
    redis_url: str | None = _variable(
        "D3_REDIS_URL",
        None,
        "redis://USER:PASSWORD@HOST:PORT/NUMBER of the shared result cache; unset: each process "
        "has its own",
        secret=True,
    )
    cache_entries: Annotated[int, Meta(ge=0)] = _variable(
        "D3_CACHE_ENTRIES",
        10_000,
        "largest number of results in the result cache of a process; 0: no cache",
    )
    cache_seconds: Annotated[int, Meta(ge=0)] = _variable(
        "D3_CACHE_SECONDS", 7 * 86400, "seconds after which Redis drops a result; 0: never"
    )
    cache_bytes: Annotated[int, Meta(ge=0)] = _variable(
        "D3_CACHE_BYTES", 16 * 2**20, "memory of the result cache, in bytes"
    )
    encoder: str | None = _variable(
        "D3_ENCODER",
        None,
        "model whose encoder is used for uploaded heads; unset: one of the head's width",
    )
    pull_from: str | None = _variable(
        "D3_PULL_FROM",
        None,
        "folder or web address for d3 models pull; unset: where the authors publish the files",
        secret=True,
    )
    host: str = _variable("D3_HOST", "127.0.0.1", "address that d3 serve listens on")
    port: Annotated[int, Meta(ge=0, le=65535)] = _variable(
        "D3_PORT", 5000, "port that d3 serve listens on"
    )
    workers: Annotated[int, Meta(ge=1, le=256)] | Literal["auto"] = _variable(
        "D3_WORKERS",
        1,
        "number of processes of d3 serve that answer requests, or auto; above 1, another process "
        "runs the model",
    )
    decode_threads: Annotated[int, Meta(ge=1, le=256)] = _variable(
        "D3_DECODE_THREADS",
        min(available_cores(), 16),
        "number of images that the service decodes at once",
    )
    max_batch_files: Annotated[int, Meta(ge=1, le=10_000)] = _variable(
        "D3_MAX_BATCH_FILES", 100, "largest number of files in one predict-batch"
    )
    max_batch_bytes: Count = _variable(
        "D3_MAX_BATCH_BYTES", 200 * 2**20, "largest body of one predict-batch, in bytes"
    )
    spool: str | None = _variable(
        "D3_SPOOL",
        None,
        "folder or s3://BUCKET/PREFIX for the files of jobs until they are judged; unset: the S3 "
        "server for models, else a folder in D3_HOME",
    )
    spool_bytes: Count = _variable(
        "D3_SPOOL_BYTES", 10 * 2**30, "bytes that the files of all jobs may take together"
    )
    job_days: Annotated[int, Meta(ge=1, le=3650)] = _variable(
        "D3_JOB_DAYS", 7, "days after which a job is forgotten; its results stay"
    )
    job_sources: tuple[str, ...] = _variable(
        "D3_JOB_SOURCES",
        (),
        "s3://BUCKET/PREFIX below which jobs may name objects, separated by commas; unset: none",
    )
    max_job_items: Annotated[int, Meta(ge=1, le=1_000_000)] = _variable(
        "D3_MAX_JOB_ITEMS", 10_000, "largest number of images in one job"
    )
    max_job_bytes: Count = _variable(
        "D3_MAX_JOB_BYTES", 4 * 2**30, "largest body of a request for a job, in bytes"
    )
    max_model_bytes: Count = _variable(
        "D3_MAX_MODEL_BYTES", 512 * 2**20, "largest head that can be uploaded, in bytes"
    )
    cors_origins: tuple[str, ...] = _variable(
        "D3_CORS_ORIGINS",
        (),
        "origins of web pages that may call the service, separated by commas; unset: none",
    )
    auth: Literal["auto", "required", "off"] = _variable(
        "D3_AUTH",
        "auto",
        "who needs an API key: auto (all callers except those on this machine), required (all) or "
        "off",
    )
    insecure: bool = _variable(
        "D3_INSECURE", False, "confirms D3_AUTH=off, which gives every caller full access"
    )
    secret_key: str | None = _variable(
        "SECRET_KEY",
        None,
        "secret that hashes addresses in a shared Redis and signs console sessions; unset: "
        "created once and stored in D3_HOME",
        secret=True,
    )
    session_hours: Annotated[int, Meta(ge=1, le=8760)] = _variable(
        "D3_SESSION_HOURS", 12, "hours after which a console session ends"
    )
    api_key: str | None = _variable(
        "D3_API_KEY",
        None,
        "API key that the client sends; unset: the key in D3_HOME, only for a service on this "
        "machine",
        secret=True,
    )
    signing_key: Path | None = _variable(
        "D3_SIGNING_KEY",
        None,
        "file with the key (PEM, Ed25519) that signs evidence; unset: signing.pem in D3_HOME",
    )
    tls_cert: Path | None = _variable("D3_TLS_CERT", None, "certificate chain (PEM) for HTTPS")
    tls_key: Path | None = _variable("D3_TLS_KEY", None, "private key (PEM) for HTTPS")
    allowed_hosts: tuple[str, ...] = _variable(
        "D3_ALLOWED_HOSTS",
        (),
        "host names the service accepts, such as *.example.net, separated by commas; unset: any",
    )
    trusted_proxies: tuple[str, ...] = _variable(
        "D3_TRUSTED_PROXIES",
        (),
        "addresses or networks of trusted proxies, whose X-Forwarded-For or Forwarded is used, "
        "separated by commas; unset: none",
    )
    rate_per_key: str = _variable(
        "D3_RATE_PER_KEY",
        "6000/minute",
        "limit on requests per API key, such as 100/second, or none",
    )
    rate_per_address: str = _variable(
        "D3_RATE_PER_ADDRESS",
        "6000/minute",
        "limit on requests per address except loopback, or none",
    )
    rate_failed_keys: str = _variable(
        "D3_RATE_FAILED_KEYS", "10/minute", "limit on refused API keys per address, or none"
    )
    max_requests: Annotated[int, Meta(ge=1, le=1_000_000)] = _variable(
        "D3_MAX_REQUESTS", 2000, "largest number of requests in progress"
    )
    max_connections: Annotated[int, Meta(ge=1, le=1_000_000)] = _variable(
        "D3_MAX_CONNECTIONS", 4000, "largest number of open connections"
    )
    max_connections_per_address: Annotated[int, Meta(ge=1, le=1_000_000)] = _variable(
        "D3_MAX_CONNECTIONS_PER_ADDRESS",
        500,
        "largest number of open connections per address, except loopback and trusted proxies",
    )
    upload_seconds: Annotated[int, Meta(ge=1, le=86400)] = _variable(
        "D3_UPLOAD_SECONDS", 300, "seconds that the body of a request may take to arrive"
    )
    body_bytes: Count = _variable(
        "D3_BODY_BYTES", 512 * 2**20, "bytes that the bodies of all requests may take together"
    )
    scan_folder: Path | None = _variable(
        "D3_SCAN_FOLDER",
        None,
        "folder inside which callers may scan folders; unset: only s3://",
    )
    ray_address: str | None = _variable(
        "D3_RAY_ADDRESS",
        None,
        "auto or HOST:PORT of the Ray cluster that runs the service's scans; unset: a process on "
        "this machine",
    )
    ray_cores: Annotated[int, Meta(ge=1, le=1024)] = _variable(
        "D3_RAY_CORES", 8, "cores per scan worker on Ray nodes without a GPU"
    )
    history_days: Annotated[int, Meta(ge=0, le=36500)] = _variable(
        "D3_HISTORY_DAYS", 0, "days after which results are deleted; 0: never"
    )
    request_log_days: Annotated[int, Meta(ge=0, le=36500)] = _variable(
        "D3_REQUEST_LOG_DAYS", 30, "days after which request records are deleted; 0: never"
    )
    log_addresses: Literal["truncated", "full", "none"] = _variable(
        "D3_LOG_ADDRESSES",
        "truncated",
        "addresses of callers in request records: truncated, full or none",
    )
    log_format: Literal["auto", "text", "json"] = _variable(
        "D3_LOG_FORMAT", "auto", "log format: text or json; auto is text on a terminal, else json"
    )
    log_level: Literal["debug", "info", "warning", "error"] = _variable(
        "D3_LOG_LEVEL", "info", "lowest level that is logged"
    )

    traces: bool = _variable(
        "D3_TRACES",
        False,
        "whether to send traces to an OpenTelemetry collector, which OTEL_EXPORTER_OTLP_ENDPOINT "
        "names; needs the extra otel",
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "home", Path(self.home))  # many will give text

    @property
    def key_file(self) -> Path:
        """Where this machine's own API key is kept, readable by its owner alone."""
        return self.home / "api.key"

    @property
    def secret_key_file(self) -> Path:
        """Where the secret is kept that was made for want of SECRET_KEY."""
        return self.home / "secret.key"

    @property
    def signing_key_file(self) -> Path:
        """Where the key is kept that signs evidence, readable by its owner alone."""
        return self.signing_key or self.home / "signing.pem"

    @property
    def chief(self) -> str | None:
        """Name of the model to use: the panel's first, or the one that is set; None for neither."""
        return self.panel[0] if self.panel else self.model

    @property
    def models_folder(self) -> Path:
        """Where the embedded model registry lies."""
        return self.home / "models"

    @property
    def embedded_database(self) -> Path:
        """The file in which the history is kept where no server is set."""
        return self.home / "d3.db"

    @property
    def spool_place(self) -> str | Path:
        """Where the files of jobs wait: a folder, or ``s3://BUCKET/PREFIX``."""
        if self.spool is not None:
            return self.spool if self.spool.startswith("s3://") else _folder(self.spool)
        if self.minio_endpoint is not None:
            return f"s3://{self.minio_bucket_name}/spool"
        return self.home / "spool"

    @property
    def pull_folder(self) -> Path:
        """Where files lie that are being pulled."""
        return self.home / "pull"

    @property
    def cache_folder(self) -> Path:
        """Where copies of what stands on servers are kept."""
        return self.home / "cache"

    @property
    def database(self) -> str | Path:
        """Where the history is kept: a URL with its password, or the embedded database's file."""
        if self.database_url is not None:
            return self.database_url
        if self.postgres_host is None:
            return self.embedded_database
        user = quote(self.postgres_user, safe="")
        password = f":{quote(self.postgres_password, safe='')}" if self.postgres_password else ""
        name = quote(self.postgres_db, safe="")
        if self.postgres_host.startswith("/"):  # the folder of the server's socket, as with libpq
            where = urlencode({"host": self.postgres_host, "port": self.postgres_port})
            return f"postgresql://{user}{password}@/{name}?{where}"
        host = quote(self.postgres_host, safe="[]:")
        if ":" in host and not host.startswith("["):
            host = f"[{host}]"
        return f"postgresql://{user}{password}@{host}:{self.postgres_port}/{name}"

    def environment(self) -> dict[str, str]:
        """Every variable as :meth:`from_environment` reads it, for another process; empty: unset.

        Passwords and secrets are among them.
        """
        return {one.metadata["variable"]: _text(getattr(self, one.name)) for one in fields(self)}

    @property
    def uses_sqlite(self) -> bool:
        """Whether the history is in a file of this machine, not on a server."""
        return isinstance(self.database, Path) or self.database.startswith("sqlite")

    @property
    def effective_precision(self) -> Literal["auto", "fast", "fp32", "fp16", "bf16"]:
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
        read = read_variables(environ, dotenv)
        if read.mistakes:
            raise SettingsInvalid(
                "Some settings are not valid. " + "; ".join(read.mistakes) + ".",
                "Correct them in the environment or in .env. See .env.example.",
            )
        for name, close in read.unknown.items():
            hint = f"; did you mean {close}?" if close else "."
            warnings.warn(f"{name} is not a setting of D3{hint}", RuntimeWarning, stacklevel=2)
        return cls(**read.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Variables:
    """The variables that are set, and what they mean.

    Attributes:
        given: the text of each that is set and not empty, secrets among them.
        in_environment: names of those that the environment has, which beats the file.
        values: of those that are valid, by field.
        wrong: what is wrong with each of the others, as a sentence that hides secrets.
        clashes: what is wrong with several together.
        unknown: names that look like settings, and the setting that may be meant.
    """

    given: Mapping[str, str]
    in_environment: frozenset[str]
    values: Mapping[str, Any]
    wrong: Mapping[str, str]
    clashes: tuple[str, ...]
    unknown: Mapping[str, str | None]

    @property
    def mistakes(self) -> list[str]:
        """All that is wrong."""
        return [*self.wrong.values(), *self.clashes]


def read_variables(
    environ: Mapping[str, str] | None = None, dotenv: Path | None = Path(".env")
) -> Variables:
    """Read the variables without refusing mistakes; see :meth:`Settings.from_environment`.

    Raises:
        SettingsInvalid: the file cannot be read.
    """
    own = _set(os.environ if environ is None else environ)
    given = _set(_read_dotenv(dotenv)) | own
    types = get_type_hints(Settings, include_extras=True)
    known = {one.metadata["variable"]: one for one in fields(Settings)}
    values: dict[str, Any] = {}
    wrong: dict[str, str] = {}
    for variable, field_ in known.items():
        if variable in given:
            name = field_.name
            try:
                values[name] = _parse(given[variable], types[name], name)
            except (ValueError, ModelNameInvalid, RequestInvalid) as error:
                text = given[variable]
                hidden = without_logins(text, strictly=True)
                shown = "..." if field_.metadata["secret"] else repr(hidden)
                said = str(error).replace(text, hidden)
                wrong[variable] = f"{variable}={shown}: {said}".rstrip(".")
    return Variables(
        given=given,
        in_environment=frozenset(own),
        values=values,
        wrong=wrong,
        clashes=tuple(_clashes(values)),
        unknown=_unknown(given, known),
    )


def _clashes(values: Mapping[str, Any]) -> list[str]:
    """What is wrong with values that are valid one by one."""
    clashes = []
    if "minio_access_key" in values and "minio_secret_key" not in values:
        clashes.append("MINIO_ACCESS_KEY is set, but MINIO_SECRET_KEY is not")
    if values.get("auth") == "off" and not values.get("insecure"):
        clashes.append(
            "D3_AUTH='off': gives every caller full access; set D3_INSECURE=True to confirm"
        )
    if ("tls_cert" in values) != ("tls_key" in values):
        clashes.append("D3_TLS_CERT and D3_TLS_KEY: only one of them is set")
    clashes += _mistakes_of_panel(values.get("panel", ()), values.get("model"))
    return clashes + _mistakes_of_spool(values.get("spool"), values.get("minio_endpoint"))


def _mistakes_of_panel(panel: tuple[str, ...], model: str | None) -> list[str]:
    if not panel or model in {None, panel[0]}:
        return []
    first = f"the first model of D3_PANEL, {panel[0]!r}, is the model in use"
    return [f"D3_MODEL={model!r}: {first}; leave D3_MODEL out"]


def _mistakes_of_spool(spool: str | None, server: str | None) -> list[str]:
    if spool is None or "://" not in spool:
        return []
    if not re.fullmatch(*_FORMS["job_sources"][:1], spool):
        spool = without_logins(spool, strictly=True)
        return [f"D3_SPOOL={spool!r}: expected a folder or s3://BUCKET/PREFIX"]
    return [] if server is not None else [f"D3_SPOOL={spool!r}: MINIO_ENDPOINT is not set"]


def key_of_environment() -> str | None:
    """The API key that the environment has for a client."""
    return os.environ.get("D3_API_KEY", "").strip() or None


def key_for(base_url: str) -> str | None:
    """This machine's own API key, for a service on this machine and for no other."""
    if urlsplit(base_url).hostname not in {"localhost", "127.0.0.1", "::1"}:
        return None
    home = os.environ.get("D3_HOME", "").strip()
    try:
        settings = Settings(home=_folder(home)) if home else Settings()
        return settings.key_file.read_text(encoding="ascii").strip() or None
    except (OSError, ValueError, SettingsInvalid):
        return None


def _parse(text: str, kind: Any, name: str) -> Any:
    """The text as a value of the type, or a ValueError that says what was expected."""
    if kind is Path or kind == Path | None:
        return _folder(text)
    if kind is bool:
        if text.lower() not in _TRUE | _FALSE:
            raise ValueError("expected true or false")
        return text.lower() in _TRUE
    if name in _NAMES:
        return _NAMES[name](text)
    if name in _LISTS:
        return tuple(_LISTS[name](one.strip()) for one in text.split(",") if one.strip())
    if name in _FORMS:
        return _of_form(text, *_FORMS[name])
    if name == "cuda_device":
        text = re.sub(r"^cuda:(?=\d)", "", text.lower())
    try:
        if text == "null":  # None to msgspec; here, unset is said by saying nothing
            raise ValueError(_expectation(kind))
        return msgspec.convert(text, kind, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(_expectation(kind)) from error


def _text(value: Any) -> str:
    """What :func:`_parse` reads as this value."""
    if value is None:
        return ""
    return ",".join(value) if isinstance(value, tuple) else str(value)


def _of_form(text: str, form: str, expected: str) -> str:
    if not re.fullmatch(form, text):
        raise ValueError(f"expected {expected}")
    return text


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError as error:
        raise ValueError("expected addresses or networks such as 10.0.0.0/8") from error


def _origin(text: str) -> str:
    """As browsers send it: small letters, no slash at the end, no port that is the scheme's own."""
    origin = _of_form(text.lower().removesuffix("/"), *_FORMS["cors_origins"])
    return re.sub(r"^(https://.*):443$|^(http://.*):80$", r"\1\2", origin)


def _s3_prefix(text: str) -> str:
    """With a slash at the end, so that what begins alike is another one."""
    return f"{_of_form(text, *_FORMS['job_sources']).rstrip('/')}/"


def _host_name(text: str) -> str:
    """In small letters; a port, which is of no matter, is left out."""
    name = re.sub(r":[0-9]{1,5}$", "", text.lower()) if not text.endswith("]") else text.lower()
    return _of_form(name, *_FORMS["allowed_hosts"]).removesuffix(".")


_NAMES: dict[str, Callable[[str], Any]] = {
    "model": checked_name,
    "encoder": checked_name,
    "panel": panel_named,
}
"""Reads one name or several, by field."""

_LISTS: dict[str, Callable[[str], str]] = {
    "cors_origins": _origin,
    "allowed_hosts": _host_name,
    "trusted_proxies": _network,
    "fetch_allow": _network,
    "webhook_allow": _network,
    "job_sources": _s3_prefix,
}
"""What each entry of a list by commas becomes, by field."""


def _folder(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ValueError("expected a folder; the user in it does not exist") from error


def _expectation(kind: Any) -> str:
    """What a value of the type looks like, for people."""
    origin = get_origin(kind)
    if origin is Literal:
        return "expected " + ", ".join(map(str, get_args(kind)))
    if origin in (Union, UnionType):
        words = [_expectation(one) for one in get_args(kind) if one is not NoneType]
        return " or ".join(words).replace("or expected", "or")
    if origin is Annotated:
        bounds = next(one for one in get_args(kind) if isinstance(one, Meta))
        most = f" to {bounds.le}" if bounds.le is not None else " or more"
        return f"expected a whole number, {bounds.ge}{most}"
    return "expected another kind of value"


def _set(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables that are not empty."""
    return {name: value.strip() for name, value in variables.items() if value.strip()}


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


def _unknown(given: Mapping[str, str], known: Mapping[str, Any]) -> dict[str, str | None]:
    """Names that look like settings and are none, and the setting that may be meant."""
    names = [name for name in sorted(given) if name.startswith("D3_") and name not in known]
    return {name: next(iter(difflib.get_close_matches(name, known, n=1)), None) for name in names}
