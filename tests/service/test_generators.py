"""The OpenAPI document as others' tools read it: linters, and a generator of clients."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.service.conftest import Service, painted
from tests.serving import clean_environment
from tests.support.node import node, npm

DOCUMENT = Path(__file__).parents[2] / "docs/openapi.json"
LINTERS = Path(__file__).parents[1] / "linters"
CALLS = [
    ("redocly", ("lint", "--config=redocly.yaml")),
    ("spectral", ("lint", "--ruleset=spectral.yaml", "--fail-severity=hint")),
]


@pytest.fixture(scope="module")
def linters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with Redocly's and Stoplight's linters."""
    folder = tmp_path_factory.mktemp("linters") / "linters"
    shutil.copytree(LINTERS, folder, ignore=shutil.ignore_patterns("node_modules"))
    npm("ci", folder=folder)
    return folder


def lint(linters: Path, name: str, options: tuple[str, ...], document: Path) -> Any:
    program = linters / "node_modules/.bin" / name
    environment = clean_environment(
        REDOCLY_TELEMETRY="off", REDOCLY_SUPPRESS_UPDATE_NOTICE="true", CI="true"
    )
    return subprocess.run(
        [node(), program, *options, document],
        cwd=linters,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(("name", "options"), CALLS)
def test_linters_find_nothing(linters: Path, name: str, options: tuple[str, ...]) -> None:
    done = lint(linters, name, options, DOCUMENT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning" not in done.stdout.lower()


@pytest.mark.parametrize(("name", "options"), CALLS)
def test_linters_find_what_is_wrong(
    linters: Path, name: str, options: tuple[str, ...], tmp_path: Path
) -> None:
    document = json.loads(DOCUMENT.read_text(encoding="utf-8"))
    del document["paths"]["/health"]["get"]["operationId"]
    (tmp_path / "openapi.json").write_text(json.dumps(document))
    done = lint(linters, name, options, tmp_path / "openapi.json")
    assert done.returncode != 0
    assert "operation-operationId" in done.stdout + done.stderr


OVERRIDES = {
    "application/jsonl": "text/plain",
    "application/zip": "application/octet-stream",
    "image/*": "application/octet-stream",
}
"""Kinds of content that the generator does not know by itself."""
SCRIPT = """
import base64, io, sys
from pathlib import Path
from made import AuthenticatedClient
from made.api.inference import explain, predict, predict_batch
from made.api.history import get_statistics
from made.api.jobs import get_job, start_job
from made.models import PredictBatchBody, PredictFilesBody, PredictJsonBody, Problem
from made.models import StartJobFilesBody
from made.types import File

url, key, path = sys.argv[1:]
image = Path(path).read_bytes()
client = AuthenticatedClient(base_url=url, token=key)
file = lambda: File(payload=io.BytesIO(image), file_name="night.png", mime_type="image/png")
answers = [
    predict.sync(client=client, body=PredictFilesBody(file=file(), threshold=0.25, views=3)),
    predict.sync(client=client, body=file(), threshold=0.25, views=3, name="night.png"),
    predict.sync(
        client=client,
        body=PredictJsonBody(
            image_base64=base64.b64encode(image).decode(), threshold=0.25, views=3, name="night.png"
        ),
    ),
]
for answer in answers:
    print(answer.result.verdict.value, answer.result.threshold, answer.result.views)
batch = predict_batch.sync(client=client, body=PredictBatchBody(files=[file(), file()]))
print([one.filename for one in batch.results])
print(get_statistics.sync(client=client).stats.total_inferences)
job = start_job.sync(client=client, body=StartJobFilesBody(files=[file()], external_id=["x"])).job
found = get_job.sync(client=client, job_id=job.id)
print(found.job.counts.items, [one.external_id for one in found.results])
refused = predict.sync(client=client, body=PredictFilesBody())
assert isinstance(refused, Problem)
print(refused.status, refused.code)
"""


def test_a_client_that_a_generator_makes_judges_images(
    start: Callable[..., Service], tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(
        json.dumps({"content_type_overrides": OVERRIDES, "post_hooks": []})
    )
    (tmp_path / "image.png").write_bytes(painted(3))
    (tmp_path / "script.py").write_text(SCRIPT)
    program = Path(sys.executable).with_name("openapi-python-client")
    options = ["--meta=none", "--fail-on-warning", "--config=config.json", "--output-path=made"]
    made = subprocess.run(
        [program, "generate", "--path", DOCUMENT, *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    service = start(auth="required")
    accounts = service.application.d3.accounts
    accounts.add_user("ada")
    key = accounts.create_key("ada", scopes=("predict", "read")).key
    done = subprocess.run(
        [sys.executable, "script.py", service.url, key, "image.png"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        *["uncertain 0.25 3"] * 3,  # of one colour
        "['night.png', 'night.png']",
        "5",
        "1 ['x']",
        "400 file_missing",
    ]
