"""``d3.AsyncClient`` against the real service, and what both clients do where lines break."""

from __future__ import annotations

import asyncio
import inspect
import os
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

import d3
from d3.client import AsyncClient, Client, ServiceError, uploads
from tests.service.conftest import Service, painted
from tests.service.test_client import flaky
from tests.serving import serving, wait_until
from tests.support.history import NOON, an_entry

Way = Callable[..., Any]


def blocking(url: str, work: Callable[[Any], Any], **options: Any) -> Any:
    """Make calls with the blocking client."""
    with Client(url, **options) as client:
        return work(client)


def asynchronous(url: str, work: Callable[[Any], Any], **options: Any) -> Any:
    """Make calls with the asynchronous client."""

    async def run() -> Any:
        async with AsyncClient(url, **options) as client:
            return await work(client)

    return asyncio.run(run())


BOTH = pytest.mark.parametrize("with_", [blocking, asynchronous])


def test_both_clients_have_the_same_calls() -> None:
    own = {name for name in vars(Client) if not name.startswith("_")} - {"close"}
    its = {name for name in vars(AsyncClient) if not name.startswith("_")} - {"aclose"}
    assert own == its
    for name in own:
        told = [inspect.signature(getattr(kind, name)) for kind in (Client, AsyncClient)]
        assert told[0].parameters == told[1].parameters
        assert getattr(Client, name).__doc__
    assert next(iter(inspect.signature(Client("http://d3.invalid").predict).parameters)) == "image"


@pytest.mark.on_servers
def test_an_image_is_judged_and_found_again(service: Service, tmp_path: Path) -> None:
    path = tmp_path / "night.png"
    path.write_bytes(painted(3))

    async def work(client: AsyncClient) -> None:
        prediction = await client.predict(path, threshold=0.25, views=3)
        assert (prediction.result.threshold, prediction.result.views) == (0.25, 3)
        kept = await client.result(prediction.inference_id)
        assert (kept.image_name, kept.prediction) == ("night.png", prediction.result.prediction)
        batch = await client.predict_batch([painted(1), b"no image", str(path)])
        assert [one.filename for one in batch.results] == ["image", "image", "night.png"]
        assert batch.results[1].code == "not_an_image"
        assert (await client.label(kept.id, "real")).label == "real"
        assert [one.label for one in await client.labels(kept.id)] == ["real"]
        assert (await client.stats(group="label")).total_inferences == 3
        assert (await client.model()).model_name == "mine"
        await client.delete(kept.id)
        with pytest.raises(ServiceError) as gone:
            await client.result(kept.id)
        assert (gone.value.status, gone.value.code) == (404, "result_not_found")

    asynchronous(service.url, work)


def test_pages_are_turned_and_thousands_are_sent_by_themselves(service: Service) -> None:
    entries = [an_entry(f"{n}.png", created_at=NOON + timedelta(seconds=n)) for n in range(1203)]
    ids: list[int] = service.application.d3.writer.submit(entries).result()

    async def work(client: AsyncClient) -> None:
        assert [one.id async for one in client.history(order="asc")] == sorted(ids)
        assert await client.label_many(ids, "real") == 1203
        async for one in client.history(label="real"):
            assert one.image_name == "1202.png"
            break  # and no more pages
        assert await client.delete_many([10**9, *ids]) == [10**9]
        assert [one async for one in client.history()] == []

    asynchronous(service.url, work)


def test_many_tasks_share_a_client(service: Service) -> None:
    async def work(client: AsyncClient) -> list[int]:
        answers = await asyncio.gather(*(client.predict(painted(n)) for n in range(200)))
        return [one.inference_id for one in answers]

    assert len(set(asynchronous(service.url, work))) == 200
    assert service.rows() == 200


