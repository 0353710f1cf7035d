"""A client of the D3 service: typed answers, automatic paging, retries.

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
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from d3.adapters.web.clients import new_http_client
from d3.domain.backoff import pause_after
from d3.domain.drift import DriftReport
from d3.domain.errors import D3Error
from d3.domain.labels import MOST_LABELS
from d3.domain.scans import new_scan_name
from d3.entrypoints.http.api.label_schemas import (
    LabelItem,
    Labelled,
    LabelList,
    LabelName,
    OneLabel,
)
from d3.entrypoints.http.api.scan_schemas import (
    OneScan,
    ScanItem,
    ScanPage,
    ScanResultItem,
    ScanResultPage,
)
from d3.entrypoints.http.api.schemas import (
    BatchPrediction,
    Deleted,
    Done,
    DriftAnswer,
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
Panel: TypeAlias = "Sequence[str] | str"
"""Names of models, the chief first; in one text, with commas between them."""
Rule: TypeAlias = Literal["chief", "any", "majority"]
_RETRIED = (429, 503)
_CONFLICT = 409
_IN_FLIGHT = "request_in_flight"
_IN_FLIGHT_SECONDS = 90.0
"""How long to wait for an answer that another process may be working on; one that was killed holds
its request's key for a minute."""
_UNAUTHORIZED = 401
_LONGEST_WAIT = 60.0
_PAGE = 500


class ServiceError(D3Error):
    """The service answered with an error.

    Attributes:
        status: the HTTP status; 0 if no answer came.
        code: the service's stable word.
        request_id: to find the request in the service's logs.
    """

    def __init__(self, status: int, code: str, sentence: str, request_id: str = "") -> None:
        super().__init__(sentence)
        self.status = status
        self.code = code  # type: ignore[misc]  # the service's own, not the class's
        self.request_id = request_id


