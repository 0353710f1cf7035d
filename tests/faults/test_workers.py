"""``d3 serve --workers``: processes that are killed, stopped, replaced, or that have no room.

Fronts and engines are toys that start at once; the supervisor is the real one.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import ssl
import stat
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import trustme

from d3.entrypoints.serving import capacity
from d3.entrypoints.serving.listening import AddressUnavailable, listen, listen_at, listen_in
from d3.settings import Settings
from tests.serving import Served, client, d3_serve, is_there, wait_until
from tests.support.toys import SERVE

ROOT = Path(__file__).resolve().parents[2]
KILLS = int(os.environ.get("D3TEST_KILLS", "3"))
FRONTS = ("front-1", "front-2")
CLIENT = httpx.Client(timeout=30, verify=False, limits=httpx.Limits(max_keepalive_connections=0))
"""Makes a connection for each request."""


@dataclass
class Service:
    """A running service of toys.

    Attributes:
        served: its supervisor.
        home: its D3_HOME.
    """

    served: Served
    home: Path

    def pid(self, name: str) -> int:
        """The latest process of this name."""
        return self.served.pid(name)

    def ask(self, **what: Any) -> dict[str, Any]:
        """Ask over a connection of its own."""
        answer: dict[str, Any] = CLIENT.get(self.served.url(), params=what).json()
        return answer

    def answering(self) -> set[int]:
        """The processes that answer now."""
        return {self.ask()["pid"] for _ in range(40)}

    def answers_with(self, names: tuple[str, ...] = FRONTS) -> bool:
        """Whether the latest processes of these names answer, and no others."""
        return self.answering() == {self.pid(name) for name in names}


@contextmanager
def toys(folder: Path, *arguments: str, **environ: str) -> Iterator[Service]:
    """Run a service of toys in a folder."""
    home = folder / "home"
    environ = {"D3_HOME": str(home), "PYTHONPATH": str(ROOT), **environ}
    with d3_serve(folder, "-c", SERVE, "--workers", "2", *arguments, **environ) as served:
        yield Service(served, home)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that each test leaves as it found it: with two fronts and an engine."""
    with toys(tmp_path_factory.mktemp("toys")) as running:
        running.served.url()
        yield running
        assert running.served.stop() == 0


