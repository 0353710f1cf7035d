"""Replicas behind compose's proxy are replaced one by one, and no caller notices.

The proxy is Caddy with the configuration of compose.yaml, the replicas are processes of `d3 serve`
on PostgreSQL. A name server of the test's own knows which of them run, as Docker's does.
"""

from __future__ import annotations

import re
import signal
import socket
import struct
import subprocess
import sysconfig
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import httpx
import pytest
import sqlalchemy as sa
import yaml

import d3
from d3.adapters.sql import Database
from d3.entrypoints.http import create_app
from d3.entrypoints.serving import server
from d3.entrypoints.serving.listening import AddressUnavailable, listen
from tests.homes import Home
from tests.service.conftest import painted
from tests.serving import Served, d3_serve, is_there, wait_until
from tests.support.engines import FakeEngine
from tests.support.servers import PostgresqlServer
from tests.support.stores import free_port

ROOT = Path(__file__).parents[2]
STOPS = (signal.SIGTERM, signal.SIGINT)
CADDY = Path(sysconfig.get_path("scripts")) / "caddy"
NEWER = (
    "import d3.domain.installation as installation; installation.own_version = lambda: '99.0'; "
    "import sys; from d3.entrypoints.cli import main; sys.argv = ['d3', *sys.argv[1:]]; main()"
)
"""The same D3 with another version, which is what callers see of an upgrade."""


class Names:
    """A name server that knows one name, and the addresses it has at the moment."""

    def __init__(self) -> None:
        self.addresses: set[str] = set()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]

    def serve(self) -> None:
        """Answer until the socket is closed."""
        while True:
            try:
                question, caller = self._socket.recvfrom(512)
            except OSError:
                return
            if caller[1] == self.port:
                return
            end = question.index(b"\0", 12) + 5
            wants_ipv4 = question[end - 4 : end - 2] == b"\0\1"
            found = sorted(self.addresses) if wants_ipv4 else []
            head = question[:2] + struct.pack("!5H", 0x8180, 1, len(found), 0, 0)
            answers = (
                struct.pack("!HHHIH", 0xC00C, 1, 1, 0, 4) + socket.inet_aton(one) for one in found
            )
            self._socket.sendto(head + question[12:end] + b"".join(answers), caller)

    def close(self) -> None:
        """End :meth:`serve`."""
        self._socket.sendto(b"", ("127.0.0.1", self.port))

    def __del__(self) -> None:
        self._socket.close()


@dataclass
class Load:
    """Callers that send images and read the history all the time.

    Attributes:
        url: of the proxy.
        key: of the callers.
        statuses: how often each was answered; text for what went wrong.
        judged: predictions that were answered with 200.
        versions: of D3 that answered.
        slowest: seconds that the slowest answer took.
    """

    url: str
    key: str
    statuses: Counter[str] = field(default_factory=Counter)
    judged: int = 0
    versions: set[str] = field(default_factory=set)
    slowest: float = 0.0

    @contextmanager
    def running(self, callers: int = 4) -> Iterator[None]:
        """Keep asking meanwhile."""
        over = threading.Event()
        with ThreadPoolExecutor(callers) as pool:
            done = [pool.submit(self._ask, over, number) for number in range(callers)]
            try:
                yield
            finally:
                over.set()
        for one in done:
            one.result()

    def _ask(self, over: threading.Event, number: int) -> None:
        images = [painted(shade) for shade in range(number, 256, 4)]
        headers = {"Authorization": f"Bearer {self.key}"}
        with httpx.Client(base_url=self.url, headers=headers, timeout=60) as http:
            turn = 0
            while not over.is_set():
                turn += 1
                begun = time.monotonic()
                try:
                    if turn % 4:
                        files = {"file": ("a.png", images[turn % len(images)])}
                        answer = http.post("/api/inference/predict", files=files)
                        self.judged += answer.status_code == 200
                    else:
                        answer = http.get("/health")
                        self.versions.add(answer.json()["version"])
                    self.statuses[str(answer.status_code)] += 1
                    if answer.status_code != 200:
                        self.statuses[answer.text[:200]] += 1
                except (httpx.HTTPError, ValueError) as error:
                    self.statuses[repr(error)] += 1
                self.slowest = max(self.slowest, time.monotonic() - begun)


