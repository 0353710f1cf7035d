"""What deploy/observability promises is what a running service has: metrics, dashboard, alerts."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml
from prometheus_client.parser import text_string_to_metric_families

from d3.domain.models import ModelReference
from d3.domain.scans import Scan, ScanCounts, ScanState
from d3.entrypoints.http.machine import CertificateEnd
from d3.entrypoints.http.metrics import Metrics
from d3.entrypoints.http.scan_supervisor import ScanFigures
from tests.homes import Homes
from tests.service.conftest import running

pytestmark = pytest.mark.one_process

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "observability"
RULES = FOLDER / "prometheus" / "rules.yml"
OWN_LABELS = {"job", "instance"}
"""Labels that Prometheus gives."""
ROWS = [
    "Now",
    "Traffic",
    "Latency",
    "Errors",
    "Queue and batches",
    "Device",
    "Decoding",
    "Database rows",
    "Cache",
    "Drift",
    "Scans",
    "Jobs",
    "Webhooks",
    "Machine",
]


def promtool(*arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run promtool; what it says is on stdout."""
    program = shutil.which("promtool")
    assert program, "promtool is missing: `nox -s tests` fetches it, or install Prometheus"
    return subprocess.run(
        [program, *arguments],
        input=text,
        text=True,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


@dataclass(frozen=True)
class Scrape:
    """What a service shows.

    Attributes:
        text: as it was read.
        labels: of each series that can be asked for, by its name.
    """

    text: str
    labels: dict[str, set[str]]


@pytest.fixture(scope="module")
def scrape(tmp_path_factory: pytest.TempPathFactory, homes: Homes, pack: Path) -> Scrape:
    """Of a service that has judged an image and refused another."""
    folder = tmp_path_factory.mktemp("observed") / "home"
    with homes(folder) as home, running(home) as service:
        assert service.predict((pack / "images/rgb_224.png").read_bytes()).status_code == 200
        assert service.predict(b"no image").status_code == 415
        text = service.metrics()
        labels = dict(_series(service.application.d3.metrics))
    return Scrape(text, labels)


def _series(metrics: Metrics) -> Iterator[tuple[str, set[str]]]:
    for name, collector in metrics.registry._names_to_collectors.items():
        own: Any = collector
        yield name, set(own._labelnames) | ({"le"} if name.endswith("_bucket") else set())


def missing(expression: str, scrape: Scrape) -> list[str]:
    """Series and labels of an expression that no service has."""
    found: list[str] = []
    known = OWN_LABELS.copy()
    bare = re.sub(r'"[^"]*"', '""', expression)
    for name, matchers in re.findall(r"\b(d3_\w+)(?:\{([^}]*)\})?", bare):
        shown = f"# TYPE {re.sub(r'_(bucket|sum|count)$', '', name)} "
        if name not in scrape.labels or not (
            f"# TYPE {name} " in scrape.text or shown in scrape.text
        ):
            found.append(name)
            continue
        known |= scrape.labels[name]
        used = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))
        found += [f"{name}{{{one}}}" for one in sorted(used - scrape.labels[name] - OWN_LABELS)]
    for group in re.findall(r"\bby \(([^)]*)\)", bare):
        found += [f"by ({one})" for one in re.findall(r"\w+", group) if one not in known]
    return found


def dashboard() -> dict[str, Any]:
    read: dict[str, Any] = json.loads((FOLDER / "grafana" / "d3.json").read_text(encoding="utf-8"))
    return read


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


def rules() -> list[str]:
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return [rule["expr"] for group in groups for rule in group["rules"]]


def expressions() -> list[str]:
    """Every expression of the dashboard, as Prometheus would get it."""
    board = dashboard()
    found = [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]
    found += [one["expr"] for one in board["annotations"]["list"] if "expr" in one]
    return [one.replace("$__rate_interval", "5m") for one in found]


def test_what_the_service_shows_follows_the_conventions_of_prometheus(scrape: Scrape) -> None:
    checked = promtool("check", "metrics", text=scrape.text)
    assert (checked.returncode, checked.stdout.strip()) == (0, "")


def test_what_only_grows_is_a_counter(scrape: Scrape) -> None:
    kinds = {one.name: one.type for one in text_string_to_metric_families(scrape.text)}
    counters = {f"d3_{name}" for name in ("result_cache_failures", "request_log_dropped")}
    counters |= {"d3_history_rows", "d3_history_failures", "d3_http_requests"}
    assert {kinds[one] for one in counters} == {"counter"}
    assert "d3_history_rows_total 1.0" in scrape.text


def test_a_followed_count_is_never_counted_twice() -> None:
    metrics, count = Metrics(), [3]
    metrics.watch_count("d3_lost", "What was lost.", lambda: count[0])
    first = metrics.render()[0].decode()
    count[0] = 5
    second = [metrics.render()[0].decode() for _ in range(2)][1]
    assert "d3_lost_total 3.0" in first
    assert "d3_lost_total 5.0" in second


def test_the_dashboard_asks_for_what_there_is(scrape: Scrape) -> None:
    wrong = {one: lost for one in expressions() if (lost := missing(one, scrape))}
    assert wrong == {}
    asked = " ".join(expressions())
    shown = set(re.findall(r"# TYPE (d3_\w+) ", scrape.text))
    unseen = {one for one in shown if not one.endswith("_created") and one not in asked}
    assert unseen == set(), "the dashboard does not show these"


