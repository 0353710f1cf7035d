"""The service under load: ``d3 serve`` in a process of its own, connections that never wait."""

from __future__ import annotations

import http.client
import io
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from d3.domain.errors import D3Error

_BOUNDARY = "d3-bench"
_START_SECONDS = 600
_URL = re.compile(rb"http://127\.0\.0\.1:(\d+)")


class ServiceFailed(D3Error):
    """The service under load did not start, or answered something else than 200."""

    code = "bench_failed"


def jpeg(width: int = 1024, height: int = 768) -> bytes:
    """A photograph-like JPEG: smooth shapes with grain."""
    from PIL import Image

    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / 90) * np.cos(y / period) for period in (70, 110, 50)]
    smooth = 128 + 90 * np.stack(waves, axis=-1)
    grain = np.random.default_rng(0).normal(0, 6, smooth.shape)
    stream = io.BytesIO()
    pixels = np.clip(smooth + grain, 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(stream, "JPEG", quality=85)
    return stream.getvalue()


@contextmanager
def serving(environment: dict[str, str]) -> Iterator[int]:
    """The port of a ``d3 serve`` with these variables over this process's own."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "d3", "serve", "--host", "127.0.0.1", "--port", "0"],
        env={**os.environ, "D3_LOG_LEVEL": "error", **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    giving_up = threading.Timer(_START_SECONDS, process.kill)
    giving_up.start()
    try:
        said = b""
        while not (found := _URL.search(said)):
            line = process.stderr.readline()
            if not line:
                raise ServiceFailed(
                    f"The service did not start: {said.decode(errors='replace').strip()[-300:]}"
                )
            said += line
        giving_up.cancel()
        threading.Thread(target=process.stderr.read, daemon=True).start()
        _wait_until_ready(int(found[1]))
        yield int(found[1])
    finally:
        giving_up.cancel()
        process.terminate()
        process.wait(60)


def load(port: int, body_of: Callable[[int], bytes], connections: int, seconds: float) -> float:
    """Predictions a second over connections that ask again as soon as they are answered."""
    counts = [0] * connections
    failures: list[str] = []
    until = time.perf_counter() + seconds

    def ask(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
        while time.perf_counter() < until and not failures:
            body = _form(body_of(number + connections * counts[number]))
            headers = {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"}
            connection.request("POST", "/api/inference/predict", body, headers)
            answer = connection.getresponse()
            said = answer.read()
            if answer.status != http.client.OK:
                failures.append(f"{answer.status}: {said[:200].decode(errors='replace')}")
                return
            counts[number] += 1
        connection.close()

    begun = time.perf_counter()
    threads = [threading.Thread(target=ask, args=(number,)) for number in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise ServiceFailed(f"The service answered {failures[0]}")
    return sum(counts) / (time.perf_counter() - begun)


def _form(image: bytes) -> bytes:
    disposition = 'Content-Disposition: form-data; name="file"; filename="bench.jpg"'
    head = f"--{_BOUNDARY}\r\n{disposition}\r\nContent-Type: image/jpeg\r\n\r\n".encode()
    return head + image + f"\r\n--{_BOUNDARY}--\r\n".encode()


def _wait_until_ready(port: int) -> None:
    until = time.perf_counter() + _START_SECONDS
    while time.perf_counter() < until:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            connection.request("GET", "/health/ready")
            if connection.getresponse().status == http.client.OK:
                return
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.1)
    raise ServiceFailed("The service did not become ready.", "Run `d3 doctor`.")
