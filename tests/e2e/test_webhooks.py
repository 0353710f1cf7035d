"""Webhooks by command, with the receiver of the documentation."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from d3.domain.scoring import Verdict
from d3.domain.webhooks import CHOICES, DeliveryState
from d3.entrypoints.cli import webhooks as commands
from tests.e2e.conftest import Finished, Run
from tests.support.receivers import receiver, status
from tests.support.stores import free_port

DOCS = (Path(__file__).parents[2] / "docs/webhooks.md").read_text(encoding="utf-8")
ALLOWED = {"D3_WEBHOOK_ALLOW": "127.0.0.0/8"}
D3 = Callable[..., Finished]


@pytest.fixture
def d3(run: Run, tmp_path: Path) -> D3:
    """Run ``d3 webhooks`` on a home of this test's own."""
    environ = {"D3_HOME": str(tmp_path / "fresh")} | ALLOWED
    return lambda *arguments: run("webhooks", *map(str, arguments), **environ)


def test_the_words_of_the_options_are_those_of_the_domain() -> None:
    assert tuple(CHOICES) == commands._EVENTS
    assert set(Verdict) == set(commands._VERDICTS)
    assert set(DeliveryState) == set(commands._STATES)


def test_a_webhook_from_its_secret_to_its_end(d3: D3, run: Run, tmp_path: Path) -> None:
    with receiver() as there:
        made = d3("add", there.at(), "--event", "job.finished", "--event", "result.created")
        assert made.code == 0
        secret = made.out.strip()
        assert secret.startswith("whsec_")
        assert secret not in made.err
        assert "not shown again" in made.err
        listed = d3("list")
        assert there.at() in listed.out
        assert secret not in listed.out + d3("list", "--json").out
        assert d3("test", 1).out == "The receiver took it (status 204).\n"
        there.messages[0].verified(secret)
        new = json.loads(d3("rotate", 1, "--json").out)["secret"]
        there.answer = status(500)
        refused = d3("test", 1)
        assert refused.code == 2
        assert "answered with status 500" in refused.err
        there.messages[1].verified(new)
        assert d3("disable", 1).out == "The webhook 1 is disabled.\n"
        assert "Enable it first" in d3("resend", 2).err
        assert d3("enable", 1).out == "The webhook 1 is enabled.\n"
        assert d3("resend", 2).out == "The delivery 2 is sent again.\n"
        states = [json.loads(line) for line in d3("deliveries", "--json").out.splitlines()]
        assert [(one["id"], one["state"]) for one in states] == [(2, "waiting"), (1, "sent")]
        assert d3("deliveries", 1, "--state", "dead", "--json").out == ""
        assert "webhook.test" in d3("deliveries").out
        assert d3("remove", 1).out == "Removed the webhook 1.\n"
        assert d3("remove", 1).code == 2
        assert "no webhooks yet" in d3("list").err


@pytest.mark.parametrize(
    ("arguments", "reported"),
    [
        (["http://127.0.0.1:22/", "--event", "job.finished"], "may not have this port"),
        (["http://10.0.0.1/", "--event", "job.finished"], "D3_WEBHOOK_ALLOW"),
        (["https://ada:secret@a.example", "--event", "job.finished"], "a password"),
        (["https://a.example", "--event", "job.finished", "--user", "ada"], "no user 'ada'"),
        (["https://a.example"], "--event"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(d3: D3, arguments: list[str], reported: str) -> None:
    done = d3("add", *arguments)
    assert done.code == 2
    assert reported in done.err
    assert "secret" not in done.err


@contextmanager
def documented_receiver(secret: str, port: int) -> Iterator[subprocess.Popen[str]]:
    (code,) = re.findall(
        r"<!-- example: receiver -->\n```python\n(.*?)^```$", DOCS, re.MULTILINE | re.DOTALL
    )
    environment = {**os.environ, "D3_WEBHOOK_SECRET": secret, "PORT": str(port)}
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as running:
        yield running
        running.kill()


def test_the_documented_receiver_takes_what_is_signed_and_nothing_else(d3: D3) -> None:
    port = free_port()
    secret = d3("add", f"http://127.0.0.1:{port}/d3", "--event", "job.finished").out.strip()
    with documented_receiver(secret, port) as running:
        for _ in range(100):
            if (done := d3("test", 1)).code == 0:
                break
        assert done.out == "The receiver took it (status 204).\n"
        assert running.stdout is not None
        event_id, kind, *_ = running.stdout.readline().split()
        assert event_id.startswith("evt_")
        assert kind == "webhook.test"
    with documented_receiver("whsec_AAAA", port):
        for _ in range(100):
            if "refuses" not in (done := d3("test", 1)).err:
                break
        assert done.code == 2
