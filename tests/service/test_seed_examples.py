"""The prototype's README, example by example, against ``d3 serve``.

Each command and snippet stands here as it stood there, file names and the port aside.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.homes import Homes
from tests.serving import d3_serve

PYTHON_CLIENT = """
import requests

# Single image prediction
with open('test_image.jpg', 'rb') as f:
    response = requests.post(
        'http://localhost:5000/api/inference/predict',
        files={'file': f},
        data={'threshold': 0.5}
    )
    result = response.json()
    print(f"Is Fake: {result['result']['is_fake']}")
    print(f"Confidence: {result['result']['confidence']}")

# Get statistics
response = requests.get('http://localhost:5000/api/inference/stats')
stats = response.json()
print(stats['stats'])
"""


class Shell:
    """A folder with the examples' files, and the port of the service."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.place = url.replace("127.0.0.1", "localhost")

    def curl(self, command: str) -> dict[str, Any]:
        """Run a curl command of the README and return what it answers."""
        command = command.replace("http://localhost:5000", self.place)
        done = subprocess.run(
            ["bash", "-c", command.replace("curl ", "curl -sS ", 1)],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def python(self, code: str) -> list[str]:
        """Run a snippet of the README and return the lines it prints."""
        done = subprocess.run(
            [sys.executable, "-c", code.replace("http://localhost:5000", self.place)],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return done.stdout.splitlines()


@pytest.fixture(scope="module")
def shell(homes: Homes, pack: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    folder = tmp_path_factory.mktemp("seed")
    for name, original in {
        "test_image.jpg": "gray_512.jpg",
        "image1.jpg": "cmyk_256.jpg",
        "image2.jpg": "rgb_640x427_q90.jpg",
    }.items():
        shutil.copy(pack / "images" / original, folder / name)
    (folder / "ckpt").mkdir()
    (folder / "api").mkdir()
    shutil.copy(pack / "classifier.pth", folder / "ckpt/classifier.pth")
    with homes(folder / "home") as home, d3_serve(folder, **home.environ) as served:
        yield Shell(folder, served.url())


def test_health(shell: Shell) -> None:
    answer = shell.curl("curl http://localhost:5000/health")
    assert answer["status"] == "healthy"
    assert answer["model_loaded"] is True
    assert answer["device"]
    assert answer["version"]


def test_predict_a_single_image(shell: Shell) -> None:
    answer = shell.curl(
        "curl -X POST http://localhost:5000/api/inference/predict \\\n"
        '  -F "file=@test_image.jpg" \\\n'
        '  -F "threshold=0.5"\n'
    )
    assert answer["success"] is True
    result = answer["result"]
    assert 0 <= result["prediction"] <= 1
    assert result["is_fake"] is (result["prediction"] > 0.5)
    assert result["confidence"] == pytest.approx(2 * abs(result["prediction"] - 0.5))
    assert result["processing_time"] > 0
    assert isinstance(answer["inference_id"], int)


def test_predict_multiple_images(shell: Shell) -> None:
    answer = shell.curl(
        "curl -X POST http://localhost:5000/api/inference/predict-batch \\\n"
        '  -F "files=@image1.jpg" \\\n'
        '  -F "files=@image2.jpg"\n'
    )
    assert answer["success"] is True
    assert answer["count"] == 2
    assert [one["filename"] for one in answer["results"]] == ["image1.jpg", "image2.jpg"]
    assert all(0 <= one["result"]["prediction"] <= 1 for one in answer["results"])


def test_history(shell: Shell) -> None:
    for _ in range(2):
        shell.curl('curl http://localhost:5000/api/inference/predict -F "file=@image1.jpg"')
    answer = shell.curl("curl 'http://localhost:5000/api/inference/history?limit=50&offset=0'")
    assert answer["success"] is True
    assert answer["count"] == answer["total"] == len(answer["results"]) >= 2
    kept = {"id", "image_name", "prediction", "is_fake", "confidence", "threshold"}
    kept |= {"processing_time", "created_at", "user_id"}
    assert all(kept <= set(one) for one in answer["results"])


def test_a_specific_result(shell: Shell) -> None:
    new = shell.curl('curl http://localhost:5000/api/inference/predict -F "file=@test_image.jpg"')
    answer = shell.curl(f"curl http://localhost:5000/api/inference/result/{new['inference_id']}")
    assert answer["success"] is True
    assert answer["result"]["id"] == new["inference_id"]
    assert answer["result"]["image_name"] == "test_image.jpg"
    assert answer["result"]["prediction"] == new["result"]["prediction"]


def test_statistics(shell: Shell) -> None:
    shell.curl('curl http://localhost:5000/api/inference/predict -F "file=@image2.jpg"')
    answer = shell.curl("curl http://localhost:5000/api/inference/stats")
    assert answer["success"] is True
    stats = answer["stats"]
    assert stats["total_inferences"] == stats["total_fake"] + stats["total_real"] >= 1
    share = 100 * stats["total_fake"] / stats["total_inferences"]
    assert stats["fake_percentage"] == pytest.approx(share, abs=0.01)
    assert stats["avg_processing_time"] > 0


def test_model_info(shell: Shell) -> None:
    answer = shell.curl("curl http://localhost:5000/api/model/info")
    assert answer["success"] is True
    assert answer["info"]["loaded"] is True
    assert answer["info"]["model_name"] == "mine"
    assert answer["info"]["architecture"].startswith("CLIP:ViT-")
    assert answer["info"]["device"]


def test_free_memory_and_load_again(shell: Shell) -> None:
    # "Free GPU memory", as the section on troubleshooting has it.
    freed = shell.curl("curl -X POST http://localhost:5000/api/model/unload")
    assert freed == {"success": True, "message": "Model unloaded successfully"}
    loaded = shell.curl("curl -X POST http://localhost:5000/api/model/load")
    assert loaded["success"] is True
    assert loaded["message"] == "Model loaded successfully"


def test_upload_a_model_and_list_it(shell: Shell) -> None:
    uploaded = shell.curl(
        "cd api; curl -X POST http://localhost:5000/api/model/upload \\\n"
        '  -F "file=@../ckpt/classifier.pth" \\\n'
        '  -F "name=classifier.pth"\n'
    )
    assert uploaded["success"] is True
    assert uploaded["model_name"] == "classifier.pth"
    listed = shell.curl("curl http://localhost:5000/api/model/list")
    assert listed["success"] is True
    assert listed["count"] == len(listed["models"]) >= 2
    assert "classifier.pth" in listed["models"]


def test_the_python_client(shell: Shell) -> None:
    is_fake, confidence, stats = shell.python(PYTHON_CLIENT)
    assert is_fake in {"Is Fake: True", "Is Fake: False"}
    assert 0 <= float(confidence.removeprefix("Confidence: ")) <= 1
    assert "'total_inferences': " in stats
