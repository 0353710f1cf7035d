"""Evidence: a result as a signed bundle, and the key that it is checked with."""

from __future__ import annotations

from typing import Any

from litestar import Controller, Request, Response, get

from d3.entrypoints.http.api import openapi
from d3.entrypoints.http.api.history import ResultId, checked_id, sees
from d3.entrypoints.http.api.schemas import EvidenceKey
from d3.entrypoints.http.callers import caller_of
from d3.entrypoints.http.services import D3, Services

ZIP = "application/zip"


class EvidenceController(Controller):
    """Evidence that can be checked without this service."""

    tags = ("history",)

    @get(
        "/api/inference/result/{result_id:str}/evidence",
        operation_id="getEvidence",
        operation_class=openapi.FileOperation,
        summary="Get one result as a signed bundle of evidence",
        responses=openapi.problems(400, 401, 403, 404, 409, 429, 503),
        media_type=ZIP,
    )
    async def evidence(
        self, request: Request[Any, Any, Any], d3: D3, result_id: ResultId
    ) -> Response[bytes]:
        """All that is known of the result, with reports for people, hashes and a signature.

        The service stores no images, so the bundle holds neither image nor heat map. Without a
        signing key (`d3 keys sign-init`), the answer is 409: an unsigned bundle proves nothing.
        """
        number, whose = checked_id(result_id), sees(request)
        content = await d3.run_slowly(bundle, d3, number, whose, caller_of(request).username)
        name = f'attachment; filename="d3-result-{number}.zip"'
        return Response(content, media_type=ZIP, headers={"Content-Disposition": name})

    @get(
        "/api/evidence/key",
        operation_id="getEvidenceKey",
        operation_class=openapi.DescribedOperation,
        summary="Get the public key that evidence is checked with",
        responses=openapi.problems(400, 409, 429, 503),
    )
    async def key(self, d3: D3) -> EvidenceKey:
        """The public half of the key that signs, for everybody who has a bundle of this service."""
        key = await d3.run_slowly(lambda: d3.evidence_bundles.keys.key().public)
        return EvidenceKey(key_id=key.key_id, public_key=key.pem.decode())


def bundle(d3: Services, result_id: int, whose: int | None, made_by: str) -> bytes:
    """The bundle of a stored result.

    Raises:
        ResultNotFound: there is none, or it is another user's.
        SigningKeyMissing: the service has no key to sign with.
    """
    return d3.evidence_bundles.pack(d3.evidence.of_result(result_id, whose, made_by))
