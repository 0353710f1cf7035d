"""An open-loop load: requests leave when they were to, whether or not others have been answered.

Latency counts from the moment a request was to leave, so a server that is slow, or a generator that
is, cannot hide it. Bounded in time and in requests, and only ever against this machine.
"""

from __future__ import annotations

import asyncio
import base64
import random
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

LOOPBACK = "127.0.0.1"
_MOST_REQUESTS = 50_000
_MOST_SECONDS = 170.0
_KEPT_SECONDS = 1.0


@dataclass(frozen=True)
class Answer:
    """How one request ended.

    Attributes:
        status: of HTTP; 0 where the connection broke or nobody answered in time.
        seconds: since it was to leave.
        late: by how many seconds the generator itself sent it.
    """

    status: int
    seconds: float
    late: float


@dataclass
class Load:
    """What came of a load.

    Attributes:
        seconds: during which requests left.
        answers: one for each.
    """

    seconds: float
    answers: list[Answer] = field(default_factory=list)

    def good(self, deadline: float) -> int:
        """Requests answered with 200 in time."""
        return sum(one.status == 200 and one.seconds <= deadline for one in self.answers)

    def goodput(self, deadline: float) -> float:
        """The same a second."""
        return self.good(deadline) / self.seconds

    def percentile(self, share: float) -> float:
        """Seconds of those that were answered with 200; the rest counts as endless."""
        seconds = sorted(one.seconds if one.status == 200 else 1e9 for one in self.answers)
        return seconds[min(len(seconds) - 1, int(share * len(seconds)))]

    def served_percentile(self, share: float) -> float:
        """Seconds of those that were answered with 200, the rest left out."""
        seconds = sorted(one.seconds for one in self.answers if one.status == 200)
        return seconds[min(len(seconds) - 1, int(share * len(seconds)))] if seconds else 1e9

    def statuses(self) -> dict[int, int]:
        """How often each status came."""
        counted: dict[int, int] = {}
        for one in self.answers:
            counted[one.status] = counted.get(one.status, 0) + 1
        return counted

    def refused_seconds(self) -> float:
        """The slowest of the refusals, p99; 0 where there is none."""
        seconds = sorted(one.seconds for one in self.answers if one.status in (429, 503))
        return seconds[int(0.99 * len(seconds))] if seconds else 0.0


def poisson(rate: float, seconds: float, seed: int) -> list[float]:
    """Moments at which requests leave, the same for every contestant."""
    source, moments, now = random.Random(seed), [], 0.0
    while (now := now + source.expovariate(rate)) < seconds:
        moments.append(now)
    return moments


async def offer(
    port: int, request: bytes, moments: Iterable[float], patience: float = 10.0
) -> Load:
    """Send a request at each of the moments.

    Args:
        port: of this machine.
        request: whole, head and body, asking to keep the connection.
        moments: seconds from now.
        patience: seconds after which an answer is not waited for.
    """
    moments = list(moments)
    if len(moments) > _MOST_REQUESTS or (moments and moments[-1] > _MOST_SECONDS):
        raise ValueError("that is more than a benchmark needs")
    load = Load(moments[-1] if moments else 0.0)
    idle: list[_Connection] = []
    began = time.perf_counter()

    async def send(moment: float) -> None:
        late = time.perf_counter() - began - moment
        connection = idle.pop() if idle else _Connection(port)
        if time.perf_counter() - connection.used > _KEPT_SECONDS:
            connection.close()  # the server may be about to, and that is no failure of its
            connection = _Connection(port)
        try:
            status, keep = await asyncio.wait_for(connection.ask(request), patience)
        except (OSError, TimeoutError, EOFError, ValueError):
            status, keep = 0, False
        load.answers.append(Answer(status, time.perf_counter() - began - moment, late))
        if keep:
            idle.append(connection)
        else:
            connection.close()

    tasks = []
    for moment in moments:
        await asyncio.sleep(began + moment - time.perf_counter())
        tasks.append(asyncio.create_task(send(moment)))
    await asyncio.gather(*tasks)
    for connection in idle:
        connection.close()
    return load


class _Connection:
    """HTTP/1.1 as little as needed."""

    def __init__(self, port: int) -> None:
        self.used = time.perf_counter()
        self._port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, request: bytes) -> tuple[int, bool]:
        """The status, and whether the connection may be used again."""
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(LOOPBACK, self._port)
        assert self._reader is not None
        self._writer.write(request)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        status = int(head[9:12])
        if b"transfer-encoding: chunked" in head:
            while size := int(await self._reader.readuntil(b"\r\n"), 16):
                await self._reader.readexactly(size + 2)
            await self._reader.readexactly(2)
        else:
            length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
            await self._reader.readexactly(int(length or 0))
        self.used = time.perf_counter()
        return status, b"connection: close" not in head

    def close(self) -> None:
        """Hang up."""
        if self._writer is not None:
            self._writer.close()


def multipart(path: str, files: list[bytes], field_name: str) -> bytes:
    """A whole POST request."""
    boundary = b"d3benchmark"
    parts = b"".join(
        b'--%s\r\nContent-Disposition: form-data; name="%s"; filename="%d.jpg"\r\n'
        b"Content-Type: image/jpeg\r\n\r\n%s\r\n" % (boundary, field_name.encode(), number, file)
        for number, file in enumerate(files)
    )
    body = parts + b"--%s--\r\n" % boundary
    kind = b"multipart/form-data; boundary=" + boundary
    return _post(path, kind, body)


def raw(path: str, body: bytes) -> bytes:
    """A whole POST request whose body is the file itself."""
    return _post(path, b"application/octet-stream", body)


def base64_json(path: str, body: bytes) -> bytes:
    """A whole POST request: the file in base64, in JSON."""
    return _post(path, b"application/json", b'{"image": "%s"}' % base64.b64encode(body))


def _post(path: str, kind: bytes, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: {LOOPBACK}\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Content-Type: " + kind + b"\r\n\r\n" + body
