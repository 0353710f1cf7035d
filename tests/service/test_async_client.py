"""``d3.AsyncClient`` against the real service, and what both clients do where lines break."""

from __future__ import annotations

import asyncio
import inspect
import os
import select
import socket
import struct
import threading
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

import d3
from d3.client import AsyncClient, Client, ServiceError, uploads
from d3.entrypoints.http.api.job_schemas import JobBody
from d3.entrypoints.http.api.schemas import Prediction
from movies import movie, scene
from tests.service.conftest import Service, painted
from tests.service.test_client import flaky
from tests.serving import serving, wait_until
from tests.support.history import NOON, an_entry

Way = Callable[..., Any]
Work = Callable[[Any], Any]


class Awaited:
    """What a blocking call gave, for tests that await both clients."""

    def __init__(self, given: Any) -> None:
        self._given = given

    def __await__(self) -> Iterator[Any]:
        return self._given
        yield

    async def __aiter__(self) -> AsyncIterator[Any]:
        for one in self._given:
            yield one


class AsIfAsynchronous:
    """The blocking client behind the other's face."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return lambda *given, **named: Awaited(getattr(self._client, name)(*given, **named))


def blocking(url: str, work: Work, **options: Any) -> Any:
    """Do something with the blocking client."""

    async def run() -> Any:
        with Client(url, **options) as client:
            return await work(AsIfAsynchronous(client))

    return asyncio.run(run())


def asynchronous(url: str, work: Work, **options: Any) -> Any:
    """Do something with the asynchronous client."""

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


@BOTH
@pytest.mark.on_servers
def test_a_job_is_waited_for_and_its_results_are_listed(
    service: Service, with_: Way, tmp_path: Path
) -> None:
    paths = []
    for n in range(8):
        paths.append(tmp_path / f"{n}.png")
        paths[-1].write_bytes(painted(n))

    async def work(client: AsyncClient) -> None:
        begun = await client.start_job(
            [*paths, b"no image"], external_ids=[f"x{n}" for n in range(9)], threshold=0.25
        )
        assert (begun.counts.items, begun.threshold, begun.callback) == (9, 0.25, None)
        over = await client.wait_for_job(begun.id, patience=60)
        assert (over.state, over.counts.waiting, over.counts.error) == ("done", 0, 1)
        found = [one async for one in client.job_results(begun.id)]
        assert [(one.number, one.external_id) for one in found] == [
            (n + 1, f"x{n}") for n in range(9)
        ]
        assert [one.name for one in found] == [*(one.name for one in paths), "image"]
        assert found[8].code == "not_an_image"
        for one in found[:8]:
            assert one.result
            assert one.inference_id
            assert (await client.result(one.inference_id)).prediction == one.result.prediction
        assert [one.id async for one in client.jobs()] == [begun.id]
        assert (await client.cancel_job(begun.id)).state == "done"
        with pytest.raises(ServiceError) as gone:
            await client.job("00000000-0000-0000-0000-000000000000")
        assert gone.value.status in {400, 404}

    with_(service.url, work)


@BOTH
def test_waiting_for_a_job_ends_when_patience_does(service: Service, with_: Way) -> None:
    service.application.d3.host.unload()
    slept: list[float] = []

    def sleeps(seconds: float) -> Any:
        slept.append(seconds)
        return asyncio.sleep(0) if with_ is asynchronous else None

    async def work(client: AsyncClient) -> None:
        begun = await client.start_job([painted(1)])
        with pytest.raises(TimeoutError, match="not over after 20 seconds"):
            await client.wait_for_job(begun.id, patience=20)
        assert sum(slept) == 20
        assert slept[:3] == [0.25, 0.5, 1.0]
        assert max(slept) == 5
        assert (await client.cancel_job(begun.id)).state == "cancelled"
        assert (await client.wait_for_job(begun.id)).counts.cancelled == 1

    with_(service.url, work, sleep=sleeps)


@BOTH
def test_a_job_of_links_is_sent_as_links(start: Callable[..., Service], with_: Way) -> None:
    service = start()
    links = ["https://example.net/a.png", "https://example.net/b.png"]

    async def work(client: AsyncClient) -> None:
        begun = await client.start_job([*links, "s3://incoming/a.png"])
        assert (await client.wait_for_job(begun.id)).counts.error == 3
        results = [one async for one in client.job_results(begun.id)]
        assert [one.code for one in results[:2]] == ["links_off", "links_off"]
        assert results[2].code in {"invalid_request", "source_refused"}
        with pytest.raises(d3.D3Error, match="either links or files"):
            await client.start_job([*links, b"image"])
        with pytest.raises(d3.D3Error, match="The number of ids is 1, that of images 2"):
            await client.start_job(links, external_ids=["a"])
        with pytest.raises(ServiceError) as refused:
            await client.predict(links[0])
        assert refused.value.code == "links_off"

    with_(service.url, work)


@BOTH
def test_a_lost_connection_costs_no_second_job(
    service: Service, with_: Way, tmp_path: Path
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(painted(7))

    async def work(client: AsyncClient) -> None:
        begun = await client.start_job([path, path])
        assert (await client.wait_for_job(begun.id, patience=60)).counts.items == 2
        assert len([one async for one in client.jobs()]) == 1

    with breaking(service.url, 2, "judging") as url:
        with_(url, work)
    assert service.rows() == 2


@BOTH
def test_a_video_is_judged_at_once_or_as_a_job(
    service: Service, with_: Way, tmp_path: Path
) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(movie(4, 10))
    gif = tmp_path / "moving.gif"
    first, *others = (Image.fromarray(scene(number)) for number in range(4))
    first.save(gif, save_all=True, append_images=others, duration=200)

    async def work(client: AsyncClient) -> None:
        found = await client.predict_video(path, every=2)
        assert isinstance(found, Prediction)
        assert found.result.clip
        assert [one.time for one in found.result.clip.frames] == [0, 2]
        begun = await client.predict_video(path.read_bytes(), callback="https://example.net/d3")
        assert isinstance(begun, JobBody)
        assert str(begun.callback_secret).startswith("whsec_")
        assert (await client.wait_for_job(begun.id, patience=60)).state == "done"
        (one,) = [one async for one in client.job_results(begun.id)]
        assert one.result
        assert one.result.clip
        assert (await client.predict(gif)).result.clip is None
        moving = await client.predict(gif, frames="all")
        assert moving.result.clip
        assert len(moving.result.clip.frames) == 4

    with_(service.url, work)


@BOTH
def test_webhooks_are_made_changed_and_removed(service: Service, with_: Way) -> None:
    async def work(client: AsyncClient) -> None:
        made = await client.create_webhook(
            "https://app.example.org/d3", ["result.created"], verdicts=["fake"], name="desk"
        )
        assert made.secret.startswith("whsec_")
        own = made.webhook
        assert (own.events, own.verdicts, own.enabled) == (["result.created"], ["fake"], True)
        changed = await client.change_webhook(
            own.id, enabled=False, events=["job.finished"], verdicts=[]
        )
        assert (changed.enabled, changed.events, changed.name) == (False, ["job.finished"], "desk")
        assert (await client.webhook(own.id)) == changed
        assert (await client.rotate_webhook(own.id)).secret != made.secret
        assert [one.id for one in await client.webhooks()] == [own.id]
        assert [one async for one in client.deliveries()] == []
        assert [one async for one in client.deliveries(own.id, only="dead")] == []
        await client.remove_webhook(own.id)
        assert await client.webhooks() == []
        for missing in (client.test_webhook, client.webhook):
            with pytest.raises(ServiceError) as gone:
                await missing(own.id)
            assert gone.value.status == 404
        with pytest.raises(ServiceError) as gone:
            await client.resend(1)
        assert gone.value.status == 404

    with_(service.url, work)


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
def test_a_file_may_have_any_name(service: Service, with_: Way, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.png")
    path.write_bytes(painted(7))
    answer = with_(service.url, lambda client: client.predict(path))
    kept = service.http.get(f"/api/inference/result/{answer.inference_id}").json()
    assert kept["result"]["image_name"] == "caf\xe9.png"


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


@BOTH
def test_a_large_file_is_never_wholly_in_memory(with_: Way, tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    size = 64 * 2**20
    with path.open("wb") as stream:
        stream.truncate(size)
    came = 0

    async def application(scope: Any, receive: Any, send: Any) -> None:
        nonlocal came
        more = True
        while more:
            message = await receive()
            came, more = came + len(message["body"]), message["more_body"]
        await send({"type": "http.response.start", "status": 400, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    with serving(application, lifespan="off") as url:
        tracemalloc.start()
        with pytest.raises(ServiceError):
            with_(url, lambda client: client.start_job([path, path]))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert came > 2 * size
    assert most < 8 * 2**20


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


def test_another_event_loop_is_told_so(service: Service) -> None:
    client = AsyncClient(service.url)

    async def work() -> None:
        await client.stats()

    async def leave() -> None:
        await client.aclose()

    with asyncio.Runner() as first:
        first.run(work())
        for elsewhere in (work, leave):
            with pytest.raises(d3.D3Error, match="in another event loop"):
                asyncio.run(elsewhere())
        first.run(leave())


def test_a_client_goes_on_after_a_cancelled_call(service: Service) -> None:
    async def work(client: AsyncClient) -> None:
        for _ in range(30):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.predict(painted(1), views=16), 0.0001)
        assert (await client.predict(painted(2))).result.verdict

    asynchronous(service.url, work)
