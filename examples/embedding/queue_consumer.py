"""D3 behind a queue: takes images from a Redis stream, and puts the verdicts into another one.

python queue_consumer.py redis://localhost/0

redis-cli XADD images '*' path /shared/photo.jpg
"""

import json
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from os import getpid
from typing import Any

import redis

import d3

GROUP, MINE = "d3", f"{socket.gethostname()}-{getpid()}"
BATCH, WAIT_MS, LOST_MS = 32, 1000, 600_000

Message = tuple[str, dict[str, str]]


def messages(server: Any) -> Iterator[list[Message]]:
    """New images in batches, and those that a consumer took and never finished."""
    with suppress(redis.ResponseError):  # the group is there already
        server.xgroup_create("images", GROUP, id="0", mkstream=True)
    while True:
        lost = server.xautoclaim("images", GROUP, MINE, LOST_MS, count=BATCH)[1]
        new = server.xreadgroup(GROUP, MINE, {"images": ">"}, count=BATCH, block=WAIT_MS)
        if batch := lost + (new[0][1] if new else []):
            yield batch


def main(url: str) -> None:
    server = redis.Redis.from_url(url, decode_responses=True, protocol=2)
    with d3.D3() as detector:
        for batch in messages(server):
            paths = [fields.get("path") or "a message without a path" for _, fields in batch]
            found = detector.detect_many(paths, batch_size=BATCH, errors="return")
            for (number, _), one in zip(batch, found, strict=True):
                if isinstance(one, d3.Failure):
                    answer = {"name": one.name, "code": one.error.code, "error": str(one.error)}
                else:
                    answer = one.to_dict()
                with server.pipeline(transaction=True) as step:  # both or neither
                    step.xadd("verdicts", {"image": number, "answer": json.dumps(answer)})
                    step.xack("images", GROUP, number)
                    step.execute()


if __name__ == "__main__":
    main(sys.argv[1])