def test_many_tasks_learn_of_the_key_at_once(
    start: Callable[..., Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service of this machine that asks for a key gets the one that it made itself."""
    service = start(auth="required")
    accounts = service.application.d3.accounts
    accounts.add_user("ada")
    key = accounts.create_key("ada", scopes=("predict", "read")).key
    monkeypatch.setattr("d3.client.steps.key_for", lambda _: key)

    async def work(client: AsyncClient) -> Any:
        return await asyncio.gather(*(client.predict(painted(n)) for n in range(20)))

    assert len(asynchronous(service.url, work)) == 20


@BOTH
def test_a_request_is_sent_again_whole_and_under_the_same_key(with_: Way, tmp_path: Path) -> None:
    image = tmp_path / 'a "quoted"\nname.png'
    image.write_bytes(os.urandom(700_000))
    seen: list[dict[str, str]] = []
    bodies: list[bytes] = []
    slept: list[float] = []
    inner = flaky([(503, {"Retry-After": "7"}), (429, {}), (400, {})], seen)

    async def application(scope: Any, receive: Any, send: Any) -> None:
        body = b""

        async def watched() -> Any:
            nonlocal body
            message = await receive()
            body += message.get("body", b"")
            return message

        await inner(scope, watched, send)
        bodies.append(body)

    def sleeps(seconds: float) -> Any:
        slept.append(seconds)
        return asyncio.sleep(0) if with_ is asynchronous else None

    with serving(application, lifespan="off") as url, pytest.raises(ServiceError) as refused:
        with_(url, lambda client: client.predict(image, threshold=0.5), sleep=sleeps)
    assert (refused.value.status, refused.value.code) == (400, "busy")
    assert len(bodies) == 3
    assert len(set(bodies)) == 1
    assert image.read_bytes() in bodies[0]
    assert b'filename="a %22quoted%22%0Aname.png"' in bodies[0]
    assert {len(bodies[0])} == {int(one["content-length"]) for one in seen}
    assert len({one["idempotency-key"] for one in seen}) == 1
    assert slept[0] == 7
    assert 0 < slept[1] < 1


@contextmanager
def breaking(url: str, breaks: int, after: str) -> Iterator[str]:
    """A way to a service that is cut for the first requests: before or after they are answered."""
    address = httpx.URL(url)
    listener = socket.create_server(("127.0.0.1", 0))

    def carry(ours: socket.socket, theirs: socket.socket, *, cut: bool) -> None:
        while True:
            for one in select.select([ours, theirs], [], [])[0]:
                piece = one.recv(65536)
                if not piece or (cut and one is theirs):
                    return
                (theirs if one is ours else ours).sendall(piece)

    def serve() -> None:
        left = breaks
        with suppress(OSError):  # it is closed
            while True:
                left, (ours, _) = left - 1, listener.accept()
                with ours, socket.create_connection((address.host, address.port or 80)) as theirs:
                    if left >= 0 and after == "sending":
                        ours.recv(1000)
                    else:
                        carry(ours, theirs, cut=left >= 0)
                    ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


@BOTH
@pytest.mark.parametrize("after", ["sending", "judging"])
def test_a_lost_connection_costs_no_second_result(
    service: Service, with_: Way, after: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(painted(7))
    with breaking(service.url, 2, after) as url:
        answer = with_(url, lambda client: client.predict(path))
    assert answer.result.prediction
    assert service.rows() == 1


@BOTH
def test_what_may_have_happened_is_not_asked_twice(service: Service, with_: Way) -> None:
    with (
        breaking(service.url, 1, "sending") as url,
        pytest.raises(ServiceError, match="Is d3 serve running there"),
    ):
        with_(url, lambda client: client.unload_model())


@BOTH
def test_a_page_in_place_of_an_answer_is_told(with_: Way) -> None:
    async def page(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"<html>Welcome"})

    with serving(page, lifespan="off") as url, pytest.raises(ServiceError) as told:
        with_(url, lambda client: client.stats())
    assert (told.value.status, told.value.code) == (200, "unexpected_answer")


@BOTH
def test_a_file_that_is_not_there_is_not_sent(service: Service, with_: Way, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        with_(service.url, lambda client: client.predict(tmp_path / "none.png"))


@BOTH
def test_a_file_that_shrinks_while_it_is_sent_is_told(
    service: Service, with_: Way, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(bytes(1000))
    pieces = uploads._pieces

    def shorter(one: Path, *more: Any) -> Any:
        os.truncate(one, 10)
        return pieces(one, *more)

    monkeypatch.setattr(uploads, "_pieces", shorter)
    with pytest.raises(d3.D3Error, match=r"a\.png became shorter"):
        with_(service.url, lambda client: client.predict(path))


def test_files_are_read_beside_the_loop(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(painted(7))
    threads: set[Any] = set()
    opened = Path.open

    def told(self: Path, *arguments: Any, **named: Any) -> Any:
        if self == path:
            threads.add(threading.current_thread())
        return opened(self, *arguments, **named)

    monkeypatch.setattr(Path, "open", told)
    asynchronous(service.url, lambda client: client.predict(path))
    assert threads
    assert threading.current_thread() not in threads


def open_files() -> set[str]:
    found = set()
    for one in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found.add(str(one.readlink()))
    return found


@contextmanager
def silent() -> Iterator[tuple[str, Callable[[], None]]]:
    """A server that reads and answers nothing, and a wait until its caller has hung up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def left() -> None:
            connection, _ = listener.accept()
            connection.settimeout(20)
            with connection, suppress(ConnectionError):
                while connection.recv(2**20):
                    pass

        yield f"http://127.0.0.1:{listener.getsockname()[1]}", left


@pytest.mark.parametrize("kilobytes", [1, 50_000])
def test_a_cancelled_call_leaves_nothing_behind(tmp_path: Path, kilobytes: int) -> None:
    """Whether it waits for the answer or is in the middle of a file."""
    path = tmp_path / "large.png"
    path.write_bytes(bytes(kilobytes * 1024))

    async def work() -> None:
        async with AsyncClient(url) as client:
            before = asyncio.all_tasks()
            call = asyncio.ensure_future(client.predict(path))
            await asyncio.sleep(0.5)
            assert not call.done()
            assert (str(path) in open_files()) is (kilobytes > 1000)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            del call
            assert asyncio.all_tasks() <= before
            await asyncio.to_thread(left)
            await asyncio.to_thread(wait_until, lambda: str(path) not in open_files())

    with silent() as (url, left):
        asyncio.run(work())


def test_a_client_goes_on_after_a_cancelled_call(service: Service) -> None:
    async def work(client: AsyncClient) -> None:
        for _ in range(30):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.predict(painted(1), views=16), 0.0001)
        assert (await client.predict(painted(2))).result.verdict

    asynchronous(service.url, work)
