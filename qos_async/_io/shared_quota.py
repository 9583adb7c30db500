"""Shared HTTP quota: the requests of several processes of one user, in a small file.

The rule is that of ``_core.rate_limits.Quota``, with the times of all processes: a slot
is free again ``period`` seconds after the response. A process that dies holds its slots
for as long as its requests might have lasted, and then for a period.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import secrets
import sys
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import IO

import msgspec
from msgspec import Struct

from qos_async._paths import user_path

__all__ = ["QuotaShare", "SharedQuota"]

_LOCK_TIMEOUT = 5.0
_LOCK_POLL = 0.01
_SLOT_POLL = 1.0  # Another process may release a slot early.
_NOTICED = 1.0  # Seconds from which a wait is reported.
_SLACK = 0.001  # Of the period: wall clocks are slewed.
_KEPT = 120.0  # Seconds for which ends are kept at least: plans differ.

_log = logging.getLogger("qos_async.http")


class _State(Struct):
    """The file: when the requests of each key ended, or may end, in epoch seconds."""

    salt: str
    ends: dict[str, dict[str, float]]


_decoder = msgspec.json.Decoder(_State)


class SharedQuota:
    """The HTTP quota of a key, shared by the clients of all processes that use it.

    The file in ``directory`` has no key, only a salted slow hash of it. Where it cannot be
    written or locked, each client counts its own requests, as without this.

    Args:
        directory: Where the file is; created with mode 0700 if missing. A leading ``~``
            is the home directory.
        on_wait: Called with the number of seconds before a wait of a second or more for
            requests of other processes.

    Raises:
        ValueError: If ``directory`` is no path.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        on_wait: Callable[[float], object] | None = None,
    ) -> None:
        self._directory = user_path("directory", directory)
        self._on_wait = on_wait

    def share(
        self, key: Callable[[], str], *, requests: int, period: float, longest: float
    ) -> QuotaShare:
        """Return the slots of a key, for one client.

        Args:
            key: Returns the key.
            requests: The number of slots.
            period: Seconds after a response until its slot is free.
            longest: Seconds that a request may take.
        """
        return QuotaShare(
            _StateFile(self._directory),
            key,
            requests=requests,
            period=period,
            longest=longest,
            on_wait=self._on_wait,
        )


class QuotaShare:
    """The slots of one key in the file, as one client acquires them."""

    def __init__(
        self,
        file: _StateFile,
        key: Callable[[], str],
        *,
        requests: int,
        period: float,
        longest: float,
        on_wait: Callable[[float], object] | None,
    ) -> None:
        self._file = file
        self._key = key
        self._requests = requests
        self._period = period * (1 + _SLACK)
        self._longest = longest
        self._on_wait = on_wait
        self._is_usable = True

    async def acquire(self) -> str | None:
        """Wait for a slot and acquire it; return its name, None if it is not shared.

        Raises:
            AuthenticationError: If there is no key.
        """
        key, reported = self._key(), False
        wait, slot = 0.0, None
        while self._is_usable:
            try:
                async with self._file.locked() as state:
                    salt, key_id = state.salt, self._file.ids.get((state.salt, key))
                    if key_id is not None:
                        wait, slot = self._take(state, key_id)
            except OSError as exc:  # TimeoutError is one.
                self._is_usable = False
                _log.info("the HTTP quota is not shared: %s", type(exc).__name__)
                return None
            if key_id is None:
                # Not with the lock: it takes long, and others wait for five seconds only.
                self._file.ids[salt, key] = _hash(salt, key)
                continue
            if slot is not None:
                return slot
            if wait >= _NOTICED and not reported and self._on_wait is not None:
                reported = True
                self._on_wait(wait)
            await asyncio.sleep(min(wait, _SLOT_POLL))
        return None

    async def release(self, slot: str, *, sent: bool) -> None:
        """Release a slot: a period from now if the request was sent, else at once."""
        with contextlib.suppress(OSError):
            async with self._file.locked() as state:
                for ends in state.ends.values():
                    if ends.pop(slot, None) is not None and sent:
                        ends[slot] = time.time()

    def _take(self, state: _State, key_id: str) -> tuple[float, str | None]:
        """Return the seconds until a slot is free, and the slot if one is."""
        now = time.time()
        latest = now + self._longest
        # What ends later was written before the clock was set back.
        known = state.ends.get(key_id, {}).items()
        ends = {slot: min(end, latest) for slot, end in known}
        # Clients with another plan may count what is over for this one.
        kept = max(self._period, _KEPT)
        ends = {slot: end for slot, end in ends.items() if end + kept > now}
        state.ends[key_id] = ends
        counted = sorted(end for end in ends.values() if end + self._period > now)
        if len(counted) >= self._requests:
            return counted[-self._requests] + self._period - now, None
        slot = secrets.token_hex(8)
        ends[slot] = latest
        return 0.0, slot


class _StateFile:
    """The file and its lock, a second file: the first one is replaced as a whole.

    Attributes:
        ids: The names of keys in the file, by salt and key.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path = directory / "http-quota.json"
        self.ids: dict[tuple[str, str], str] = {}

    @contextlib.asynccontextmanager
    async def locked(self) -> AsyncGenerator[_State]:
        """Lock the file, and write what was changed in the state.

        Raises:
            OSError: If it cannot be written, or not locked within five seconds.
        """
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._directory / "http-quota.lock"
        with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as lock:
            async with asyncio.timeout(_LOCK_TIMEOUT):
                while not _try_lock(lock):  # noqa: ASYNC110 - of another process
                    await asyncio.sleep(_LOCK_POLL)
            # No await below: the lock is held for a moment only. Closing releases it.
            state, before = self._read()
            yield state
            for key_id in [one for one, ends in state.ends.items() if not ends]:
                del state.ends[key_id]
            after = msgspec.json.encode(state)
            if after != before:
                self._write(after)

    def _read(self) -> tuple[_State, bytes]:
        """Return the state, and what is in the file of it."""
        try:
            state = _decoder.decode(self._path.read_bytes())
            bytes.fromhex(state.salt)
        except (FileNotFoundError, msgspec.MsgspecError, ValueError):
            return _State(secrets.token_hex(16), {}), b""
        return state, msgspec.json.encode(state)

    def _write(self, data: bytes) -> None:
        new = self._path.with_suffix(".new")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        with os.fdopen(os.open(new, flags, 0o600), "wb") as file:
            file.write(data)
        new.replace(self._path)


def _hash(salt: str, key: str) -> str:
    """Return the name of a key in the file, from which it cannot be computed."""
    raw = bytes.fromhex(salt)
    return hashlib.scrypt(key.encode(), salt=raw, n=2**14, r=8, p=1, dklen=16).hex()


if sys.platform == "win32":
    import msvcrt

    def _try_lock(file: IO[bytes]) -> bool:
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _try_lock(file: IO[bytes]) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
