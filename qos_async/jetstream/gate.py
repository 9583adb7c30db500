"""The lease of a recorder, as the gate before its client's dials."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from typing import Literal, NoReturn, Protocol

from qos_async._io.dial_gate import LinkControl
from qos_async._io.notifier import Notifier
from qos_async.jetstream.lease import LeaseRecord

__all__ = ["HeldLease", "LinkGate", "name_of", "parse_conflict"]

_log = logging.getLogger("qos_async.recorder")

_INTERVAL = 0.1
BROKER_LOSS = 10.0
"""Seconds without a broker after which ``"close"`` closes a link without a lease."""

_retake_after = re.compile(r"retake-after ([0-9]{1,6})(s|m|h)").fullmatch
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


class HeldLease(Protocol):
    """What the gate needs of a ``Lease``."""

    holder: LeaseRecord | None
    last_error: str

    @property
    def is_held(self) -> bool:
        """Whether no other process can have it."""
        ...

    @property
    def is_owned(self) -> bool:
        """Whether it was taken, and not seen in other hands."""
        ...

    @property
    def confirmed_for(self) -> float:
        """Seconds for which it is held without a renewal."""
        ...

    async def acquire(self) -> None:
        """Wait until it is held."""
        ...

    async def keep(self) -> LeaseRecord:
        """Renew it until another process has it."""
        ...

    async def release(self) -> None:
        """End it."""
        ...


class LinkGate:
    """Permits links while the lease is held, and closes them when another has it.

    Args:
        lease: The lease; None permits all links.
        on_broker_loss: Whether a link stays when the lease has run out, or the broker is
            away, and no other process is known to have the lease.
        is_connected: Whether the broker is there.
        on_lost: Called when another process has taken the lease.
    """

    def __init__(
        self,
        lease: HeldLease | None,
        *,
        on_broker_loss: Literal["keep", "close"] = "keep",
        is_connected: Callable[[], bool] = lambda: True,
        on_lost: Callable[[], object] = bool,
    ) -> None:
        self.changed = Notifier()
        self._lease = lease
        self._closes = on_broker_loss == "close"
        self._is_connected = is_connected
        self._on_lost = on_lost
        self._link: LinkControl | None = None
        self._away = False

    async def before_dial(self, link: LinkControl) -> None:
        """Return when a link may be opened."""
        self._link = link
        while reason := self.reason():
            link.hold(reason)
            await self.changed.wait()

    def reason(self) -> str:
        """Return why no link may be opened; empty if one may."""
        lease = self._lease
        if lease is None:
            return "the broker cannot be reached" if self._away else ""
        if lease.is_held:
            return ""
        holder = lease.holder
        if lease.is_owned:
            return f"the lease cannot be renewed: {lease.last_error}"
        if holder is None or not holder.token:
            why = lease.last_error or "it is about to be taken"
            return f"waiting for the lease: {why}"
        return f"waiting for the lease, which {name_of(holder)} has"

    def may_keep(self) -> str:
        """Return why a new link has to be closed; empty if it may stay."""
        lease = self._lease
        if lease is not None and lease.is_owned and not self._closes:
            return ""
        return self.reason()

    async def run(self) -> NoReturn:
        """Take the lease and keep it, again and again, until it is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch())
            while self._lease is not None:
                await self._lease.acquire()
                _log.info("took the lease")
                self.changed.notify_all()
                other = await self._lease.keep()
                self._on_lost()
                self._close(f"the lease was taken by {name_of(other)}")
        raise AssertionError("the watch does not end")

    async def _watch(self) -> NoReturn:
        """Notice the end of a confirmation, and of the broker."""
        loop = asyncio.get_running_loop()
        seen_at, was_open, last_reason = loop.time(), False, self.reason()
        while True:
            if self._is_connected():
                seen_at = loop.time()
            self._away = self._closes and loop.time() - seen_at >= BROKER_LOSS
            reason = self.reason()
            is_open = not reason
            if reason != last_reason:
                self.changed.notify_all()
            if was_open and not is_open and self._closes:
                self._close(reason)
            was_open, last_reason = is_open, reason
            await asyncio.sleep(_INTERVAL)

    def _close(self, reason: str) -> None:
        _log.warning("closing the link: %s", reason)
        if self._link is not None:
            self._link.revoke(reason)


def name_of(record: LeaseRecord) -> str:
    """Return words for the holder of a lease."""
    return f"process {record.pid} on {record.host}" if record.host else "another"


def parse_conflict(text: object) -> float | None:
    """Return the seconds to wait after a conflict; None for ``"yield"``.

    Raises:
        ValueError: For any other text than the three forms.
    """
    if text == "yield":
        return None
    if text == "retake":
        return 0.0
    found = _retake_after(text) if isinstance(text, str) else None
    if found is None:
        raise ValueError(
            'on_conflict must be "yield", "retake" or "retake-after 15m" (a number and s, '
            f"m or h), not {text!r}"
        )
    return int(found[1]) * _UNITS[found[2]]
