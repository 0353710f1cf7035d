"""Requests byte by byte: multipart forms that no client would write, heads that no client sends."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import httpx

FORM = {"Content-Type": "multipart/form-data; boundary=b"}


def multipart(*parts: bytes, end: bytes = b"--b--\r\n") -> bytes:
    """The body of a form with the boundary ``b``."""
    return b"".join(b"--b\r\n" + part + b"\r\n" for part in parts) + end


def part(name: bytes, content: bytes, filename: bytes | None = None, more: bytes = b"") -> bytes:
    """One part of a form; ``more`` are further headers."""
    named = b'; filename="' + filename + b'"' if filename is not None else b""
    head = b'Content-Disposition: form-data; name="' + name + b'"' + named
    return head + (b"\r\n" + more if more else b"") + b"\r\n\r\n" + content


def exchange(url: str, request: bytes, body: Iterator[bytes] | None = None) -> httpx.Response:
    """Send raw bytes and return the answer, which may come before all of the body went."""
    address = httpx.URL(url)
    with socket.create_connection((address.host, address.port or 80), timeout=20) as connection:
        connection.sendall(request)
        for chunk in body or ():
            connection.sendall(chunk)
        received = b""
        while b"\r\n\r\n" not in received or not received.endswith(b"}"):
            piece = connection.recv(65536)
            if not piece:
                break
            received += piece
    head, _, content = received.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = [tuple(line.split(": ", 1)) for line in lines]
    return httpx.Response(int(status.split()[1]), headers=headers, content=content)
