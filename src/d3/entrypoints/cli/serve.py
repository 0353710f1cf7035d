"""``d3 serve``: the REST service."""

from __future__ import annotations

import ipaddress
import signal
import socket
import sys

import click

from d3.domain.errors import D3Error
from d3.entrypoints.cli.output import complain, err

SWITCH_SECONDS = 0.0005
"""How long a thread may keep the interpreter while others wait for it: a request passes through
several, and Python's own 5 ms at each add up (benchmarks/serving: an eighth off the p99)."""
_GRACE_SECONDS = 30


class AddressUnavailable(D3Error):
    """The address cannot be listened on."""

    code = "address_unavailable"


@click.command()
@click.option("--host", default=None, help="Address to listen on.  [default: 127.0.0.1]")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=None, help="Port; 0 takes a free one.  [5000]"
)
def serve(*, host: str | None, port: int | None) -> int:
    """Serve the console at /, the REST API, and its interactive page at /schema.

    Stops on Ctrl-C or SIGTERM when what is in flight has been answered.
    """
    import uvicorn

    from d3.entrypoints.http import create_app
    from d3.entrypoints.logs import configure_logs
    from d3.settings import Settings

    settings = Settings.from_environment()
    configure_logs(settings.log_format, settings.log_level)
    listener = _listen(host or settings.host, settings.port if port is None else port)
    address, bound = listener.getsockname()[:2]
    if not ipaddress.ip_address(address).is_loopback:
        complain("Everybody who reaches this address can use the service.", kind="warning")
    application = create_app(settings)
    with err().status("Opening the database and loading the model"):
        application.d3.start()
    config = uvicorn.Config(
        application,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        lifespan="on",
    )
    url = f"http://{f'[{address}]' if ':' in address else address}:{bound}"
    err().print(f"D3 listens on {url} (open it in a browser; every call: {url}/schema)")
    # When uvicorn has stopped it raises the signal that stopped it once more: all is done by then.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    sys.setswitchinterval(SWITCH_SECONDS)
    uvicorn.Server(config).run(sockets=[listener])
    return 0


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        raise AddressUnavailable(
            f"{host}:{port} cannot be listened on ({error.strerror or error}).",
            "Choose another with --host and --port, or stop what holds it.",
        ) from error
    listener.set_inheritable(True)
    return listener