class Fleet:
    """Replicas on addresses of their own, and the proxy before them.

    Args:
        database: which they share.
        folder: for what each has for itself.
    """

    def __init__(self, database: str, folder: Path) -> None:
        self._stack = ExitStack()
        self._database, self._folder = database, folder
        self._names = Names()
        self._port = free_port()
        self.url = f"http://127.0.0.1:{free_port()}"
        self.replicas: dict[str, Served] = {}

    def __enter__(self) -> Self:
        thread = threading.Thread(target=self._names.serve)
        thread.start()
        self._stack.callback(thread.join)
        self._stack.callback(self._names.close)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start(self, address: str, *program: str) -> None:
        """Start a replica. It is found by its name from now on, as a container is."""
        folder = self._folder / f"{address}-{time.monotonic_ns()}"
        (folder / "home").mkdir(parents=True)
        environ = {
            "D3_DATABASE_URL": self._database,
            "D3_MODEL": "starter",
            "D3_WARM_UP": "False",
            "D3_WORKERS": "1",
            "D3_HOME": str(folder / "home"),
            "D3_HOST": address,
            "D3_PORT": str(self._port),
            "D3_AUTH": "required",
            "D3_TRUSTED_PROXIES": "127.0.0.1",
            "D3_RATE_PER_KEY": "none",
            "SECRET_KEY": "0123456789abcdef0123456789abcdef",
            "OMP_NUM_THREADS": "1",
        }
        arguments = (*program, "serve") if program else ("--port", str(self._port))
        self.replicas[address] = self._stack.enter_context(d3_serve(folder, *arguments, **environ))
        self._names.addresses.add(address)

    def key(self) -> str:
        """The first key, which the first replica made."""
        (file,) = self._folder.glob("*/home/api.key")
        return file.read_text(encoding="utf-8").strip()

    def wait(self, address: str) -> None:
        """Wait until a replica is ready."""
        served = self.replicas[address]
        wait_until(lambda: "D3 listens on" in served.text or not is_there(served.process.pid), 300)
        assert "D3 listens on" in served.text, served.text

    def stop(self, address: str, number: int) -> int:
        """Stop a replica; its name is forgotten when it has ended."""
        status = self.replicas[address].stop(number)
        self._names.addresses.discard(address)
        return status

    def proxy(self) -> None:
        """Start the proxy as compose does."""
        compose = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
        text: str = compose["configs"]["proxy"]["content"]
        text, found = re.subn(r":5000 \{", f"{self.url} {{", text)
        assert found == 1
        resolver = f"port {self._port}\n resolvers 127.0.0.1:{self._names.port}"
        text, found = re.subn(r"port 5000\b", resolver, text)
        assert found == 1
        file = self._folder / "Caddyfile"
        file.write_text(text, encoding="utf-8")
        log = self._stack.enter_context((self._folder / "caddy.log").open("wb"))
        process = subprocess.Popen(
            [CADDY, "run", "--config", str(file)], stdout=log, stderr=log, cwd=self._folder
        )
        self._stack.callback(process.wait)
        self._stack.callback(process.terminate)
        wait_until(lambda: answers(f"{self.url}/health"))


def answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.mark.one_process
def test_a_port_that_was_taken_while_the_model_was_loaded_is_named(home: Home) -> None:
    settings, handlers = home.settings(), {one: signal.getsignal(one) for one in STOPS}
    application = create_app(settings, engine=FakeEngine())
    application.d3.start()
    ours = listen("127.0.0.1", 0)
    port = ours.sockets[0].getsockname()[1]
    theirs = listen("127.0.0.1", port)
    theirs.sockets[0].listen()
    try:
        with pytest.raises(AddressUnavailable, match=f"127.0.0.1:{port}.*in use"):
            server.run(application, settings, ours.sockets[0], None)
    finally:
        theirs.close()
        ours.close()
        for number, handler in handlers.items():
            signal.signal(number, handler)


@pytest.mark.full
def test_each_replica_is_replaced_by_a_newer_one_and_no_request_fails(
    postgresql_server: PostgresqlServer, ready_template: str, tmp_path: Path
) -> None:
    with (
        postgresql_server.database(ready_template) as url,
        Fleet(url, tmp_path) as fleet,
        closing(Database(url)) as database,
    ):
        for address in ("127.0.0.2", "127.0.0.3"):
            fleet.start(address)
            fleet.wait(address)
        fleet.proxy()
        load = Load(fleet.url, fleet.key())
        with load.running():
            migrate(database)
            for old, new, number in (
                ("127.0.0.2", "127.0.0.4", signal.SIGTERM),
                ("127.0.0.3", "127.0.0.5", signal.SIGINT),
                ("127.0.0.4", "127.0.0.6", signal.SIGTERM),
            ):
                fleet.start(new, "-c", NEWER)
                fleet.wait(new)
                time.sleep(1)
                assert fleet.stop(old, number) == 0
            time.sleep(1)
        assert set(load.statuses) == {"200"}, load.statuses
        assert load.versions == {d3.__version__, "99.0"}
        assert load.slowest < 30, "a request waited for a replica that was starting"
        with database.reading() as connection:
            rows = connection.scalar(sa.text("SELECT count(*) FROM inference_results"))
        assert rows == load.judged > 100


def migrate(database: Database) -> None:
    """What an upgrade does to the tables under the old replicas: a column more."""
    with database.writing() as connection:
        connection.execute(
            sa.text("ALTER TABLE inference_results ADD COLUMN of_newer text DEFAULT '' NOT NULL")
        )
