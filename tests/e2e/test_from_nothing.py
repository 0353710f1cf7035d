"""The service on an empty PostgreSQL and an empty S3 server, and what other programs find there."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
import sqlalchemy as sa

from d3.container import STARTER_FOLDER
from tests.databases import POSTGRESQL_PROGRAMS, on_a_port
from tests.serving import d3_serve
from tests.support.servers import LocalPostgresql, local_postgresql
from tests.support.stores import S3Server

EXAMPLE = Path(__file__).parents[2] / "examples/images/camera-01.jpg"


def test_a_model_comes_by_curl_judges_and_leaves_a_row_and_objects_that_others_can_read(
    tmp_path: Path, first_s3: S3Server
) -> None:
    bucket, database = f"d3-{uuid.uuid4().hex}", "d3_deepfake"
    shutil.copy(EXAMPLE, tmp_path / "photo.jpg")
    shutil.copy(STARTER_FOLDER / "head.safetensors", tmp_path / "head.safetensors")
    with local_postgresql() as server, on_a_port(server) as port:
        server.execute(f"CREATE DATABASE {database}")
        settings = {
            "POSTGRES_HOST": "127.0.0.1",
            "POSTGRES_PORT": str(port),
            "POSTGRES_DB": database,
            "POSTGRES_PASSWORD": "of a test",
            "MINIO_ENDPOINT": first_s3.endpoint,
            "MINIO_ACCESS_KEY": first_s3.key,
            "MINIO_SECRET_KEY": first_s3.secret,
            "MINIO_BUCKET_NAME": bucket,
            "D3_HOME": str(tmp_path / "home"),
        }
        with d3_serve(tmp_path, **settings) as served:
            url = served.url()
            api = f"{url}/api"
            uploaded = curl(
                tmp_path,
                *("-F", "file=@head.safetensors", "-F", "name=newsroom", f"{api}/model/upload"),
            )
            assert (uploaded["model_name"], uploaded["version"]) == ("newsroom", 1)
            loaded = curl(tmp_path, "-X", "POST", f"{api}/model/load?name=newsroom")
            assert loaded["model_name"] == "newsroom"
            judged = curl(tmp_path, "-F", "file=@photo.jpg", f"{api}/inference/predict")
            assert judged["result"]["model"] == {
                "name": "newsroom",
                "version": 1,
                "sha256": uploaded["sha256"],
            }
            assert served.stop() == 0
        assert "of a test" not in served.text
        row = psql(
            server,
            database,
            "SELECT image_name, model_name, model_version, prediction "
            f"FROM inference_results WHERE id = {judged['inference_id']}",
        )
    prediction = judged["result"]["prediction"]
    assert row[:3] == ["photo.jpg", "newsroom", "1"]
    assert float(row[3]) == pytest.approx(prediction, abs=1e-12)

    read = objects(first_s3, bucket)
    manifest = json.loads(read("manifests/newsroom/1.json"))
    for role in ("encoder", "head"):
        file = manifest[role]
        content = read(f"blobs/{file['sha256']}.safetensors")
        assert hashlib.sha256(content).hexdigest() == file["sha256"]
        assert len(content) == file["size_bytes"]


def curl(folder: Path, *arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        ["curl", "-sS", *arguments], cwd=folder, capture_output=True, check=True, timeout=60
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    assert answer["success"] is True, answer
    return answer


def psql(server: LocalPostgresql, database: str, query: str) -> list[str]:
    """The one row that PostgreSQL's own client finds."""
    url: sa.URL = server.url.set(drivername="postgresql", database=database)
    options = ["--no-psqlrc", "--no-align", "--tuples-only", "--field-separator=|"]
    address = url.render_as_string(hide_password=False)
    done = subprocess.run(
        [POSTGRESQL_PROGRAMS / "psql", *options, "-c", query, address],
        capture_output=True,
        text=True,
        check=True,
    )
    (line,) = done.stdout.splitlines()
    return line.split("|")


def objects(server: S3Server, bucket: str) -> Callable[[str], bytes]:
    """Reads objects with Amazon's own client."""
    client = boto3.client(
        "s3",
        endpoint_url=f"http://{server.endpoint}",
        aws_access_key_id=server.key,
        aws_secret_access_key=server.secret,
        region_name="us-east-1",
    )
    return lambda key: client.get_object(Bucket=bucket, Key=key)["Body"].read()
