"""Sessions without a store: the key's id and the end, signed; every replica can read them."""

from __future__ import annotations

import hashlib

from itsdangerous import BadSignature, URLSafeSerializer

from d3.domain.errors import SessionEnded
from d3.domain.ports.clock import Clock


class SignedSessions:
    """Implements ``Sessions``.

    Args:
        secret: shared by the service's replicas.
        seconds: how long a session lasts.
    """

    def __init__(self, secret: str, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._serializer = URLSafeSerializer(
            secret, salt="d3-session", signer_kwargs={"digest_method": hashlib.sha256}
        )

    def begin(self, key_id: str) -> str:
        end = round(self._clock.now().timestamp() + self._seconds)
        return str(self._serializer.dumps([key_id, end]))

    def key_of(self, token: str) -> str | None:
        try:
            key_id, end = self._serializer.loads(token)
        except (BadSignature, ValueError, TypeError):
            return None
        if end <= self._clock.now().timestamp():
            raise SessionEnded("over")
        return str(key_id)
