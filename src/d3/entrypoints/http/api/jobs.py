"""``/api/jobs``: many images judged in the background, each with a result in the history."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Controller, Request, delete, get, post
from litestar.params import Parameter

from d3.domain.accounts import Scope
from d3.domain.history import LARGEST_ID, MAX_PAGE
from d3.domain.jobs import ID_PATTERN
from d3.entrypoints.http.api import openapi
from d3.entrypoints.http.api.answers import Answer
from d3.entrypoints.http.api.history import sees
from d3.entrypoints.http.api.job_requests import JOBS, start_job
from d3.entrypoints.http.api.job_schemas import (
    JobPage,
    JobResults,
    OneJob,
    job_body,
    job_results,
)
from d3.entrypoints.http.callers import requires
from d3.entrypoints.http.services import D3

_REFUSALS = (400, 401, 403, 408, 409, 413, 415, 422, 429, 503)

Name = Annotated[
    str,
    Parameter(description="The `id` of the job.", schema_extra={"pattern": f"^{ID_PATTERN}$"}),
]
Limit = Annotated[int, Parameter(ge=1, le=MAX_PAGE, description="Number of items per page.")]
Offset = Annotated[int, Parameter(ge=0, le=LARGEST_ID, description="Number of jobs to skip.")]


class JobController(Controller):
    """Jobs."""

    path = JOBS
    tags = ("jobs",)

    @post(
        "/",
        operation_id="startJob",
        operation_class=openapi.JobOperation,
        guards=[requires(Scope.PREDICT)],
        status_code=202,
        summary="Judge many images in the background",
        responses=openapi.responses(OneJob, *_REFUSALS, success_status=202),
        request_max_body_size=None,
    )
    async def start(self, request: Request[Any, Any, Any], d3: D3) -> Answer:
        """Take many images and judge them in the background, each with a result in the history.

        Send the files as a form, or links and `s3://` objects as JSON. Answers as soon as all files
        are stored. Ask for `GET /api/jobs/{id}` now and then, or name a `callback` that is told.

        With an ``Idempotency-Key``, a repeated request gets the same answer and no second job.
        """
        return await start_job(request, d3)

    @get(
        "/",
        operation_id="listJobs",
        operation_class=openapi.DescribedOperation,
        guards=[requires(Scope.READ)],
        summary="List jobs",
        responses=openapi.problems(400, 401, 403, 429, 503),
    )
    async def jobs(
        self, request: Request[Any, Any, Any], d3: D3, limit: Limit = 50, offset: Offset = 0
    ) -> JobPage:
        """The caller's jobs, newest first; an administrator sees all."""
        found = await d3.query(d3.jobs.newest, limit, offset, sees(request))
        return JobPage(count=len(found), jobs=[job_body(one) for one in found])

    @get(
        "/{job_id:str}",
        operation_id="getJob",
        operation_class=openapi.DescribedOperation,
        guards=[requires(Scope.READ)],
        summary="Show a job and its results",
        responses=openapi.problems(400, 401, 403, 404, 429, 503),
    )
    async def job(
        self,
        request: Request[Any, Any, Any],
        d3: D3,
        job_id: Name,
        limit: Limit = 50,
        cursor: Annotated[
            str | None,
            Parameter(pattern="^[0-9]{1,9}$", description="`next_cursor` of the previous page."),
        ] = None,
    ) -> JobResults:
        """How far the job is, and a page of its images in the order sent, with their results."""
        after = int(cursor or 0)
        job, items = await d3.query(d3.jobs.page, job_id, after, limit, sees(request))
        return job_results(job, items, limit)

    @delete(
        "/{job_id:str}",
        operation_id="cancelJob",
        operation_class=openapi.DescribedOperation,
        guards=[requires(Scope.PREDICT)],
        status_code=200,
        summary="Cancel a job",
        responses=openapi.problems(400, 401, 403, 404, 429, 503),
    )
    async def cancel(self, request: Request[Any, Any, Any], d3: D3, job_id: Name) -> OneJob:
        """Cancel every image that has no result yet: the job is over at once.

        Results are kept, and a job that is done stays done.
        """
        whose = sees(request, Scope.PREDICT)
        return OneJob(job=job_body(await d3.query(d3.jobs.cancel, job_id, whose)))
