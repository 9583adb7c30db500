"""Session of a recorder with a broker: its connections, lease, gate and sender."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Literal, NamedTuple

from qos_async._io.dial_gate import InheritedOutage
from qos_async.jetstream.errors import (
    BrokerError,
    BrokerUnavailableError,
    MissingNatsError,
)
from qos_async.jetstream.gate import LinkGate, name_of
from qos_async.jetstream.lease import Lease, claim_epoch, ensure_leases
from qos_async.jetstream.places import StreamPlace
from qos_async.jetstream.publisher import Publisher
from qos_async.jetstream.sender import SpoolSender
from qos_async.jetstream.spool import Spool
from qos_async.jetstream.streams import Batches, StreamOptions
from qos_async.jetstream.takeover import inherited_outages
from qos_async.jetstream.wire import Wire
from qos_async.recordings.files import RecordingError

__all__ = ["CLUSTER", "RecorderOptions", "RecorderSession", "check_installed"]

_log = logging.getLogger("qos_async.recorder")

CLUSTER = 3
_RETRY = 1.0
_INTERVAL = 0.1
_ABSENT = 3.0
_TAKE_OVER = 5.0


def check_installed() -> None:
    """Check that a stream can be written to.

    Raises:
        MissingNatsError: If nats-py is not installed.
    """
    if find_spec("nats") is None:
        raise MissingNatsError(
            "streams need the client library of NATS: pip install 'qos-async[nats]'"
        )


class RecorderOptions(NamedTuple):
    """What a recorder of a stream was made with.

    Attributes:
        place: The stream.
        name: The name of the recorder.
        lease: Seconds of the lease; None for none.
        on_broker_loss: What happens to the link while the broker is away.
        conflict_wait: Seconds to wait after a conflict; None ends the client.
    """

    place: StreamPlace
    name: str
    lease: float | None
    on_broker_loss: Literal["keep", "close"]
    conflict_wait: float | None

    @property
    def replicas(self) -> int:
        """On how many nodes a new stream is stored: three if as many were named."""
        return CLUSTER if len(self.place.servers) >= CLUSTER else 1


class Takeover(NamedTuple):
    """The beginning of an epoch.

    Attributes:
        epoch: The epoch; 0 if it is not known yet.
        outages: What the epochs before have left.
    """

    epoch: int = 0
    outages: Sequence[InheritedOutage] = ()


class RecorderSession:
    """The tasks of a recorder; made in the event loop of its client.

    Args:
        options: What to do.
        spool: The messages.
        begin_era: Begins an era, with a ``started``.
        on_lost: Called when another process has taken the lease.
        on_error: Called with an error of the sender.

    Attributes:
        gate: Permits links.
        sender: Sends messages.
        lease: The lease, or None.
        renewed_at: When the lease was confirmed last, in seconds since the epoch.
    """

    def __init__(
        self,
        options: RecorderOptions,
        spool: Spool,
        *,
        begin_era: Callable[[], object],
        on_lost: Callable[[], object],
        on_error: Callable[[BrokerError], object],
    ) -> None:
        self._options, self._spool = options, spool
        self._token = secrets.token_hex(8)
        place, name = options.place, options.name
        title = f"qos-async recorder {name}"
        self._wire = Wire(place, name=title)
        self.lease: Lease | None = None
        if options.lease is not None:
            # A renewal does not wait behind data.
            self._lease_wire = Wire(place, name=f"{title} lease")
            self.lease = Lease(
                self._lease_wire, place.stream, name, seconds=options.lease
            )
        self.gate = LinkGate(
            self.lease,
            on_broker_loss=options.on_broker_loss,
            is_connected=lambda: self._wire.is_connected,
            on_lost=on_lost,
        )
        self.sender = SpoolSender(
            self._wire,
            place.stream,
            name,
            spool,
            self._publisher,
            claim=self._claim,
            lease_held=self._lease_held,
            begin_era=begin_era,
            has_lease=self.lease is not None,
            options=StreamOptions(replicas=options.replicas),
        )
        self.sender.on_error = on_error
        create = asyncio.get_running_loop().create_task
        self._tasks = [
            create(self.sender.run(), name="qos_async.sender"),
            create(self._run_gate(), name="qos_async.lease"),
        ]
        for task in self._tasks:
            task.add_done_callback(self._on_end)

    @property
    def renewed_at(self) -> float:
        """When the lease was renewed, in seconds since the epoch; 0 for never."""
        lease = self.lease
        if lease is None or not lease.is_owned:
            return 0.0
        return time.time() + lease.confirmed_for - lease.seconds

    @property
    def other_holder(self) -> str:
        """The other process that has the lease; empty if none is known."""
        lease = self.lease
        if lease is None or lease.is_owned or lease.holder is None:
            return ""
        return name_of(lease.holder) if lease.holder.token else ""

    async def drain(self, seconds: float, *, spooled: bool) -> None:
        """Wait until everything is stored, the time is over, or that is pointless.

        With ``spooled`` an absent broker is waited for less: the next process sends the
        rest.
        """
        now = asyncio.get_running_loop().time
        begun_at = now()
        while self._spool.pending and not self.sender.failed:
            patience = _ABSENT if spooled and not self._wire.is_connected else seconds
            lost = self.lease is not None and not self.lease.is_owned
            if lost or now() - begun_at >= patience:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_INTERVAL):
                    await self.sender.progress.wait()

    async def aclose(self) -> None:
        """End the tasks, the lease and the connections."""
        for task in self._tasks:
            task.cancel()
        async with contextlib.AsyncExitStack() as last:  # Also if this is cancelled.
            last.push_async_callback(self._wire.aclose)
            if self.lease is not None:
                last.push_async_callback(self._lease_wire.aclose)
            await asyncio.gather(*self._tasks, return_exceptions=True)
            if self.lease is not None and self._lease_wire.is_connected:
                await self.lease.release()

    def _on_end(self, task: asyncio.Task[None]) -> None:
        """Report the end of a task that should have no end."""
        error = None if task.cancelled() else task.exception()
        if error is not None:
            _log.error("this is a bug in qos_async; please report it", exc_info=error)
            self.sender.fail(BrokerError(f"internal error: {error!r}"), final=True)

    def _publisher(self, epoch: int, fence: int, batches: Batches) -> Publisher:
        place, name = self._options.place, self._options.name
        return Publisher(self._wire, place.stream, name, epoch, fence, batches=batches)

    async def _claim(self, again: int | None) -> int:
        """Return a new epoch, or one whose fence was lost.

        Raises:
            BrokerUnavailableError: If the lease was lost meanwhile.
            BrokerError: If the fence cannot be written.
        """
        place, name, lease = self._options.place, self._options.name, self.lease
        known = (self.sender.epoch, *(era.epoch for era in self._spool.eras))
        try:
            fence = await claim_epoch(
                self._wire,
                place.stream,
                name,
                self._token if lease is None else lease.token,
                is_held=lambda: lease is None or lease.is_held,
                known=max(*known, 0 if lease is None else lease.epoch),
                again=again,
            )
        except BrokerError as exc:
            if lease is None or lease.is_held:
                raise
            raise BrokerUnavailableError(str(exc)) from exc
        if lease is not None:
            lease.epoch = max(lease.epoch, fence.epoch)
        return fence.epoch

    async def take_over(self) -> Takeover:
        """Begin an epoch, and return what the one before it has left.

        Without a broker the epoch begins later, and nothing is known.
        """
        place, name = self._options.place, self._options.name
        epoch = 0
        try:
            async with asyncio.timeout(_TAKE_OVER):
                await self._sent()
                epoch = await self._claim(None)
                found = await inherited_outages(self._wire, place.stream, name)
                return Takeover(epoch, found)
        except (RecordingError, TimeoutError) as exc:
            why = str(exc) or "no reply"
            _log.info("what was recorded before cannot be read: %s", why)
            return Takeover(epoch)

    async def _sent(self) -> None:
        """Wait until what an earlier process left in the spool is in the stream.

        Raises:
            BrokerError: If the broker is away, or refuses this recorder.
        """
        sender, wire = self.sender, self._wire
        while not sender.is_ready or self._spool.pending:
            tried = wire.stats.failed_dials >= len(self._options.place.servers)
            # A lease was just taken, so the broker is there: this connection will be, too.
            if self.lease is None and tried and not wire.is_connected:
                raise BrokerUnavailableError("the broker cannot be reached")
            if sender.error is not None:
                raise sender.error
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_INTERVAL):
                    await sender.progress.wait()

    async def _lease_held(self) -> None:
        while self.lease is not None and not self.lease.is_held:
            await self.gate.changed.wait()

    async def _run_gate(self) -> None:
        options = self._options
        while self.lease is not None:
            try:
                await ensure_leases(
                    self._lease_wire, options.place.stream, replicas=options.replicas
                )
                break
            except BrokerError as exc:
                self.lease.last_error = str(exc)
                await asyncio.sleep(_RETRY)
        await self.gate.run()
