"""The OpenAPI document: committed, complete, true to the service, and shown without the outside."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from d3.entrypoints.http.__main__ import document
from d3.entrypoints.http.api import job_schemas, label_schemas, scan_schemas, schemas
from d3.entrypoints.http.errors import Problem
from movies import movie
from tests.homes import Homes
from tests.service.conftest import Service, painted, running

COMMITTED = Path(__file__).parents[2] / "docs/openapi.json"
DOCUMENT: dict[str, Any] = json.loads(COMMITTED.read_text(encoding="utf-8"))
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
    unsupported_method,
]

schemathesis.openapi.media_type(
    "image/*", st.sampled_from([painted(30), painted(220, "JPEG"), b"", b"words", painted(1)[:50]])
)
schemathesis.openapi.media_type(
    "video/*", st.sampled_from([movie(2), movie(1, 5, "webm", "libvpx-vp9"), b"", b"words"])
)
WITHOUT_INPUT = {
    *("getHealth", "getLiveness", "getReadiness", "getMetrics", "getModelInfo", "listModels"),
    "unloadModel",
}
SCHEMA = schemathesis.openapi.from_dict({**DOCUMENT, "security": []})  # of a service without keys


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def test_the_committed_document_is_this_versions() -> None:
    hint = "It drifted: `nox -s openapi` writes docs/openapi.json anew."
    assert document() == DOCUMENT, hint


def test_every_call_of_the_design_is_in_it_under_a_name_of_its_own() -> None:
    names = {(method, path): one["operationId"] for method, path, one in operations()}
    assert len(set(names.values())) == len(names)
    inference, model = "/api/inference", "/api/model"
    assert names == {
        ("get", "/health"): "getHealth",
        ("get", "/health/live"): "getLiveness",
        ("get", "/health/ready"): "getReadiness",
        ("get", "/metrics"): "getMetrics",
        ("post", f"{inference}/predict"): "predict",
        ("post", f"{inference}/predict-batch"): "predictBatch",
        ("post", f"{inference}/predict-video"): "predictVideo",
        ("post", f"{inference}/explain"): "explain",
        ("get", f"{inference}/history"): "listHistory",
        ("get", f"{inference}/history.csv"): "exportHistoryCsv",
        ("get", f"{inference}/history.jsonl"): "exportHistoryJsonLines",
        ("get", f"{inference}/result/{{result_id}}"): "getResult",
        ("delete", f"{inference}/result/{{result_id}}"): "deleteResult",
        ("post", f"{inference}/result/{{result_id}}/label"): "labelResult",
        ("get", f"{inference}/result/{{result_id}}/labels"): "listLabels",
        ("post", f"{inference}/labels"): "labelResults",
        ("post", f"{inference}/results/delete"): "deleteResults",
        ("get", f"{inference}/result/{{result_id}}/evidence"): "getEvidence",
        ("get", "/api/evidence/key"): "getEvidenceKey",
        ("get", f"{inference}/stats"): "getStatistics",
        ("get", f"{inference}/drift"): "getDrift",
        ("get", f"{model}/info"): "getModelInfo",
        ("post", f"{model}/load"): "loadModel",
        ("post", f"{model}/unload"): "unloadModel",
        ("get", f"{model}/list"): "listModels",
        ("post", f"{model}/upload"): "uploadModel",
        ("post", "/api/jobs"): "startJob",
        ("get", "/api/jobs"): "listJobs",
        ("get", "/api/jobs/{job_id}"): "getJob",
        ("delete", "/api/jobs/{job_id}"): "cancelJob",
        ("post", "/api/scans"): "startScan",
        ("get", "/api/scans"): "listScans",
        ("get", "/api/scans/{scan_id}"): "getScan",
        ("get", "/api/scans/{scan_id}/results"): "listScanResults",
        ("delete", "/api/scans/{scan_id}"): "cancelScan",
        ("post", "/api/webhooks"): "createWebhook",
        ("get", "/api/webhooks"): "listWebhooks",
        ("get", "/api/webhooks/{webhook_id}"): "getWebhook",
        ("patch", "/api/webhooks/{webhook_id}"): "changeWebhook",
        ("delete", "/api/webhooks/{webhook_id}"): "removeWebhook",
        ("post", "/api/webhooks/{webhook_id}/rotate"): "rotateWebhook",
        ("post", "/api/webhooks/{webhook_id}/test"): "testWebhook",
        ("get", "/api/webhooks/{webhook_id}/deliveries"): "listWebhookDeliveries",
        ("get", "/api/webhooks/deliveries"): "listDeliveries",
        ("post", "/api/webhooks/deliveries/{delivery_id}/resend"): "resendDelivery",
    }


def test_every_error_is_the_one_body_with_an_example() -> None:
    for _, path, operation in operations():
        for status, answer in operation["responses"].items():
            if int(status) < 400 or path == "/health/ready":
                continue
            ((kind, media),) = answer["content"].items()
            assert kind == "application/problem+json"
            assert media["schema"] == {"$ref": "#/components/schemas/Problem"}
            for example in media["examples"].values():
                problem = msgspec.convert(example["value"], Problem)
                assert str(problem.status) == status


def test_only_what_everybody_may_ask_needs_no_key() -> None:
    assert DOCUMENT["security"] == [{"bearer": []}, {"apiKey": []}]
    open_to_all = {one["operationId"] for _, _, one in operations() if "security" in one}
    assert open_to_all == {"getHealth", "getLiveness", "getReadiness", "getEvidenceKey"}
    for _, _, one in operations():
        assert one.get("security", None) in (None, [])
        assert ("401" in one["responses"]) is ("security" not in one)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("predict", schemas.Prediction),
        ("predictBatch", schemas.BatchPrediction),
        ("predictVideo", schemas.Prediction),
        ("listHistory", schemas.HistoryPage),
        ("getResult", schemas.OneResult),
        ("deleteResult", schemas.Done),
        ("deleteResults", schemas.Deleted),
        ("labelResult", label_schemas.OneLabel),
        ("listLabels", label_schemas.LabelList),
        ("labelResults", label_schemas.Labelled),
        ("getEvidenceKey", schemas.EvidenceKey),
        ("getStatistics", schemas.Stats),
        ("getDrift", schemas.DriftAnswer),
        ("getModelInfo", schemas.ModelInfo),
        ("loadModel", schemas.ModelLoaded),
        ("unloadModel", schemas.Done),
        ("uploadModel", schemas.Uploaded),
        ("startJob", job_schemas.OneJob),
        ("listJobs", job_schemas.JobPage),
        ("getJob", job_schemas.JobResults),
        ("cancelJob", job_schemas.OneJob),
        ("startScan", scan_schemas.OneScan),
        ("listScans", scan_schemas.ScanPage),
        ("getScan", scan_schemas.OneScan),
        ("cancelScan", scan_schemas.OneScan),
        ("listScanResults", scan_schemas.ScanResultPage),
        ("getHealth", schemas.Health),
        ("getReadiness", schemas.Readiness),
    ],
)
def test_examples_of_answers_hold_exactly_the_fields_of_answers(
    name: str, kind: type[msgspec.Struct]
) -> None:
    (operation,) = [one for _, _, one in operations() if one["operationId"] == name]
    success = min(operation["responses"])
    shown = operation["responses"][success]["content"]["application/json"]["examples"]
    value = shown["answer"]["value"]
    held = json.loads(msgspec.json.encode(msgspec.convert(value, kind)))
    assert held == value


@pytest.mark.parametrize(
    ("kind", "may_be_absent"),
    [
        ("HistoryItem", set()),
        ("Opinion", set()),
        ("HistoryPage", {"total", "next_cursor"}),
        ("Prediction", {"explanation"}),
        ("LabelRequest", {"note", "source"}),
    ],
)
def test_answers_require_what_they_always_have(kind: str, may_be_absent: set[str]) -> None:
    schema = DOCUMENT["components"]["schemas"][kind]
    assert set(schema["required"]) == schema["properties"].keys() - may_be_absent


@pytest.mark.parametrize(
    "name", ["predict", "predictBatch", "predictVideo", "startJob", "uploadModel"]
)
def test_the_forms_say_what_they_take(name: str) -> None:
    (operation,) = [one for _, _, one in operations() if one["operationId"] == name]
    form = operation["requestBody"]["content"]["multipart/form-data"]
    assert operation["requestBody"]["required"] is True
    needed = {
        "predictBatch": ["files"],
        "predictVideo": ["file"],
        "startJob": ["files"],
        "uploadModel": ["file"],
    }
    assert form["schema"].get("required") == needed.get(name)
    # Generators that meet a choice among requirements make a client that sends no body.
    assert not {"anyOf", "oneOf", "allOf"} & form["schema"].keys()
    assert set(form["examples"]["form"]["value"]) <= set(form["schema"]["properties"])


def test_the_page_and_its_scripts_come_from_the_service(service: Service) -> None:
    page = service.http.get("/schema")
    assert page.headers["content-type"].startswith("text/html")
    assert "//" not in page.text
    assert not re.search("https?:", page.text)
    links = re.findall(r'(?:src|href|url)(?:=|: )"([^"]+)"', page.text)
    assert {link.rsplit("/", 1)[1] for link in links} >= {
        "swagger-ui.css",
        "swagger-ui-bundle.js",
        "openapi.json",
    }
    for address in ("/schema", "/schema/"):
        page = service.http.get(address)
        for link in re.findall(r'(?:src|href|url)(?:=|: )"([^"]+)"', page.text):
            answer = service.http.get(urljoin(str(page.url), link))
            assert answer.status_code == 200, link
            assert len(answer.content) > 500
    served = service.http.get("/schema/openapi.json").json()
    assert served | {"servers": DOCUMENT["servers"]} == DOCUMENT


@pytest.mark.parametrize("address", ["/docs", "/docs/"])
def test_the_page_is_found_where_people_look(service: Service, address: str) -> None:
    page = service.http.get(address, follow_redirects=True)
    assert page.url.path == "/schema"
    assert "swagger-ui-bundle.js" in page.text


def test_the_document_is_where_generators_look(service: Service) -> None:
    answer = service.http.get("/openapi.json")  # they do not follow redirects
    assert answer.headers["content-type"] == "application/vnd.oai.openapi+json"
    assert answer.json() | {"servers": DOCUMENT["servers"]} == DOCUMENT
    (server,) = answer.json()["servers"]
    assert urljoin(str(answer.url), server["url"]) == f"{service.url}/"


@pytest.fixture(scope="module")
def live(homes: Homes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("live")
    # Scans take an administrator; what is switched off lets everybody be one.
    free = {"auth": "off", "insecure": True, "scan_folder": folder}
    with homes(folder / "home") as home, running(home, **free) as service:
        for shade in (1, 99, 250):
            assert service.predict(painted(shade)).status_code == 200
        yield service


# Not the plugin's own parametrisation: its items share one name, and xdist runs only one of them.
@pytest.mark.parametrize("name", [operation["operationId"] for _, _, operation in operations()])
def test_whatever_is_sent_the_service_answers_as_the_document_says(
    name: str, live: Service
) -> None:
    operation = SCHEMA.find_operation_by_id(name)
    modes = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    cases = [operation.as_strategy(generation_mode=mode) for mode in modes]

    @given(case=st.one_of(cases[:1] if name in WITHOUT_INPUT else cases))
    @settings(
        max_examples=20,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    def answers(case: Case) -> None:
        response = case.call(base_url=live.url, timeout=30)
        # Too many parts are refused too, with a status of their own. A form has no empty lists: the
        # field is not sent.
        other = response.status_code == 413 or (
            isinstance(case.body, dict) and [] in case.body.values()
        )
        checks = [one for one in CHECKS if not (other and one is negative_data_rejection)]
        case.validate_response(response, checks=checks)
        if name in {"unloadModel", "loadModel"}:
            assert httpx.post(f"{live.url}/api/model/load").status_code == 200

    answers()
