"""Search for a secret in everything that is reachable from an object."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

__all__ = ["assert_absent", "reachable_text"]


def assert_absent(secret: str, *objects: object) -> None:
    """Fail if ``secret``, raw or escaped for a URL, shows anywhere.

    Walks exceptions (``__cause__``, ``__context__``, ``args``, ``__dict__``, notes,
    groups and the printed traceback), log records, containers and attributes.
    """
    forms = {secret, quote(secret, safe="")}
    for start in objects:
        for path, text in reachable_text(start):
            for form in forms:
                assert form not in text, f"the secret is in {path}: {text[:300]!r}"


def reachable_text(start: object) -> Iterator[tuple[str, str]]:
    """Yield each text that is reachable from ``start``, with its path."""
    seen: set[int] = set()
    pending: list[tuple[str, object]] = [(type(start).__name__, start)]
    while pending:
        path, thing = pending.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, bytes | bytearray):
            yield path, thing.decode("latin-1")
        else:
            yield path, thing if isinstance(thing, str) else repr(thing)
        pending.extend((f"{path}.{name}", part) for name, part in _parts(thing))


def _parts(thing: object) -> Iterator[tuple[str, Any]]:
    if isinstance(thing, BaseException):
        yield "__cause__", thing.__cause__
        yield "__context__", thing.__context__
        yield "args", thing.args
        yield "str", str(thing)
        yield "traceback", "".join(traceback.format_exception(thing))
        if isinstance(thing, BaseExceptionGroup):
            yield "exceptions", thing.exceptions
    if isinstance(thing, logging.LogRecord):
        yield "getMessage", thing.getMessage()
    if isinstance(thing, Mapping):
        yield from ((f"[{name!r}]", part) for name, part in thing.items())
        yield "keys", list(thing)
    elif isinstance(thing, list | tuple | set | frozenset):
        yield from ((f"[{at}]", part) for at, part in enumerate(thing))
    if isinstance(thing, BaseException | logging.LogRecord):
        yield "__dict__", vars(thing)
