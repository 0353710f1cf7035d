"""Where a service listens: sockets for a host and port, or Unix sockets in a folder; TLS files."""

from __future__ import annotations

import ipaddress
import os
import socket
import ssl
import stat
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from d3.domain.errors import D3Error, SettingsInvalid

LONGEST_PATH = 107
"""Bytes of a Unix socket's path on Linux."""
_BACKLOG = 2048
_SHARED_MODE = 0o660
"""A proxy that runs as another user connects through a common group."""


class AddressUnavailable(D3Error):
    """The address cannot be listened on."""

    code = "address_unavailable"


@dataclass(frozen=True, slots=True)
class Listeners:
    """Open sockets that clients connect to, at once or when the service answers.

    Attributes:
        sockets: one for each process that answers.
        address: for people; a URL if it is a host and port.
        local: whether only this machine can connect, and may do so without a key.
        files: of Unix sockets.
    """

    sockets: list[socket.socket]
    address: str
    local: bool
    files: list[Path] = field(default_factory=list)

    def close(self) -> None:
        """Close the sockets and remove their files."""
        for one in self.sockets:
            one.close()
        for file in self.files:
            file.unlink(missing_ok=True)


def listen(host: str, port: int, processes: int = 1, *, tls: bool = False) -> Listeners:
    """Listen on a host and port, with a socket for each process.

    The system spreads connections over the sockets (``SO_REUSEPORT``). Processes that share one
    socket would get very unequal parts.

    The socket of a single process only has its address: it listens when the process answers. Until
    then, a connection is refused and not left waiting, so that a proxy sends the request elsewhere.

    Args:
        host: a name or an address.
        port: 0 picks a free one.
        processes: that answer.
        tls: whether they speak HTTPS.

    Raises:
        AddressUnavailable: it is taken, or not this machine's.
    """
    sockets: list[socket.socket] = []
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[
            0
        ]
        for number in range(processes):
            one = socket.socket(family, kind, protocol)
            sockets.append(one)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if number:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            one.bind(sockets[0].getsockname() if number else place)
            if processes > 1 and not number:
                # Only now: before, it would join another service that listens on this port.
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        # Several could share the port with those of a service that starts at the same time.
        for one in sockets if processes > 1 else ():
            one.listen(_BACKLOG)
    except OSError as error:
        for one in sockets:
            one.close()
        raise unavailable(f"{host}:{port}", error) from error
    address, bound = sockets[0].getsockname()[:2]
    shown = f"[{address}]" if ":" in address else address
    return Listeners(
        sockets,
        f"http{'s' if tls else ''}://{shown}:{bound}",
        ipaddress.ip_address(address).is_loopback,
    )


def unavailable(address: str, error: OSError) -> AddressUnavailable:
    """The error for an address that cannot be listened on."""
    return AddressUnavailable(
        f"D3 cannot listen on {address} ({error.strerror or error}).",
        "Choose another address with --host and --port, or stop the program that uses it.",
    )


def listen_in(folder: Path, processes: int = 1) -> Listeners:
    """Listen on a Unix socket ``front-K.sock`` in a folder for each process.

    Raises:
        AddressUnavailable: a path is too long, another service listens there, or the folder cannot
            be used.
    """
    remedy = "Choose another folder with --uds."
    folder = folder.absolute()
    files = [folder / f"front-{number}.sock" for number in range(1, processes + 1)]
    last = f" to {files[-1].name}" if processes > 1 else ""
    listeners = Listeners([], f"unix:{files[0]}{last}", local=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file in files:
            listeners.sockets.append(listen_at(file, remedy, _SHARED_MODE))
            listeners.files.append(file)
    except OSError as error:
        listeners.close()
        raise AddressUnavailable(
            f"The folder {folder} cannot be used ({error.strerror or error}).", remedy
        ) from error
    except AddressUnavailable:
        listeners.close()
        raise
    return listeners


def listen_at(path: Path, remedy: str, mode: int = 0o600) -> socket.socket:
    """Listen on a Unix socket; a stale file of one is replaced.

    Args:
        path: of the socket.
        remedy: what to do where that cannot be.
        mode: who may connect.

    Raises:
        AddressUnavailable: the path is too long or in use.
    """
    check_length(path, remedy)
    _remove_stale(path, remedy)
    listener = socket.socket(socket.AF_UNIX)
    before = os.umask(0o777 & ~mode)
    try:
        listener.bind(os.fspath(path))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise AddressUnavailable(
            f"D3 cannot listen on {path} ({error.strerror or error}).", remedy
        ) from error
    finally:
        os.umask(before)
    return listener


def checked_certificate(cert: Path | None, key: Path | None) -> tuple[Path, Path] | None:
    """The files of a certificate and its key; None without TLS.

    Raises:
        SettingsInvalid: they cannot be used.
    """
    if cert is None and key is None:
        return None
    try:
        if cert is None or key is None:
            raise FileNotFoundError(0, "one of the files is missing")
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, lambda: b"")
    except OSError as error:
        raise SettingsInvalid(
            f"The certificate and its key cannot be used ({error.strerror or 'not PEM files'}).",
            "Set --tls-cert and --tls-key to PEM files that belong together and have no password.",
        ) from error
    return cert, key


def check_length(path: Path, remedy: str) -> None:
    """Check that a socket may have this path.

    Raises:
        AddressUnavailable: it is too long.
    """
    if len(os.fsencode(path)) > LONGEST_PATH:
        raise AddressUnavailable(
            f"The path of the socket {path} is longer than {LONGEST_PATH} bytes, which is the most "
            "that the system allows.",
            remedy,
        )


def _remove_stale(path: Path, remedy: str) -> None:
    """Remove the file of a socket on which nobody listens any more."""
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise AddressUnavailable(f"{path} is in the way: it is not a socket.", remedy)
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(os.fspath(path))
            except ConnectionRefusedError:
                path.unlink()
                return
        raise AddressUnavailable(
            f"Another program listens on {path}.", f"Stop that program. {remedy}"
        )