@dataclass
class Load:
    """Clients that ask all the time, each request over a connection of its own or not.

    Attributes:
        failures: what went wrong.
        answered: requests.
    """

    url: str
    failures: list[Exception] = field(default_factory=list)
    answered: int = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Keep asking meanwhile."""
        over = threading.Event()
        with ThreadPoolExecutor(4) as pool:
            for number in range(4):
                pool.submit(self._ask, over, keep=number % 2 == 0)
            try:
                yield
            finally:
                over.set()

    def _ask(self, over: threading.Event, *, keep: bool) -> None:
        with client(self.url) as own:
            while not over.is_set():
                try:
                    own.get("/", headers={} if keep else {"Connection": "close"})
                    self.answered += 1
                except Exception as error:  # noqa: BLE001  told to the test
                    self.failures.append(error)


def test_fronts_are_forked_from_a_process_without_threads_and_torch(service: Service) -> None:
    answer = service.ask()
    assert answer["torch"] is False
    assert answer["threads"] <= 2  # its own that refreshes metrics


def test_a_process_has_no_socket_of_another(service: Service) -> None:
    ours = {name: sockets_of(service.pid(name)) for name in (*FRONTS, "engine-0")}
    supervisor = sockets_of(service.served.process.pid)
    for name, sockets in ours.items():
        others = set().union(*(ours[one] for one in ours if one != name))
        assert len(sockets & supervisor) == 1, name  # where it listens
        assert not sockets & others, name


def sockets_of(pid: int) -> set[str]:
    links = set()
    for one in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed since the folder was read
            links.add(str(one.readlink()))
    return {one for one in links if one.startswith("socket:")}


@pytest.mark.parametrize("name", FRONTS)
def test_a_killed_front_is_replaced_alone_and_no_connection_is_refused(
    service: Service, name: str
) -> None:
    before = {one: service.pid(one) for one in (*FRONTS, "engine-0")}
    load = Load(service.served.url())
    with load.running():
        os.kill(before[name], signal.SIGKILL)
        wait_until(lambda: service.pid(name) != before[name])
        wait_until(service.answers_with)
    assert not [one for one in load.failures if isinstance(one, httpx.ConnectError)]
    assert f"{name} died (signal 9) and is replaced" in service.served.text
    assert {one for one in before if service.pid(one) != before[one]} == {name}


def test_a_killed_engine_is_replaced_and_who_asks_it_meanwhile_waits(service: Service) -> None:
    before = {one: service.pid(one) for one in (*FRONTS, "engine-0")}
    assert service.ask(engine=0)["engine"]["pid"] == before["engine-0"]
    os.kill(before["engine-0"], signal.SIGKILL)
    wait_until(lambda: service.pid("engine-0") != before["engine-0"])
    assert service.ask(engine=0)["engine"]["pid"] == service.pid("engine-0")
    assert {one for one in before if service.pid(one) != before[one]} == {"engine-0"}


@pytest.mark.parametrize("name", ["front-1", "engine-0"])
def test_a_process_that_is_stopped_is_replaced(service: Service, name: str) -> None:
    before = service.pid(name)
    os.kill(before, signal.SIGSTOP)
    wait_until(lambda: service.pid(name) != before)
    wait_until(service.answers_with)
    assert service.ask(engine=0)["engine"]["pid"] == service.pid("engine-0")
    assert f"{name} does not answer and is killed" in service.served.text


def test_a_front_whose_event_loop_is_stuck_is_replaced(service: Service) -> None:
    before = {service.pid(name) for name in FRONTS}
    with pytest.raises(httpx.RemoteProtocolError):
        service.ask(block=60)
    wait_until(service.answers_with)
    assert len(before & service.answering()) == 1


def test_a_long_request_is_no_reason_to_kill(service: Service) -> None:
    before = {service.pid(name) for name in FRONTS}
    service.ask(wait=2.5)
    assert service.answering() == before


def test_sighup_replaces_every_front_without_a_failed_request(service: Service) -> None:
    before, engine = service.answering(), service.pid("engine-0")
    dotenv = service.served.log.parent / ".env"
    dotenv.write_text("D3_MODEL=another\n", encoding="utf-8")
    load = Load(service.served.url())
    with load.running():
        service.served.process.send_signal(signal.SIGHUP)
        wait_until(lambda: not before & service.answering() and service.answers_with())
        wait_until(lambda: not any(map(is_there, before)))
    assert load.failures == []
    assert load.answered > 0
    assert service.ask()["model"] == "another"
    assert service.pid("engine-0") == engine


def test_a_request_in_flight_is_answered_by_the_front_that_is_replaced(service: Service) -> None:
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(service.ask, wait=3)
        time.sleep(0.3)
        before = service.answering()
        service.served.process.send_signal(signal.SIGHUP)
        assert asked.result()["pid"] in before
    wait_until(service.answers_with)


def test_sighup_takes_a_new_certificate_and_leaves_all_as_it_is_with_a_broken_one(
    tmp_path: Path,
) -> None:
    authority = trustme.CA()

    def issue(name: str) -> None:
        issued = authority.issue_cert("127.0.0.1", common_name=name)
        issued.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "both.pem"))

    def names() -> set[str]:
        return {certificate_name(url, authority) for _ in range(12)}

    issue("first")
    with toys(tmp_path, "--tls-cert", "both.pem", "--tls-key", "both.pem") as service:
        url = httpx.URL(service.served.url())
        assert url.scheme == "https"
        assert names() == {"first"}
        (tmp_path / "both.pem").write_text("broken", encoding="ascii")
        service.served.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "the fronts are not replaced: The certificate" in service.served.text)
        assert names() == {"first"}
        issue("second")
        service.served.process.send_signal(signal.SIGHUP)
        wait_until(lambda: names() == {"second"})
        assert service.served.stop() == 0


def certificate_name(url: httpx.URL, authority: trustme.CA) -> str:
    """The common name in the certificate that a new connection is shown."""
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    with (
        socket.create_connection((url.host, url.port)) as connection,
        trusting.wrap_socket(connection, server_hostname=url.host) as secure,
    ):
        shown: Any = secure.getpeercert()
    return str(dict(pair for part in shown["subject"] for pair in part)["commonName"])


def test_sighup_with_settings_that_cannot_be_used_replaces_nothing(service: Service) -> None:
    before = service.answering()
    dotenv = service.served.log.parent / ".env"
    dotenv.write_text("D3_BATCH_SIZE=many\n", encoding="utf-8")
    service.served.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "the fronts are not replaced: Some settings" in service.served.text)
    dotenv.unlink()
    assert service.answering() == before


def test_sighup_with_settings_that_no_front_can_start_with_replaces_nothing(
    service: Service,
) -> None:
    dotenv = service.served.log.parent / ".env"
    dotenv.write_text("D3_MODEL=that-fails\n", encoding="utf-8")
    fronts, before = list(map(service.pid, FRONTS)), service.answering()
    service.served.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "the other fronts are not replaced" in service.served.text)
    assert "front-1: The front has no room. Make some." in service.served.text
    dotenv.unlink()
    assert service.answering() == before
    os.kill(fronts[1], signal.SIGKILL)  # its successor has the settings of before
    wait_until(lambda: fronts[1] not in service.answering() and len(service.answering()) == 2)
    service.served.process.send_signal(signal.SIGHUP)
    wait_until(lambda: not before & service.answering() and service.answers_with())


def test_a_second_service_in_the_home_is_refused_and_told_of_the_first(
    service: Service, tmp_path: Path
) -> None:
    with toys(tmp_path, D3_HOME=str(service.home)) as second:
        assert second.served.process.wait(60) == 2
    pid = service.served.process.pid
    assert f"Another `d3 serve --workers` (process {pid}) uses" in second.served.text
    assert service.ask(engine=0)["engine"]["pid"] == service.pid("engine-0")


def test_a_port_that_another_service_with_workers_has_is_taken(
    service: Service, tmp_path: Path
) -> None:
    port = service.served.url().rpartition(":")[2]
    with toys(tmp_path, "--port", port) as second:
        assert second.served.process.wait(60) == 2
    assert "Address already in use" in second.served.text


@pytest.mark.full
def test_killed_again_and_again_it_is_back_within_a_second(service: Service) -> None:
    chance, slowest = random.Random(0), 0.0
    load = Load(service.served.url())
    with load.running():
        for _ in range(KILLS):
            name = chance.choice((*FRONTS, "engine-0"))
            before = service.pid(name)
            os.kill(before, signal.SIGKILL)
            begun = time.monotonic()
            wait_until(lambda: service.pid(name) != before)  # noqa: B023  used at once
            service.ask(engine=0)
            slowest = max(slowest, time.monotonic() - begun)
    assert not [one for one in load.failures if isinstance(one, httpx.ConnectError)]
    wait_until(service.answers_with)
    print(f"{KILLS} kills, the slowest answer after {slowest:.2f} s")  # noqa: T201


def test_sigterm_answers_what_is_in_flight_and_leaves_nothing(tmp_path: Path) -> None:
    with toys(tmp_path) as service, ThreadPoolExecutor(1) as pool:
        service.served.url()
        pids = [service.pid(name) for name in (*FRONTS, "engine-0")]
        asked = pool.submit(service.ask, wait=3, engine=0)
        time.sleep(0.5)
        service.served.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not can_connect(service.served.url()))
        assert not asked.done(), "nobody new waits while what is in flight is answered"
        assert service.served.process.wait(60) == 0
        assert asked.result()["engine"]["pid"] == pids[-1]
        assert not any(map(is_there, pids))
        assert "Traceback" not in service.served.text
        assert "died" not in service.served.text
        assert list((service.home / "run").glob("*.sock")) == []


def can_connect(url: str) -> bool:
    where = urlsplit(url)
    with suppress(OSError), socket.create_connection((where.hostname or "", where.port or 0), 5):
        return True
    return False


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    with toys(tmp_path) as service, ThreadPoolExecutor(1) as pool:
        service.served.url()
        pids = [service.pid(name) for name in (*FRONTS, "engine-0")]
        asked = pool.submit(service.ask, wait=20)
        time.sleep(0.5)
        service.served.process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        assert service.served.stop(signal.SIGINT) == 130
        assert isinstance(asked.exception(), httpx.TransportError)
        wait_until(lambda: not any(map(is_there, pids)))


def test_it_can_be_stopped_while_an_engine_loads_its_model(tmp_path: Path) -> None:
    with toys(tmp_path, TOY_ENGINE="loads for ever") as service:
        wait_until(lambda: "engine-0 is process" in service.served.text, 60)
        engine = service.pid("engine-0")
        time.sleep(1)  # else it ends before it begins to load
        assert service.served.stop() == 0
        assert not is_there(engine)
    assert "front-1" not in service.served.text


def test_processes_end_with_a_killed_supervisor_and_the_next_one_starts_at_once(
    tmp_path: Path,
) -> None:
    with toys(tmp_path) as service:
        service.served.url()
        pids = [service.pid(name) for name in (*FRONTS, "engine-0")]
        service.served.stop(signal.SIGKILL)
        with toys(tmp_path) as second:
            assert second.ask(engine=0)["engine"]["pid"] == second.pid("engine-0")
            wait_until(lambda: not any(map(is_there, pids)))
            assert second.served.stop() == 0


def test_each_gpu_has_an_engine_which_is_replaced_alone(tmp_path: Path) -> None:
    with toys(tmp_path, TOY_GPUS="2") as service:
        for number in range(2):
            name = f"engine-{number}"
            told = service.ask(engine=number)["engine"]
            assert told == {"pid": service.pid(name), "number": number, "device": number}
        first, second = service.pid("engine-0"), service.pid("engine-1")
        os.kill(second, signal.SIGKILL)
        wait_until(lambda: service.pid("engine-1") != second)
        assert service.ask(engine=1)["engine"]["pid"] == service.pid("engine-1")
        assert service.ask(engine=0)["engine"]["pid"] == first
        assert service.served.stop() == 0


@pytest.mark.parametrize(
    ("settings", "seen", "devices"),
    [
        (Settings(), "3", [0, 1, 2]),
        (Settings(), "0", [None]),
        (Settings(), "torch is broken", [None]),
        (Settings(cuda_device=1), "3", [None]),
        (Settings(cuda_device="cpu"), "3", [None]),
        (Settings(engine="openvino"), "3", [None]),
    ],
)
def test_every_gpu_is_used_unless_the_settings_name_a_device(
    settings: Settings,
    seen: str,
    devices: list[int | None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(capacity, "GPU_FILES", (str(tmp_path),))
    monkeypatch.setattr(capacity, "_COUNT", f"print({seen!r})")
    assert capacity.devices(settings) == devices


def test_without_a_gpu_nobody_asks_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "GPU_FILES", ("/nonexistent",))
    monkeypatch.setattr(capacity, "_COUNT", "print(3)")
    assert capacity.devices(Settings()) == [None]


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ("has no model", "engine-0: No model can be loaded."),
        ("dies", "engine-0 died before it was ready (exit status 3); D3 will try again"),
    ],
)
def test_fronts_answer_without_an_engine(tmp_path: Path, wish: str, said: str) -> None:
    with toys(tmp_path, TOY_ENGINE=wish) as service:
        service.served.url()
        assert service.answers_with()
        assert said in service.served.text
        assert service.served.stop() == 0


def test_a_front_that_cannot_start_ends_the_service_with_its_reason(tmp_path: Path) -> None:
    with toys(tmp_path, D3_MODEL="that-fails") as service:
        assert service.served.process.wait(60) == 2
    assert "error: The front has no room. Make some." in service.served.text
    assert "Traceback" not in service.served.text


def test_on_unix_sockets_each_front_has_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "sockets"
    anybody = {"D3_AUTH": "off", "D3_INSECURE": "true"}
    with toys(tmp_path, "--uds", str(folder), **anybody) as service:
        assert service.served.url() == f"unix:{folder}/front-1.sock"
        for name in FRONTS:
            path = folder / f"{name}.sock"
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
            with httpx.Client(transport=httpx.HTTPTransport(uds=str(path))) as own:
                assert own.get("http://d3/").json()["pid"] == service.pid(name)
        assert service.served.stop() == 0
    assert list(folder.iterdir()) == []


def test_a_home_whose_sockets_have_too_long_a_path_is_refused(tmp_path: Path) -> None:
    with toys(tmp_path, D3_HOME=str(tmp_path / ("long" * 25))) as service:
        assert service.served.process.wait(60) == 2
    assert "is longer than 107 bytes" in service.served.text
    assert "Set D3_HOME to another folder, with a short path." in service.served.text
    assert not (tmp_path / ("long" * 25) / "run").exists()


def test_more_workers_than_file_descriptors_are_refused(tmp_path: Path) -> None:
    program = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200)); {SERVE}"
    environ = {"D3_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
    with d3_serve(tmp_path, "-c", program, "--workers", "100", **environ) as served:
        assert served.process.wait(60) == 2
    assert "100 workers need 468 file descriptors, and this process may have 200." in served.text
    assert "engine-0" not in served.text


def test_more_workers_than_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "free_memory", lambda: 10 * capacity.FRONT_BYTES)
    capacity.check_room(10, 1)
    with pytest.raises(capacity.WorkersTooMany, match="640 MiB are free"):
        capacity.check_room(11, 1)


def test_the_free_memory_of_this_machine_is_known() -> None:
    free = capacity.free_memory()
    assert free is not None
    assert 2**20 < free < 2**50


def test_a_taken_port_is_refused_even_if_its_owner_would_share_it() -> None:
    first = listen("127.0.0.1", 0, 2)
    port = first.sockets[0].getsockname()[1]
    assert {one.getsockname()[1] for one in first.sockets} == {port}
    for processes in (1, 2):
        with pytest.raises(AddressUnavailable, match="already in use"):
            listen("127.0.0.1", port, processes)
    first.close()
    listen("127.0.0.1", port, 2).close()


def test_a_process_alone_refuses_connections_until_it_answers() -> None:
    """A proxy sends its request elsewhere then, and does not wait for a model to be loaded."""
    listeners = listen("127.0.0.1", 0)
    place = listeners.sockets[0].getsockname()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(place)
    listeners.sockets[0].listen()
    socket.create_connection(place).close()
    listeners.close()


def test_connections_reach_every_socket() -> None:
    listeners = listen("127.0.0.1", 0, 2)
    clients = [socket.create_connection(listeners.sockets[0].getsockname()) for _ in range(40)]
    for one in listeners.sockets:
        one.settimeout(5)
        one.accept()[0].close()
    for one in clients:
        one.close()
    listeners.close()


def test_a_stale_socket_is_replaced_a_living_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "one.sock"
    listen_at(path, "").close()
    assert path.is_socket()
    with listen_at(path, ""), pytest.raises(AddressUnavailable, match="Another program listens"):
        listen_at(path, "")


def test_what_is_no_socket_stays(tmp_path: Path) -> None:
    (tmp_path / "front-2.sock").write_text("mine", encoding="utf-8")
    with pytest.raises(AddressUnavailable, match="it is not a socket"):
        listen_in(tmp_path, 2)
    assert [one.name for one in tmp_path.iterdir()] == ["front-2.sock"]


def test_a_folder_for_sockets_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AddressUnavailable, match="cannot be used"):
        listen_in(tmp_path / "file", 2)
    with pytest.raises(AddressUnavailable, match="longer than 107 bytes"):
        listen_in(tmp_path / ("long" * 30), 2)
