"""``d3`` with its models on S3: the same commands, and a day on which the store is away."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Run
from tests.support.stores import S3Server, free_port, s3_server


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with s3_server("second") as server:  # the integration tests use both kinds
        yield server


@pytest.fixture
def environ(server: S3Server, tmp_path: Path) -> dict[str, str]:
    """As the prototype's .env names them."""
    return {
        "MINIO_ENDPOINT": server.endpoint,
        "MINIO_ACCESS_KEY": server.key,
        "MINIO_SECRET_KEY": server.secret,
        "MINIO_SECURE": "False",
        "D3_HOME": str(tmp_path / "one machine"),
    }


def logit(run: Run, pack: Path, **environ: str) -> float:
    done = run("detect", "--json", pack / "images/rgb_224.png", **environ)
    assert done.code == 0, done.err
    answer: float = json.loads(done.out)["logit"]
    return answer


def test_models_on_s3_are_used_like_others_and_outlive_the_store_s_absence(
    run: Run, pack: Path, server: S3Server, environ: dict[str, str], tmp_path: Path
) -> None:
    bucket = environ["MINIO_BUCKET_NAME"] = "d3-models"
    files = ("--encoder", pack / "visual.safetensors", "--head", pack / "classifier.pth")
    assert "Imported own version 1." in run("models", "import", "own", *files, **environ).out
    assert run("models", "use", "own", **environ).code == 0
    here = logit(run, pack, **environ)

    another = environ | {"D3_HOME": str(tmp_path / "another machine")}
    assert logit(run, pack, **another) == here
    away = another | {"MINIO_ENDPOINT": f"127.0.0.1:{free_port()}"}
    # The copy belongs to the address it came from: a store nobody ever saw has none.
    unknown = run("detect", pack / "images/rgb_224.png", **away)
    assert unknown.code == 2
    assert "MINIO_ENDPOINT" in unknown.err
    assert server.secret not in unknown.err + unknown.out

    # A head put there by hand, as the prototype's README says, on the encoder that fits.
    server.client().fput_object(bucket, "classifier.pth", str(pack / "classifier.pth"))
    listed = run("models", "list", "--json", **environ)
    assert "classifier.pth" in [json.loads(line)["name"] for line in listed.out.splitlines()]
    assert logit(run, pack, **environ, D3_MODEL="classifier.pth") is not None

    copied = run("models", "copy", "--from", "s3", "--to", "folder", "own", "--json", **environ)
    assert json.loads(copied.out) == {"name": "own", "from": 1, "to": 1, "new": True}
    in_the_folder = {"D3_HOME": environ["D3_HOME"], "D3_MODEL": "own"}
    assert logit(run, pack, **in_the_folder) == here
    assert run("models", "copy", "--from", "s3", "--to", "s3", **environ).code == 2


def test_a_restart_while_the_store_is_away_serves_what_this_machine_kept(
    run: Run, pack: Path, tmp_path: Path
) -> None:
    with s3_server("second") as server:
        environ = {
            "MINIO_ENDPOINT": server.endpoint,
            "MINIO_ACCESS_KEY": server.key,
            "MINIO_SECRET_KEY": server.secret,
            "D3_HOME": str(tmp_path / "machine"),
        }
        files = ("--encoder", pack / "visual.safetensors", "--head", pack / "classifier.pth")
        assert run("models", "import", "own", *files, **environ).code == 0
        assert run("models", "use", "own", **environ).code == 0
        before = logit(run, pack, **environ)
    assert logit(run, pack, **environ) == before
    done = run("models", "use", "own", **environ)
    assert done.code == 2
    assert "MINIO_ENDPOINT" in done.err


def test_copying_without_a_store_names_the_settings(run: Run) -> None:
    done = run("models", "copy", "--from", "folder", "--to", "s3")
    assert done.code == 2
    assert "MINIO_ENDPOINT" in done.err
