"""The service under load: ``d3 serve`` in a process of its own, connections that never wait."""

from __future__ import annotations

import http.client
import io
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import numpy as np

from d3.domain.errors import D3Error
from d3.settings import Settings

_BOUNDARY = "d3-bench"
_START_SECONDS = 600
_TRIES = 20
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
def serving(settings: Settings) -> Iterator[int]:
    """The port of a ``d3 serve`` with exactly these settings.

    Args:
        settings: their home is a folder that exists.
    """
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "d3", "serve", "--host", "127.0.0.1", "--port", "0"],
        env={**os.environ, **settings.environment(), "D3_LOG_LEVEL": "error"},
        cwd=settings.home,  # where no .env has a say
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


def ask_until_known(port: int, image: bytes) -> None:
    """Ask for an image until the answer comes from the cache.

    Raises:
        ServiceFailed: that does not happen.
    """
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=600)) as connection:
        for _ in range(_TRIES):
            if json.loads(_ask(connection, image))["result"]["cached"]:
                return
    raise ServiceFailed("The service computes a result that it should know.", "Run `d3 doctor`.")


def load(port: int, body_of: Callable[[int], bytes], connections: int, seconds: float) -> float:
    """Predictions a second over connections that ask again as soon as they are answered."""
    counts = [0] * connections
    failures: list[ServiceFailed] = []
    until = time.perf_counter() + seconds

    def ask(number: int) -> None:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=600)) as connection:
            while time.perf_counter() < until and not failures:
                try:
                    _ask(connection, body_of(number + connections * counts[number]))
                except ServiceFailed as error:
                    failures.append(error)
                else:
                    counts[number] += 1

    begun = time.perf_counter()
    threads = [threading.Thread(target=ask, args=(number,)) for number in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return sum(counts) / (time.perf_counter() - begun)


def _ask(connection: http.client.HTTPConnection, image: bytes) -> bytes:
    headers = {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"}
    connection.request("POST", "/api/inference/predict", _form(image), headers)
    answer = connection.getresponse()
    said = answer.read()
    if answer.status != http.client.OK:
        shown = said[:200].decode(errors="replace")
        raise ServiceFailed(f"The service answered {answer.status}: {shown}")
    return said


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
