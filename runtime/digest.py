"""SHA-256 at the least cost: of small data by Python's own code, of large data by OpenSSL.

Importing ``hashlib`` loads OpenSSL, which takes 2.6 ms; hashing a program's code and manifest
takes a fifth of that without it.
"""

import sys
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Protocol, cast

OPENSSL_FROM = 1 << 20
"""Bytes from which OpenSSL, four to six times as fast, is worth its import."""


class Hash(Protocol):
    """A hash that data is fed to."""

    def update(self, data: bytes, /) -> None:
        """Take in ``data``."""
        ...

    def hexdigest(self) -> str:
        """Return the digest of all data so far."""
        ...


def sha256(pieces: Iterable[bytes], size: int) -> str:
    """Return the SHA-256 of ``pieces``, ``size`` bytes together, in hexadecimal."""
    digest = _large() if size >= OPENSSL_FROM else _small()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def _small() -> Hash:
    """The code that ``hashlib`` itself falls back to; a Python may be built without it."""
    name = "_sha2" if sys.version_info >= (3, 12) else "_sha256"
    try:
        return cast("Callable[[], Hash]", import_module(name).sha256)()
    except ImportError:
        return _large()


def _large() -> Hash:
    from hashlib import sha256

    return sha256()