def test_what_nobody_has_would_be_found(scrape: Scrape) -> None:
    assert missing('sum by (lane) (d3_queue_imagez{lane="bulk"})', scrape)[0] == "d3_queue_imagez"
    assert missing('d3_queue_images{line="bulk"}', scrape) == ["d3_queue_images{line}"]
    assert missing("sum by (line) (d3_queue_images)", scrape) == ["by (line)"]


def test_every_expression_of_the_dashboard_can_be_read(tmp_path: Path) -> None:
    made = [{"record": f"panel:{n}", "expr": one} for n, one in enumerate(expressions())]
    file = tmp_path / "expressions.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": made}]}))
    checked = promtool("check", "rules", str(file))
    assert checked.returncode == 0, checked.stdout
    assert f"{len(made)} rules found" in checked.stdout


def test_the_dashboard_is_one_that_grafana_takes() -> None:
    board = dashboard()
    variables = {one["name"]: one for one in board["templating"]["list"]}
    assert board["schemaVersion"] >= 39
    assert board["id"] is None
    assert [variables[one]["type"] for one in ("datasource", "job", "instance")] == [
        "datasource",
        "query",
        "query",
    ]
    # Without it, "All" are the jobs and instances that have D3's metrics, and no others.
    assert not any("allValue" in one for one in variables.values())
    panels = board["panels"]
    assert len({one["id"] for one in panels}) == len(panels)
    assert [one["title"] for one in panels if one["type"] == "row"] == ROWS
    cells: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        own = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & own, panel["title"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        cells |= own
        if panel["type"] == "row":
            continue
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}", panel["title"]
        assert panel["targets"], panel["title"]
        assert all('job=~"$job"' in target["expr"] for target in panel["targets"]), panel["title"]


def test_the_alerts_ask_for_what_there_is(scrape: Scrape) -> None:
    assert {one: lost for one in rules() if (lost := missing(one, scrape))} == {}


def test_the_alerts_can_be_read_and_fire_when_they_should() -> None:
    for arguments in (["check", "rules", str(RULES)], ["test", "rules", "rules.test.yml"]):
        if arguments[0] == "test":
            arguments[-1] = str(RULES.with_name(arguments[-1]))
        checked = promtool(*arguments)
        assert checked.returncode == 0, checked.stdout
    tested = yaml.safe_load(RULES.with_name("rules.test.yml").read_text(encoding="utf-8"))
    names = {one["name"] for one in tested["tests"]}
    assert {one["alert"] for one in alerts()} <= names


def test_the_example_of_a_configuration_can_be_read(tmp_path: Path) -> None:
    shutil.copy(RULES, tmp_path)
    example = shutil.copy(FOLDER / "prometheus" / "prometheus.yml", tmp_path)
    key = tmp_path / "d3.key"
    key.write_text("secret")
    text = Path(example).read_text(encoding="utf-8").replace("/etc/prometheus/d3.key", str(key))
    Path(example).write_text(text, encoding="utf-8")
    checked = promtool("check", "config", str(example))
    assert checked.returncode == 0, checked.stdout


def test_every_alert_says_how_bad_it_is_and_where_its_runbook_is() -> None:
    page = (ROOT / "docs" / "howto" / "observability.md").read_text(encoding="utf-8")
    anchors = {one.strip().lower() for one in re.findall(r"^#+ (.+)$", page, re.MULTILINE)}
    for alert in alerts():
        said = alert["annotations"]
        assert alert["labels"]["severity"] in {"critical", "warning"}, alert["alert"]
        assert said["summary"], alert["alert"]
        assert said["description"], alert["alert"]
        where, _, anchor = said["runbook_url"].partition("#")
        assert where == "docs/howto/observability.md"
        assert anchor == alert["alert"].lower()
        assert anchor in anchors, f"the page has no part about {alert['alert']}"


def test_the_end_of_a_certificate_is_read_again_when_the_file_changes(tmp_path: Path) -> None:
    file, authority = tmp_path / "tls.pem", trustme.CA()
    end = CertificateEnd(file)
    assert math.isnan(end.seconds())
    authority.issue_cert("d3.example").cert_chain_pems[0].write_to_path(file)
    first = end.seconds()
    assert first > 1_700_000_000
    file.write_text("no certificate")
    assert math.isnan(end.seconds())
    assert math.isnan(CertificateEnd(None).seconds())


def test_scans_that_cannot_go_on_are_counted() -> None:
    scan = Scan(
        name="s",
        source="/x",
        model=ModelReference("mine", 1, "0" * 64),
        threshold=0.5,
        views=1,
        created_at=datetime.now(UTC),
        id=1,
        state=ScanState.RUNNING,
        listed=True,
        shards=1,
        finished_at=None,
        counts=ScanCounts(fake=2, passed_over=1),
    )
    stuck = replace(scan, trouble="The folder is gone.")
    assert ScanFigures.of([scan, stuck]) == ScanFigures(2, 1, 6)
    assert ScanFigures.of([]) == ScanFigures()
