"""`d3 bench` measures every part and says it in a table or as JSON."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from d3.entrypoints.bench.run import QUICK, _engine
from d3.entrypoints.bench.service import ServiceFailed, ask_until_known
from d3.testing.fakes import FakeDetector
from d3.testing.models import tiny_model
from tests.e2e.conftest import Run

PARTS = ["machine", "engine", "preprocessing", "http", "end to end"]


def test_every_part_is_measured_and_nothing_is_left_behind(run: Run, tmp_path: Path) -> None:
    key = tmp_path / "api.key"
    key.write_text("the administrator's own\n")
    # What would keep the measured service from its work is no concern of it.
    others = {"D3_AUTH": "required", "D3_REDIS_URL": "redis://127.0.0.1:1", "D3_WORKERS": "3"}
    done = run("bench", "--quick", "--json", D3_HOME=str(tmp_path), **others)
    assert done.code == 0, done.err
    figures = [json.loads(line) for line in done.out.splitlines()]
    assert list(dict.fromkeys(one["part"] for one in figures)) == PARTS
    assert all(one["value"] > 0 and one["unit"] for one in figures)
    (ours,) = [one for one in figures if one["what"].startswith("d3 (")]
    assert "times as fast" in ours["note"]
    assert not (tmp_path / "d3.db").exists()
    assert key.read_text() == "the administrator's own\n"


def test_a_known_result_is_asked_for_until_it_is_known() -> None:
    answers = [False, False, True, False]

    class Service(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            said = json.dumps({"result": {"cached": answers.pop(0)}}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        ask_until_known(server.server_port, b"an image")
        assert answers == [False]
        answers.extend([False] * 100)
        with pytest.raises(ServiceFailed, match="should know"):
            ask_until_known(server.server_port, b"an image")
        server.shutdown()


def test_a_model_with_an_int8_form_has_a_row_for_it(tmp_path: Path) -> None:
    plain, int8 = FakeDetector(), FakeDetector()
    int8.precision = "int8"
    model = tiny_model(tmp_path)
    figures = list(_engine(model, [plain, int8], QUICK, {"fp32": 1e9}, lambda _: None))
    assert [one.what for one in figures] == [
        "published procedure, batch 1",
        "d3 (fake, fp32, cpu), batch 1",
        "d3 (fake, int8, cpu), batch 1",
    ]
    assert "of the machine's" in figures[1].note
    assert "of the machine's" not in figures[2].note


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--model", "starter", "--shape", "vit-b-32"], "cannot be used together"),
        (["--model", "nothing"], "nothing"),
        (["--shape", "vit-z"], "vit-l-14"),
    ],
)
def test_what_cannot_be_measured_is_said_before_anything_is(
    run: Run, arguments: list[str], sentence: str, tmp_path: Path
) -> None:
    done = run("bench", *arguments, D3_HOME=str(tmp_path))
    assert done.code == 2
    assert sentence in done.err
    assert not done.out
