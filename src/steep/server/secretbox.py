"""Secrets at rest: encrypted with a key that lies in the data directory, readable by its owner alone, and not in the database."""

from __future__ import annotations

import base64
import hmac
import os
from pathlib import Path
from typing import Self

from steep.spec.errors import DamagedArtifact, InvalidInput


class SecretBox:
    """Locks and opens secrets (Fernet: AES-128-CBC with HMAC-SHA256).

    Args:
        key: as `Fernet.generate_key` makes it.
    """

    def __init__(self, key: bytes) -> None:
        from cryptography.fernet import Fernet

        self._fernet = Fernet(key)
        self._key = key

    @classmethod
    def at(cls, path: Path) -> Self:
        """The box whose key lies in a file; it is made where there is none.

        Raises:
            InvalidInput: the file holds no key.
        """
        from cryptography.fernet import Fernet

        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            pass
        else:
            with open(descriptor, "wb") as stream:
                stream.write(Fernet.generate_key())
                stream.flush()
                os.fsync(stream.fileno())
        try:
            return cls(path.read_bytes())
        except ValueError as error:
            raise InvalidInput(
                "holds no key", where=str(path), cure="Restore it: secrets cannot be read without."
            ) from error

    def derive(self, *names: str) -> str:
        """Letters that follow from names and from the key alone, as hard to guess as the key: the same for the same names."""
        text = "".join(f"{len(name)}:{name}" for name in names)
        return base64.urlsafe_b64encode(hmac.digest(self._key, text.encode(), "sha256")).decode().rstrip("=")

    @property
    def fingerprint(self) -> str:
        """Tells this key from others, and nothing else of it."""
        return self.derive("fingerprint")

    def lock(self, value: str) -> bytes:
        """What is stored of a secret."""
        return self._fernet.encrypt(value.encode())

    def open(self, locked: bytes) -> str:
        """The secret.

        Raises:
            DamagedArtifact: it was locked with another key.
        """
        from cryptography.fernet import InvalidToken

        try:
            return self._fernet.decrypt(locked).decode()
        except InvalidToken as error:
            raise DamagedArtifact(
                "a secret was encrypted with another key", where="secrets.key", cure="Store the secret again."
            ) from error
