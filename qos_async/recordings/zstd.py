"""Where zstandard comes from: the standard library, or a package before Python 3.14."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Protocol

from qos_async.errors import QosError

__all__ = ["MAGIC", "MissingZstdError", "Zstd", "load_zstd"]

MAGIC = b"\x28\xb5\x2f\xfd"
"""What each compressed frame begins with."""

_MODULES = ("compression.zstd", "backports.zstd")


class MissingZstdError(QosError, ModuleNotFoundError):
    """Recordings are compressed, and there is nothing to do it with."""


class Zstd(Protocol):
    """What is used of it."""

    ZstdError: type[Exception]
    ZstdCompressor: Any
    ZstdDecompressor: Any


def load_zstd() -> Zstd:
    """Import it, now that it is needed.

    Raises:
        MissingZstdError: If it is not there; the message says what to install.
    """
    for home in _MODULES:
        try:
            found: Any = import_module(home)
        except ModuleNotFoundError:
            continue
        return found  # type: ignore[no-any-return]
    raise MissingZstdError(
        "recordings are compressed with zstandard, which comes with Python 3.14 and "
        "is a package before that: pip install 'qos-async[record]'"
    )
