"""aioresponses 0.7.9 on aiohttp 3.14: responses need a ``stream_writer``.

Upstream: pnuckowski/aioresponses#289, fixed in its unreleased pull request 288.
Import ``aioresponses`` from here. It replaces ``ClientSession._request``: traces,
timeouts and TLS do not run behind it.
"""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any

import aiohttp
from aioresponses import aioresponses, core

__all__ = ["aioresponses"]

if "stream_writer" in inspect.signature(aiohttp.ClientResponse.__init__).parameters:

    class _Response(aiohttp.ClientResponse):
        def __init__(self, *args: Any, **options: Any) -> None:
            options.setdefault("stream_writer", SimpleNamespace(output_size=0))
            super().__init__(*args, **options)

    core.ClientResponse = _Response  # type: ignore[attr-defined]
