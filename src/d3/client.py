"""A client of the D3 service with typed answers, automatic paging and retries.

::

    from d3 import Client

    with Client("http://localhost:5000") as client:
        prediction = client.predict("photo.jpg", threshold=0.5)
        print(prediction.result.verdict, prediction.inference_id)
        for item in client.history(is_fake=True):
            print(item.image_name, item.prediction)

It needs neither torch nor a model, only the service's address.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from d3.adapters.web.clients import new_http_client
from d3.domain.backoff import pause_after
from d3.domain.errors import D3Error
from d3.domain.scans import new_scan_name
from d3.entrypoints.http.api.scan_schemas import (
    OneScan,
    ScanItem,
    ScanPage,
    ScanResultItem,
    ScanResultPage,
)
from d3.entrypoints.http.api.schemas import (
    BatchPrediction,
    Done,
    HistoryItem,
    HistoryPage,
    LoadedModelInfo,
    ModelInfo,
    ModelList,
    OneResult,
    Prediction,
    Stats,
    StatsBody,
    Uploaded,
)
from d3.settings import key_for, key_of_environment

_T = TypeVar("_T")
File: TypeAlias = "str | Path | bytes"
_RETRIED = (429, 503)
_CONFLICT = 409
_IN_FLIGHT = "request_in_flight"
_IN_FLIGHT_SECONDS = 90.0
"""How long an answer is waited for that another process may be working on. One that was killed
keeps its request's key for a minute."""
_UNAUTHORIZED = 401
_LONGEST_WAIT = 60.0
_PAGE = 500


class ServiceError(D3Error):
    """The service answered with an error.

    Attributes:
        status: the HTTP status; 0 if the service did not answer.
        code: the stable code of the error.
        request_id: the id of the request in the service's logs.
    """

    def __init__(self, status: int, code: str, sentence: str, request_id: str = "") -> None:
        super().__init__(sentence)
        self.status = status
        self.code = code  # type: ignore[misc]  # the service's own, not the class's
        self.request_id = request_id


