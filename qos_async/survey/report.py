"""Report of a survey: findings, and the exchanges that show them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from qos_async._version import __version__
from qos_async.sim.variants import Variants
from qos_async.survey.exchanges import Event, Exchanges, Target
from qos_async.survey.findings import Finding, find_all
from qos_async.survey.log import Value
from qos_async.survey.questions import (
    ask_beyond_plan,
    ask_over_http,
    ask_over_stream,
)

__all__ = ["SurveyReport", "survey"]

WATCH = 60.0
"""Seconds for which each channel is watched."""


class SurveyReport(Struct, frozen=True):
    """What a service does where its documentation is silent.

    Attributes:
        at: When it was made, UTC, ISO 8601.
        version: The version of qos_async.
        beyond_plan: Whether what the plan forbids was tried.
        variants: Each switch of ``sim.Variants`` with the value that the simulator
            needs to behave like the service; None where it could not be seen.
        findings: The same with what was seen, and further subjects.
        exchanges: Everything sent and received, with the key replaced by stars.
    """

    at: str
    version: str
    beyond_plan: bool
    variants: dict[str, Value]
    findings: list[Finding]
    exchanges: list[Event]

    @property
    def differing(self) -> list[Finding]:
        """The findings that are not as this client assumes."""
        return [one for one in self.findings if one.as_assumed is False]

    def write_bundle(self, path: Path, *, key: str) -> None:
        """Write the whole report as JSON, for a bug report.

        Raises:
            ValueError: If the key, or a form of it, is still in it; nothing is written.
            OSError: If the file cannot be written.
        """
        raw = msgspec.json.format(msgspec.json.encode(self), indent=1)
        encoded = base64.b64encode(key.encode()).rstrip(b"=")
        forms = (key.encode(), key.encode().hex().encode(), encoded, encoded[:-1])
        if len(key) >= _SHORTEST_KEY and any(form in raw for form in forms):
            raise ValueError(
                "the bundle is not written: the service repeated the key in a form that "
                "is not removed; report that without the bundle"
            )
        path.write_bytes(raw + b"\n")


_SHORTEST_KEY = 6
"""Shorter texts are in any JSON by chance."""


async def survey(
    target: Target,
    *,
    beyond_plan: bool = False,
    seconds: float = WATCH,
    progress: Callable[[str], None] = lambda text: None,
) -> SurveyReport:
    """Ask a service what its documentation leaves open; takes about two minutes.

    It stays within the plan: one websocket, paced frames and requests, four symbols.

    Args:
        target: The service.
        beyond_plan: Also send what the plan forbids: one symbol too many, two frames at
            once, a second connection, no heartbeat for 40 s. The service may close
            links, also those of other programs with this key.
        seconds: How long each channel is watched.
        progress: Called with each step that is done.

    Raises:
        AuthenticationError: For a key that no header may hold.
        ValueError: For an address to which the key may not be sent.
    """
    exchanges = Exchanges(target)
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(ask_over_http(exchanges, progress))
            link = await ask_over_stream(exchanges, progress, seconds=seconds)
            if link is not None:
                if beyond_plan:
                    await ask_beyond_plan(exchanges, link, progress)
                await link.aclose()
    finally:
        with contextlib.suppress(asyncio.CancelledError):
            await exchanges.aclose()
    findings = find_all(exchanges.events, exchanges.began_at)
    names = Variants.__struct_fields__
    return SurveyReport(
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        version=__version__,
        beyond_plan=beyond_plan,
        variants={one.name: one.found for one in findings if one.name in names},
        findings=findings,
        exchanges=exchanges.events,
    )
