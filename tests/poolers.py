"""A real PgBouncer in front of a test's PostgreSQL."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from tests.support.servers import ServerMissing

_SERVER_CONNECTIONS = 1
"""As few as can be, so that two clients always share one."""
_START_SECONDS = 20


@contextmanager
def pgbouncer(url: str) -> Iterator[str]:
    """The URL that leads to the same database through a PgBouncer in transaction mode."""
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        raise ServerMissing("pgbouncer is not installed: apt-get install pgbouncer")
    server = sa.make_url(url)
    with tempfile.TemporaryDirectory(prefix="d3-bouncer-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        port = _free_port()
        where = {
            "host": server.host or server.query["host"],
            "port": server.port or server.query.get("port", 5432),
            "user": server.username,
            "password": server.password,
            "dbname": server.database,
        }
        (folder / "users").write_text(f'"{server.username}" ""\n')
        (folder / "bouncer.ini").write_text(
            "[databases]\n"
            f"d3 = {' '.join(f'{key}={value}' for key, value in where.items() if value)}\n"
            "[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
            f"auth_type = any\nauth_file = {folder}/users\n"
            f"pool_mode = transaction\ndefault_pool_size = {_SERVER_CONNECTIONS}\n"
        )
        command = [program, str(folder / "bouncer.ini")]
        if os.geteuid() == 0:  # it refuses to run as root
            user = _owner_of(where["host"])
            command = ["setpriv", f"--reuid={user}", "--regid=nogroup", "--clear-groups", *command]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            _wait_for(port, process, folder / "log")
            yield f"postgresql://{server.username}@127.0.0.1:{port}/d3"
        finally:
            process.terminate()
            process.wait(10)


def _owner_of(host: object) -> str:
    """Who may reach the server's socket; anybody can where it listens on TCP."""
    return str(Path(str(host)).stat().st_uid) if str(host).startswith("/") else "nobody"


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise ServerMissing(f"pgbouncer did not start: {log.read_text()[-500:]}")