class Client:
    """Calls a D3 service.

    Args:
        base_url: such as ``http://localhost:5000``.
        api_key: sent as ``Authorization: Bearer``. None: ``D3_API_KEY``, or, if a service on this
            machine needs a key, the key in D3_HOME.
        timeout: seconds to wait for an answer.
        retries: how often 429, 503 and lost connections are retried, after the time in
            ``Retry-After``. A request that is already being answered is retried for a minute and a
            half.
        transport: for tests: any transport of httpx.
        sleep: called between retries with the seconds to wait.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        *,
        timeout: float = 60.0,
        retries: int = 5,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        api_key = api_key or key_of_environment()
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = new_http_client(
            base_url, base_url=base_url, headers=headers, timeout=timeout, transport=transport
        )
        self._own_key = None if api_key else key_for(base_url)
        self._retries = retries
        self._sleep = sleep

    def predict(
        self,
        image: File,
        *,
        threshold: float | None = None,
        views: int = 1,
        name: str | None = None,
        explain: bool = False,
    ) -> Prediction:
        """Judge one image. Retries are safe, because each call has an idempotency key.

        Args:
            image: a path or the bytes of an image file.
            threshold: in [0, 1]; by default the model's.
            views: 1 to 16 permutations to average.
            name: name of the image; by default that of the path.
            explain: whether the answer has an ``explanation`` of the score.

        Raises:
            ServiceError: see its ``code``.
        """
        files = [("file", _named(image, name))]
        return self._send_images("predict", files, threshold, views, Prediction, explain=explain)

    def predict_batch(
        self, images: Iterable[File], *, threshold: float | None = None, views: int = 1
    ) -> BatchPrediction:
        """Judge several images in one request; a bad image has an error instead of a result."""
        files = [("files", _named(image, None)) for image in images]
        return self._send_images("predict-batch", files, threshold, views, BatchPrediction)

    def history(
        self,
        *,
        is_fake: bool | None = None,
        verdict: Literal["fake", "real", "uncertain"] | None = None,
        model: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        q: str | None = None,
        sort: Literal["created_at", "prediction", "image_name"] = "created_at",
        order: Literal["asc", "desc"] = "desc",
    ) -> Iterator[HistoryItem]:
        """All results that match, newest first; pages are fetched when they are needed.

        Args:
            is_fake: only results with this ``is_fake``.
            verdict: only results with this verdict.
            model: only results of this model.
            since: only images judged at this time or later; needs a time zone.
            until: only images judged before this time; needs a time zone.
            q: only images whose name starts with this.
            sort: the field to sort by; equal results are sorted by time.
            order: ``"desc"`` puts the newest or largest first.
        """
        asked = {
            "is_fake": None if is_fake is None else str(is_fake).lower(),
            "verdict": verdict,
            "model": model,
            "since": since.isoformat() if since else None,
            "until": until.isoformat() if until else None,
            "q": q,
            "sort": sort,
            "order": order,
        }
        parameters = {name: value for name, value in asked.items() if value is not None}
        cursor: str | None = ""
        while cursor is not None:
            page = self._get(
                "/api/inference/history",
                HistoryPage,
                {**parameters, "limit": str(_PAGE), "cursor": cursor},
            )
            yield from page.results
            cursor = page.next_cursor or None

    def result(self, inference_id: int) -> HistoryItem:
        """One result."""
        return self._get(f"/api/inference/result/{inference_id}", OneResult).result

    def delete(self, inference_id: int) -> None:
        """Permanently delete one result."""
        self._call("DELETE", f"/api/inference/result/{inference_id}", Done)

    def stats(self, *, bucket: Literal["day", "hour"] | None = None) -> StatsBody:
        """Totals, and with ``bucket`` also totals per day or hour."""
        parameters: dict[str, str] = {"bucket": bucket} if bucket else {}
        return self._get("/api/inference/stats", Stats, parameters).stats

    def models(self) -> ModelList:
        """All models in the registry."""
        return self._get("/api/model/list", ModelList)

    def model(self) -> LoadedModelInfo:
        """The model in use."""
        return self._get("/api/model/info", ModelInfo).info

    def load_model(self, name: str | None = None) -> None:
        """Load a model, by default the default model."""
        self._call("POST", "/api/model/load", Done, params={"name": name} if name else {})

    def unload_model(self) -> None:
        """Free the model's memory."""
        self._call("POST", "/api/model/unload", Done)

    def upload_model(self, head: File, name: str | None = None) -> Uploaded:
        """Store a D3 head as a model."""
        data = {"name": name} if name else {}
        file = _named(head, None)
        return self._call("POST", "/api/model/upload", Uploaded, files=[("file", file)], data=data)

    def start_scan(
        self,
        source: str,
        *,
        scan_id: str | None = None,
        model: str | None = None,
        threshold: float | None = None,
        views: int | None = None,
    ) -> ScanItem:
        """Start a scan of a prefix or folder. Retries are safe, because each scan has an id.

        Args:
            source: ``s3://BUCKET/PREFIX``, or a folder on the server inside its D3_SCAN_FOLDER.
            scan_id: name of the scan; the id of an existing scan continues it.
            model: name of the model; by default the service's default model.
            threshold: in [0, 1]; by default the model's.
            views: 1 to 16 permutations to average.

        Raises:
            ServiceError: see its ``code``.
        """
        asked = {"model": model, "threshold": threshold, "views": views}
        body = {name: value for name, value in asked.items() if value is not None}
        body |= {"source": source, "id": scan_id or new_scan_name(datetime.now(UTC))}
        return self._call("POST", "/api/scans", OneScan, again=True, json=body).scan

    def scans(self) -> Iterator[ScanItem]:
        """All scans, newest first; pages are fetched when they are needed."""
        offset, more = 0, True
        while more:
            asked = {"limit": str(_PAGE), "offset": str(offset)}
            page = self._get("/api/scans", ScanPage, asked)
            yield from page.scans
            offset, more = offset + page.count, page.count == _PAGE

    def scan(self, scan_id: str) -> ScanItem:
        """The progress of a scan."""
        return self._get(_scan(scan_id), OneScan).scan

    def scan_results(self, scan_id: str) -> Iterator[ScanResultItem]:
        """The results of a scan so far, by URI."""
        asked: dict[str, str] | None = {"limit": str(_PAGE)}
        while asked is not None:
            page = self._get(f"{_scan(scan_id)}/results", ScanResultPage, asked)
            yield from page.results
            more = page.next_cursor
            asked = None if more is None else {"limit": str(_PAGE), "cursor": more}

    def cancel_scan(self, scan_id: str) -> ScanItem:
        """Cancel a scan; its workers stop when their shard is done."""
        return self._call("DELETE", _scan(scan_id), OneScan, again=True).scan

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _send_images(
        self,
        call: str,
        files: list[tuple[str, tuple[str, bytes]]],
        threshold: float | None,
        views: int,
        kind: type[_T],
        *,
        explain: bool = False,
    ) -> _T:
        data = {"views": str(views)} | ({"explain": "true"} if explain else {})
        if threshold is not None:
            data["threshold"] = repr(float(threshold))
        return self._call(
            "POST",
            f"/api/inference/{call}",
            kind,
            files=files,
            data=data,
            headers={"Idempotency-Key": uuid.uuid4().hex},
        )

    def _get(self, path: str, kind: type[_T], parameters: dict[str, str] | None = None) -> _T:
        return self._call("GET", path, kind, params=parameters or {})

    def _call(
        self, method: str, path: str, kind: type[_T], *, again: bool = False, **what: Any
    ) -> _T:
        repeatable = again or method == "GET" or "headers" in what
        attempt, left = 0, _IN_FLIGHT_SECONDS
        while True:
            last = attempt >= self._retries
            try:
                response = self._http.request(method, path, **what)
            except httpx.TransportError as error:
                # Of others nobody knows whether they took effect.
                if last or not (repeatable or isinstance(error, httpx.ConnectError)):
                    raise ServiceError(
                        0,
                        "no_answer",
                        f"{self._http.base_url} did not answer. Is d3 serve running there?",
                    ) from error
                self._sleep(_backoff(attempt))
                attempt += 1
                continue
            if response.is_success:
                return msgspec.json.decode(response.content, type=kind)
            if response.status_code == _UNAUTHORIZED and self._own_key is not None:
                self._http.headers["Authorization"] = f"Bearer {self._own_key}"
                self._own_key = None
                return self._call(method, path, kind, again=again, **what)
            if response.status_code == _CONFLICT and left > 0:
                conflict = _error_of(response)
                if conflict.code != _IN_FLIGHT:
                    raise conflict
                # The first request may have been ours, with its connection lost.
                pause = min(_retry_after(response, attempt), 2 + _backoff(attempt), left)
                left -= pause
            elif response.status_code not in _RETRIED or last:
                raise _error_of(response)
            else:
                pause = _retry_after(response, attempt)
                attempt += 1
            self._sleep(pause)


def _scan(scan_id: str) -> str:
    return f"/api/scans/{quote(scan_id, safe='')}"


def _named(image: File, name: str | None) -> tuple[str, bytes]:
    if isinstance(image, bytes):
        return name or "image", image
    path = Path(image)
    return name or path.name, path.read_bytes()


def _retry_after(response: httpx.Response, attempt: int) -> float:
    with suppress(ValueError, KeyError):
        return min(float(response.headers["retry-after"]), _LONGEST_WAIT)
    return _backoff(attempt)


def _backoff(attempt: int) -> float:
    """Longer each time, and never the same for many clients at once."""
    return pause_after(attempt + 1, 0.2, _LONGEST_WAIT) * random.uniform(0.5, 1.0)  # noqa: S311


def _error_of(response: httpx.Response) -> ServiceError:
    try:
        body = response.json()
        return ServiceError(
            response.status_code, body["code"], body["error"], body.get("request_id", "")
        )
    except (ValueError, KeyError, TypeError):
        return ServiceError(
            response.status_code,
            "unexpected_answer",
            f"The service answered {response.status_code}. Is this the address of d3 serve?",
        )
