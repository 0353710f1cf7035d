"""What an orchestrator asks of the service: probes without a key, and the metric it scales by."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.service.conftest import Service

KUBERNETES = Path(__file__).parents[2] / "deploy/kubernetes"
ELSEWHERE = {"host": "10.1.2.3:5000"}
"""A probe and a scrape name the address of the pod."""


def test_probes_need_no_key_and_no_name_and_a_scrape_needs_both(
    start: Callable[..., Service],
) -> None:
    service = start(auth="required", allowed_hosts=("d3.example.net",))
    for path in ("/health/live", "/health/ready"):
        answer = service.http.get(path, headers=ELSEWHERE)
        assert answer.status_code == 200, answer.text
    refused = service.http.get("/metrics", headers=ELSEWHERE)
    assert (refused.status_code, refused.json()["code"]) == (403, "host_refused")
    refused = service.http.get("/metrics", headers={"host": "d3.example.net"})
    assert refused.status_code == 401


@pytest.mark.one_process
def test_the_metric_that_pods_are_scaled_by_is_there_with_its_lanes(service: Service) -> None:
    values = yaml.safe_load((KUBERNETES / "prometheus-adapter.yaml").read_text(encoding="utf-8"))
    (rule,) = values["rules"]["custom"]
    name = re.match(r"\w+", rule["seriesQuery"])
    assert name is not None
    documents = yaml.safe_load_all((KUBERNETES / "base/availability.yaml").read_text("utf-8"))
    (scaler,) = (one for one in documents if one["kind"] == "HorizontalPodAutoscaler")
    (metric,) = scaler["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] == name[0]
    lanes = re.findall(rf'^{name[0]}{{lane="(\w+)"}} 0\.0$', service.metrics(), re.MULTILINE)
    assert sorted(lanes) == ["bulk", "interactive"]
