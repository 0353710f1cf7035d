"""Secrets in files that their owner alone may read."""

from __future__ import annotations

import secrets
from contextlib import suppress
from pathlib import Path

from d3.domain.errors import StorageFailed
from d3.domain.files import put, storage_errors


class SecretFiles:
    """This machine's own API key, and the secret that is made for want of SECRET_KEY.

    Args:
        key_file: of the API key.
        secret_key_file: of the secret.

    Every method raises StorageFailed where a file cannot be read or written.
    """

    def __init__(self, key_file: Path, secret_key_file: Path) -> None:
        self.key_file = key_file
        self._secret_key_file = secret_key_file

    def key(self) -> str | None:
        """The API key that is kept; None where none is."""
        try:
            return _read(self.key_file)
        except FileNotFoundError:
            return None

    def keep_key(self, key: str, *, replace: bool = False) -> None:
        """Keep the API key.

        Args:
            key: the key.
            replace: whether one that is there already may be lost.

        Raises:
            StorageFailed: one is there already.
        """
        _write(self.key_file, key, only_new=not replace)
        if self.key() != key:
            raise StorageFailed(
                f"{self.key_file.name} already holds another key, which D3 does not overwrite.",
                "`d3 keys init --replace` replaces it with a new one.",
            )

    def secret_key(self) -> str:
        """The secret; made the first time."""
        with suppress(FileNotFoundError):
            return _read(self._secret_key_file)
        _write(self._secret_key_file, secrets.token_urlsafe(32), only_new=True)
        return _read(self._secret_key_file)  # another process's, if that one was first


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        raise StorageFailed(f"{path.name} cannot be read.", "Check D3_HOME.") from error


def _write(path: Path, text: str, *, only_new: bool = False) -> None:
    """Write the file atomically; only its owner can ever read it."""
    with storage_errors(f"{path.name} cannot be written", "Check D3_HOME."):
        path.parent.mkdir(parents=True, exist_ok=True)
        put(path, f"{text}\n".encode("ascii"), 0o600, only_new=only_new)
