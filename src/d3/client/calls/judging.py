"""Judging images: at once, or many in the background as a job."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from d3.client.calls.common import (
    Panel,
    Rule,
    by_cursor,
    by_offset,
    commas,
    get,
    given,
    named,
    once,
    question,
    texts,
    whole,
)
from d3.client.steps import Call, Pages, Pause, Steps, answer
from d3.client.uploads import File, Form
from d3.domain.errors import RequestInvalid
from d3.domain.scans import S3_SCHEME
from d3.entrypoints.http.api.job_schemas import JobBody, JobPage, JobResult, JobResults, OneJob
from d3.entrypoints.http.api.schemas import BatchPrediction, Prediction

_PATH, _JOBS = "/api/inference", "/api/jobs"
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 5.0
"""Seconds between questions for a job."""


def predict(
    image: File,
    *,
    threshold: float | None = None,
    views: int = 1,
    name: str | None = None,
    explain: bool = False,
    panel: Panel | None = None,
    panel_rule: Rule | None = None,
    stability: bool = False,
    frames: Literal["first", "all"] = "first",
) -> Call[Prediction]:
    """Judge one image; safe to retry, since each call carries an idempotency key.

    Args:
        image: a path, an encoded file's bytes, or a link where the service fetches them.
        threshold: in [0, 1]; the model's own unless given.
        views: 1 to 16 permutations to average.
        name: the image's name; a path's own unless given.
        explain: adds an ``explanation``: where the score comes from.
        panel: models that judge together, the chief first; the service's own unless given.
        panel_rule: how their opinions become one verdict; the service's own unless given.
        stability: judges the image again after harmless changes.
        frames: of an animated image that are judged; ``"all"`` gives one verdict too.

    Raises:
        ServiceError: see its ``code``.
    """
    asked = question(threshold, views, panel, panel_rule, stability=stability)
    fields = asked | texts(explain=explain or None, frames=None if frames == "first" else frames)
    if _is_link(image):
        form = Form(fields | {"url": str(image)}, [])
    else:
        form = Form(fields, [("file", name, image)])
    return once(f"{_PATH}/predict", form, answer(Prediction, whole))


def predict_batch(
    images: Iterable[File],
    *,
    threshold: float | None = None,
    views: int = 1,
    panel: Panel | None = None,
    panel_rule: Rule | None = None,
    stability: bool = False,
) -> Call[BatchPrediction]:
    """Judge several images in one request; a bad image has an error instead of a result."""
    fields = question(threshold, views, panel, panel_rule, stability=stability)
    form = Form(fields, [("files", None, image) for image in images])
    return once(f"{_PATH}/predict-batch", form, answer(BatchPrediction, whole))


def predict_video(
    video: File,
    *,
    every: float | None = None,
    most: int | None = None,
    threshold: float | None = None,
    views: int = 1,
    panel: Panel | None = None,
    panel_rule: Rule | None = None,
    stability: bool = False,
    callback: str | None = None,
) -> Call[Prediction | JobBody]:
    """Judge a video by its frames, which gives one verdict; safe to retry, as ``predict``.

    Args:
        video: a path or a file's bytes.
        every: seconds between the frames that are judged.
        most: the most frames that are judged.
        threshold: in [0, 1]; the model's own unless given.
        views: 1 to 16 permutations of each frame to average.
        panel: models that judge together, the chief first; the service's own unless given.
        panel_rule: how their opinions become one verdict; the service's own unless given.
        stability: judges each frame again after harmless changes.
        callback: an address that is told when the job is over; makes a job of any video.

    Returns:
        The result; of a long video a job of one item, for ``wait_for_job`` and ``job_results``.

    Raises:
        ServiceError: see its ``code``.
    """
    asked = question(threshold, views, panel, panel_rule, stability=stability)
    fields = asked | texts(every=every, most=most, callback=callback)
    return once(f"{_PATH}/predict-video", Form(fields, [("file", None, video)]), _judged_or_begun)


def start_job(
    images: Iterable[File],
    *,
    external_ids: Sequence[str] | None = None,
    threshold: float | None = None,
    views: int = 1,
    panel: Panel | None = None,
    panel_rule: Rule | None = None,
    stability: bool = False,
    callback: str | None = None,
    every: float | None = None,
    most: int | None = None,
) -> Call[JobBody]:
    """Let the service judge many images in the background; safe to retry, as ``predict``.

    Args:
        images: paths and files' bytes; or links and ``s3://`` objects that the service may fetch.
            Files are read while they are sent, and at no time all of them are in memory.
        external_ids: your own id for each image, in their order; they come back with the results.
        threshold: in [0, 1]; the model's own unless given.
        views: 1 to 16 permutations to average.
        panel: models that judge together, the chief first; the service's own unless given.
        panel_rule: how their opinions become one verdict; the service's own unless given.
        stability: judges each image again after harmless changes.
        callback: an address that is told when the job is over. The answer's ``callback_secret``
            verifies what comes there.
        every: of clips: seconds between the frames that are judged.
        most: of clips: the most frames that are judged.

    Raises:
        ServiceError: see its ``code``.
        RequestInvalid: there are both links and files.
    """
    sources = list(images)
    own = list(external_ids) if external_ids is not None else []
    if own and len(own) != len(sources):
        raise RequestInvalid(
            f"The number of ids is {len(own)}, that of images {len(sources)}.",
            "Give an id for each, or none.",
        )
    asked = given(
        threshold=threshold,
        views=views,
        panel=commas(panel),
        panel_rule=panel_rule,
        stability=stability or None,
        callback=callback,
        every=every,
        most=most,
    )
    if not any(map(_is_link, sources)):
        form = Form(texts(**asked) | {"external_id": own}, [("files", None, s) for s in sources])
        return once(_JOBS, form, answer(OneJob, _job))
    if not all(map(_is_link, sources)):
        raise RequestInvalid("A job has either links or files.", "Start one job for each.")
    ids: Sequence[str | None] = own or [None] * len(sources)
    items = [
        given(external_id=one, **{"s3" if str(source).startswith(S3_SCHEME) else "url": source})
        for source, one in zip(sources, ids, strict=True)
    ]
    return once(_JOBS, msgspec.json.encode(asked | {"items": items}), answer(OneJob, _job))


def jobs() -> Pages[JobBody]:
    """Your jobs, newest first; pages are fetched as needed."""
    return by_offset(_JOBS, JobPage, lambda page: page.jobs)


def job(job_id: str) -> Call[JobBody]:
    """One job with its counts."""
    return get(named(_JOBS, job_id), OneJob, _job, {"limit": "1"})


def wait_for_job(job_id: str, *, patience: float | None = None) -> Steps[JobBody]:
    """Ask for a job until it is over: done or cancelled.

    Args:
        job_id: of the job.
        patience: seconds to wait; without an end unless given.

    Raises:
        TimeoutError: it is not over by then.
        ServiceError: see its ``code``.
    """
    waited, pause = 0.0, _FIRST_PAUSE
    found: JobBody
    while (found := (yield job(job_id))).state == "running":
        if patience is not None and waited >= patience:
            raise TimeoutError(f"The job {job_id} is not over after {patience:g} seconds.")
        if patience is not None:
            pause = min(pause, patience - waited)
        yield Pause(pause)
        waited, pause = waited + pause, min(2 * pause, _LONGEST_PAUSE)
    return found


def job_results(job_id: str) -> Pages[JobResult]:
    """Every image of a job in the order sent, with its result once it has one."""
    return by_cursor(named(_JOBS, job_id), JobResults, {})


def cancel_job(job_id: str) -> Call[JobBody]:
    """Cancel what has no result yet: the job is over then. Results are kept."""
    read = answer(OneJob, _job)
    return Call(method="DELETE", path=named(_JOBS, job_id), read=read, again=True)


def _is_link(source: File) -> bool:
    return isinstance(source, str) and source.startswith(("http://", "https://", S3_SCHEME))


def _judged_or_begun(content: bytes) -> Prediction | JobBody:
    if "job" in msgspec.json.decode(content, type=dict[str, msgspec.Raw]):
        return msgspec.json.decode(content, type=OneJob).job
    return msgspec.json.decode(content, type=Prediction)


def _job(found: OneJob) -> JobBody:
    return found.job