class Client:
    """Calls a D3 service.

    Args:
        api_key: sent as ``Authorization: Bearer``. None: ``D3_API_KEY``, or the key that a service
            of this machine made at its first start.
        timeout: seconds to wait for an answer.
        retries: how often 429, 503 and lost connections are retried, after what ``Retry-After``
            says. A request that is already being answered is retried for a minute and a half.
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
        panel: Panel | None = None,
        panel_rule: Rule | None = None,
        stability: bool = False,
    ) -> Prediction:
        """Judge one image; safe to retry, since each call carries an idempotency key.

        Args:
            image: a path or an encoded file's bytes.
            threshold: in [0, 1]; the model's own unless given.
            views: 1 to 16 permutations to average.
            name: the image's name; a path's own unless given.
            explain: adds an ``explanation``: where the score comes from.
            panel: models that judge together, the chief first; the service's own unless given.
            panel_rule: how their opinions become one verdict; the service's own unless given.
            stability: judges the image again after harmless changes.

        Raises:
            ServiceError: see its ``code``.
        """
        files = [("file", _named(image, name))]
        asked = _question(threshold, views, panel, panel_rule, stability=stability)
        data = asked | ({"explain": "true"} if explain else {})
        return self._send_images("predict", files, data, Prediction)

    def predict_batch(
        self,
        images: Iterable[File],
        *,
        threshold: float | None = None,
        views: int = 1,
        panel: Panel | None = None,
        panel_rule: Rule | None = None,
        stability: bool = False,
    ) -> BatchPrediction:
        """Judge several images in one request; a bad image has an error instead of a result."""
        files = [("files", _named(image, None)) for image in images]
        data = _question(threshold, views, panel, panel_rule, stability=stability)
        return self._send_images("predict-batch", files, data, BatchPrediction)

    def history(
        self,
        *,
        is_fake: bool | None = None,
        verdict: Literal["fake", "real", "uncertain"] | None = None,
        model: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        q: str | None = None,
        contains: str | None = None,
        label: Literal["real", "generated", "unknown", "none"] | None = None,
        provenance: Literal["generated", "camera", "edited", "nothing"] | None = None,
        image_sha256: str | None = None,
        disagree: bool | None = None,
        sort: Literal["created_at", "prediction", "image_name"] = "created_at",
        order: Literal["asc", "desc"] = "desc",
    ) -> Iterator[HistoryItem]:
        """Every result that matches, newest first; pages are fetched as needed.

        Args:
            is_fake: only these.
            verdict: only these.
            model: only this model's.
            since: judged at this time or later; with a zone.
            until: judged before this time; with a zone.
            q: the image's name begins with this.
            contains: stands anywhere in the image's name, in upper or lower case.
            label: only these; ``"none"``: without a label.
            provenance: only images whose file says this of itself.
            image_sha256: only results of this file.
            disagree: only those of panels whose models contradict each other; False: of panels
                whose models do not.
            sort: what to order by; then by time.
            order: ``"desc"``: the newest or largest first.
        """
        asked = {
            "is_fake": None if is_fake is None else str(is_fake).lower(),
            "verdict": verdict,
            "model": model,
            "since": since.isoformat() if since else None,
            "until": until.isoformat() if until else None,
            "q": q,
            "contains": contains,
            "label": label,
            "provenance": provenance,
            "image_sha256": image_sha256,
            "disagree": None if disagree is None else str(disagree).lower(),
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
        return self._get(f"/api/inference/result/{inference_id}", OneResult).result

    def evidence(self, inference_id: int) -> bytes:
        """A result as a signed bundle of evidence: a zip file.

        Raises:
            ServiceError: ``signing_key_missing`` where the service has no key.
        """
        return self._get(f"/api/inference/result/{inference_id}/evidence", bytes)

    def delete(self, inference_id: int) -> None:
        """Delete one result for good."""
        self._call("DELETE", f"/api/inference/result/{inference_id}", Done)

    def delete_many(self, inference_ids: Iterable[int]) -> list[int]:
        """Delete results for good, a thousand in one transaction; those that were not there."""
        missing: list[int] = []
        for some in _thousands(inference_ids):
            body = {"ids": some}
            answer = self._call("POST", "/api/inference/results/delete", Deleted, json=body)
            missing += answer.missing
        return missing

    def label(
        self, inference_id: int, label: LabelName, *, source: str = "", note: str = ""
    ) -> LabelItem:
        """Say what an image truly is; its verdict stays.

        Args:
            inference_id: of the result.
            label: ``"unknown"`` takes back what was said before.
            source: how it is known, such as ``"photographer"``.
            note: anything else.

        Raises:
            ServiceError: see its ``code``.
        """
        body = {"label": label, "source": source, "note": note}
        path = f"/api/inference/result/{inference_id}/label"
        return self._call("POST", path, OneLabel, json=body).label

    def label_many(
        self,
        inference_ids: Iterable[int],
        label: LabelName,
        *,
        source: str = "",
        note: str = "",
    ) -> int:
        """Give results the same label, a thousand in one transaction; how many there were."""
        said = {"label": label, "source": source, "note": note}
        return sum(
            self._call("POST", "/api/inference/labels", Labelled, json=said | {"ids": some}).count
            for some in _thousands(inference_ids)
        )

    def labels(self, inference_id: int) -> list[LabelItem]:
        """All that was said about a result's image, newest first."""
        return self._get(f"/api/inference/result/{inference_id}/labels", LabelList).labels

    def stats(
        self,
        *,
        bucket: Literal["day", "hour"] | None = None,
        group: Literal["model", "label", "provenance", "agreement"] | None = None,
    ) -> StatsBody:
        """Totals, a time series with ``bucket``, and totals of each group with ``group``."""
        asked: dict[str, str | None] = {"bucket": bucket, "group": group}
        parameters = {name: value for name, value in asked.items() if value is not None}
        return self._get("/api/inference/stats", Stats, parameters).stats

    def drift(
        self,
        model: str | None = None,
        *,
        version: int | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> DriftReport:
        """Whether results are still like the calibration of their model, in all and by day.

        Args:
            model: its name; the one in use unless given.
            version: the newest unless given.
            since: judged at this time or later; with a zone; the last 30 days unless given.
            until: judged before this time; with a zone.
        """
        asked = {
            "model": model,
            "version": None if version is None else str(version),
            "since": since.isoformat() if since else None,
            "until": until.isoformat() if until else None,
        }
        parameters = {name: value for name, value in asked.items() if value is not None}
        return self._get("/api/inference/drift", DriftAnswer, parameters).drift

    def models(self) -> ModelList:
        """All models."""
        return self._get("/api/model/list", ModelList)

    def model(self) -> LoadedModelInfo:
        """The model in use."""
        return self._get("/api/model/info", ModelInfo).info

    def load_model(self, name: str | None = None) -> None:
        """Load a model; the active one unless given."""
        self._call("POST", "/api/model/load", Done, params={"name": name} if name else {})

    def unload_model(self) -> None:
        """Free the model's memory."""
        self._call("POST", "/api/model/unload", Done)

    def upload_model(
        self, head: File, name: str | None = None, *, architecture: str | None = None
    ) -> Uploaded:
        """Store a file as a model.

        Args:
            head: a head, which gets an encoder that the service has, or all that the architecture
                wants.
            name: of the model; that of the file unless given.
            architecture: what the file is of; ``d3`` unless given.

        Raises:
            ServiceError: see its ``code``.
        """
        asked = {"name": name, "architecture": architecture}
        data = {field: text for field, text in asked.items() if text}
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
        panel: Panel | None = None,
        panel_rule: Rule | None = None,
        stability: bool | None = None,
    ) -> ScanItem:
        """Let the service judge a whole prefix; safe to retry, since each scan has an id.

        Args:
            source: ``s3://BUCKET/PREFIX``, or a folder of the server's below its D3_SCAN_FOLDER.
            scan_id: of the scan; an unfinished one is resumed.
            model: the active one unless given.
            threshold: in [0, 1]; the model's own unless given.
            views: 1 to 16 permutations to average.
            panel: names of the models that judge, the chief's first; the service's own unless
                given.
            panel_rule: how their verdicts become one: ``chief``, ``any`` or ``majority``.
            stability: whether harmless changes of each image are judged too.

        Raises:
            ServiceError: see its ``code``.
        """
        asked = {
            "model": model,
            "threshold": threshold,
            "views": views,
            "panel": _commas(panel),
            "panel_rule": panel_rule,
            "stability": stability,
        }
        body: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
        body |= {"source": source, "id": scan_id or new_scan_name(datetime.now(UTC))}
        return self._call("POST", "/api/scans", OneScan, again=True, json=body).scan

    def scans(self) -> Iterator[ScanItem]:
        """Every scan, newest first; pages are fetched as needed."""
        offset, more = 0, True
        while more:
            asked = {"limit": str(_PAGE), "offset": str(offset)}
            page = self._get("/api/scans", ScanPage, asked)
            yield from page.scans
            offset, more = offset + page.count, page.count == _PAGE

    def scan(self, scan_id: str) -> ScanItem:
        """One scan with its counts."""
        return self._get(_scan(scan_id), OneScan).scan

    def scan_results(
        self, scan_id: str, *, disagree: bool | None = None
    ) -> Iterator[ScanResultItem]:
        """Every result of a scan, by URI.

        Args:
            scan_id: of the scan.
            disagree: only those on which models of a panel contradict each other, or only those on
                which they do not.
        """
        every = {"limit": str(_PAGE)}
        if disagree is not None:
            every["disagree"] = str(disagree).lower()
        asked: dict[str, str] | None = every
        while asked is not None:
            page = self._get(f"{_scan(scan_id)}/results", ScanResultPage, asked)
            yield from page.results
            more = page.next_cursor
            asked = None if more is None else every | {"cursor": more}

    def cancel_scan(self, scan_id: str) -> ScanItem:
        """Stop a scan's workers after their current shard."""
        return self._call("DELETE", _scan(scan_id), OneScan, again=True).scan

    def close(self) -> None:
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
        data: dict[str, str],
        kind: type[_T],
    ) -> _T:
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
                # Whether others took effect is unknown.
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
                if isinstance(response.content, kind):  # a file is wanted as it is
                    return response.content
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


def _question(
    threshold: float | None,
    views: int,
    panel: Panel | None,
    panel_rule: Rule | None,
    *,
    stability: bool,
) -> dict[str, str]:
    """The fields of a form that say how images are judged."""
    asked = {
        "views": str(views),
        "threshold": None if threshold is None else repr(float(threshold)),
        "panel": _commas(panel),
        "panel_rule": panel_rule,
        "stability": "true" if stability else None,
    }
    return {name: text for name, text in asked.items() if text is not None}


def _commas(panel: Panel | None) -> str | None:
    return panel if panel is None or isinstance(panel, str) else ",".join(panel)


def _thousands(ids: Iterable[int]) -> Iterator[list[int]]:
    coming = iter(ids)
    while some := list(islice(coming, MOST_LABELS)):
        yield some


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
    """Longer each time, with jitter."""
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
