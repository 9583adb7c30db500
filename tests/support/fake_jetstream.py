"""A JetStream of one subject in memory, with the faults of a real cluster, seeded.

Requests and replies are delayed and lost; a write whose reply was lost is stored now or
later; the broker is absent, elects a leader, or serves reads without being able to write;
a process is stopped in the middle of a request. Time is that of the running loop.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from qos_async.jetstream.errors import BrokerUnavailableError
from qos_async.jetstream.messages import EXPECTED_SEQUENCE

__all__ = ["FakeJetStream", "FakeWire"]

_LIMBO = 20.0
_DELAY = 0.05


@dataclass
class FakeReply:
    data: bytes


class FakeJetStream:
    """The server: the last message of one subject.

    Attributes:
        sequence: The sequence of the last message; 0 for none.
        data: Its payload.
        reads: Whether reads are answered.
        writes: Whether writes are stored at once; else later, when this is true again.
        loses: The probability that a write that waits is lost.
        stored: How many writes were stored.
    """

    def __init__(self) -> None:
        self.sequence, self.data = 0, b""
        self.reads = self.writes = True
        self.loses = 0.3
        self.stored = 0
        self._later: list[tuple[bytes, int]] = []

    def read(self) -> bytes:
        if not self.sequence:
            return json.dumps({"error": {"code": 404, "err_code": 10037}}).encode()
        data = base64.b64encode(self.data).decode()
        return json.dumps({"message": {"seq": self.sequence, "data": data}}).encode()

    def write(self, payload: bytes, expected: int) -> bytes:
        if expected != self.sequence:
            return json.dumps({"error": {"code": 400, "err_code": 10071}}).encode()
        self.sequence += random.Random(self.sequence).randint(1, 3)
        self.data = payload
        self.stored += 1
        return json.dumps({"seq": self.sequence}).encode()

    def write_later(self, payload: bytes, expected: int) -> None:
        self._later.append((payload, expected))

    def recover(self) -> None:
        """Serve reads and writes again; first those that were proposed before."""
        self.reads = self.writes = True
        later, self._later = self._later, []
        for payload, expected in later:
            self.write(payload, expected)


class FakeWire:
    """The connection of one process.

    Attributes:
        faults: The probability of each fault of a request.
        longest_stop: Seconds for which a process is stopped at most.
        partitioned: Whether nothing arrives.
        before_request: Awaited before each request, to stop the process.
    """

    def __init__(self, server: FakeJetStream, chance: random.Random) -> None:
        self.server, self.chance = server, chance
        self.faults = 0.0
        self.longest_stop = 0.0
        self.partitioned = False
        self.before_request: Callable[[], Awaitable[object]] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def request(
        self,
        subject: str,
        payload: bytes = b"",
        *,
        timeout: float = 2.0,  # noqa: ASYNC109 - as that of the wire
        headers: dict[str, str] | None = None,
    ) -> FakeReply:
        if self.before_request is not None:
            await self.before_request()
        await self._stop()
        began = asyncio.get_running_loop().time()
        await asyncio.sleep(self.chance.random() * _DELAY)
        reply = self._serve(payload, headers)
        await asyncio.sleep(self.chance.random() * _DELAY)
        if reply is None or self._has_fault():
            elapsed = asyncio.get_running_loop().time() - began
            await asyncio.sleep(max(0.0, timeout - elapsed))
            await self._stop()
            raise BrokerUnavailableError("no reply")
        await self._stop()
        return FakeReply(reply)

    async def settle(self) -> None:
        """Wait for writes that are still under way."""
        await asyncio.gather(*self._tasks)

    def _serve(self, payload: bytes, headers: dict[str, str] | None) -> bytes | None:
        if self.partitioned or self._has_fault():
            return None
        if headers is None:
            return self.server.read() if self.server.reads else None
        expected = int(headers[EXPECTED_SEQUENCE])
        if not self.server.writes:
            if self.chance.random() >= self.server.loses:
                self.server.write_later(payload, expected)
            return None
        if self._has_fault():
            self._start(self._write_late(payload, expected))
            return None
        return self.server.write(payload, expected)

    async def _write_late(self, payload: bytes, expected: int) -> None:
        await asyncio.sleep(self.chance.random() * _LIMBO)
        self.server.write(payload, expected)

    def _start(self, coroutine: Any) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _has_fault(self) -> bool:
        return self.chance.random() < self.faults

    async def _stop(self) -> None:
        """Stop the process now and then: its clock goes on, and it does nothing."""
        if self.longest_stop and self.chance.random() < 0.01:
            await asyncio.sleep(self.chance.random() * self.longest_stop)
