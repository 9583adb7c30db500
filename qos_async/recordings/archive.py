"""Archives of recordings: a file for each market and trading day, and a manifest."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, cast, get_args

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from qos_async._clock import epoch_ns
from qos_async._core.wire import LETTERS
from qos_async._paths import user_path
from qos_async.recordings.archive_days import TradingDays
from qos_async.recordings.archive_file import (
    ArchivedDay,
    DayFile,
    DayState,
    Manifest,
    decode_days,
)
from qos_async.recordings.blocks import compressor
from qos_async.recordings.files import RecordingError
from qos_async.recordings.format import Entry, Event, load_zstd
from qos_async.recordings.last_values import PushHeader, push_header
from qos_async.recordings.parquet import workplace
from qos_async.recordings.slices import open_entries, recorded_source
from qos_async.symbols import market_of
from qos_async.topics import Topic

__all__ = ["Archived", "archive"]

_LETTERS = frozenset(LETTERS.values())
_EVENTS = frozenset(get_args(Event))
_LEVEL = 9
# Entries with which a file begins; others wait for one of these.
_BEGIN = ("lost", "suspect", "fetched")


class Archived(Struct, frozen=True, kw_only=True):
    """Summary of an archive run.

    Attributes:
        written: The files that are new or have changed.
        unchanged: The files that are as they were.
        kept: The paths of files that have more than the recording has now, or as much.
        unfinished: The days that go on, which are left out, as ``"US 2025-01-02"``.
        faults: A message for each damaged part of the recording.
        unreadable: The number of frames that are no push of a market.
    """

    written: tuple[ArchivedDay, ...]
    unchanged: tuple[ArchivedDay, ...]
    kept: tuple[str, ...]
    unfinished: tuple[str, ...]
    faults: tuple[str, ...]
    unreadable: int


def archive(
    place: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    start: datetime | None = None,
    now: datetime | None = None,
) -> Archived:
    """Write the finished trading days of a recording, each as a recording of its own.

    Files are named ``OUT/US/qos-US-2025-01-02.jsonl.zst``, and ``replay``, ``follow`` and
    ``convert`` read each of them, or a whole market. Each begins with the topics that are
    subscribed, and ticks keep their places. A day lasts from the first session of its
    market to that of the next one, or to the end of an outage over it. Running it again
    writes the same bytes; a file stays unless the recording has more pushes of its day.
    ``OUT/manifest.json`` has checksums, counts and gaps.

    Args:
        place: A directory, one of its files, or a stream. Within an event loop, call this
            in a thread.
        out: The directory; created if missing.
        start: Read from there on only, and leave out days that began before.
        now: Days that end later are left out; the present time by default.

    Raises:
        RecordingError: If there is no recording, or ``out`` is not writable.
        MissingZstdError: If no zstandard library is installed.
        ValueError: For a place or a path that cannot be one.
    """
    target = user_path("out", out)
    source, _ = recorded_source(place, start)
    ends_at = time.time_ns() if now is None else epoch_ns(now)
    begins_at = 0 if start is None else epoch_ns(start)
    try:
        with open_entries(source) as (opening, entries), workplace(target) as drafts:
            archiver = _Archiver(drafts, begins_at)
            for entry in opening.before:
                archiver.pass_over(entry)
            for entry in entries:
                archiver.add(entry)
            return archiver.finish(target, drafts, ends_at, opening.faults)
    except OSError as exc:
        why = exc.strerror or exc
        raise RecordingError(f"cannot write to {target}: {why}") from exc


class _Archiver:
    """Parts entries by market and day."""

    def __init__(self, drafts: Path, begins_at: int) -> None:
        self._drafts, self._begins_at = drafts, begins_at
        self._packer = compressor(load_zstd(), _LEVEL)
        self._markets: dict[str, _Market] = {}
        self._run: tuple[str, int] | None = None
        self._link = self._gaps = False
        self._batch: tuple[int, list[str]] = (0, [])
        self._faults: list[str] = []
        self._unreadable = 0

    def pass_over(self, entry: Entry) -> None:
        """Take what holds before the start."""
        if entry.kind in ("started", "subscribed"):
            for topic in (*entry.topics, *entry.awaited):
                self._of(topic.symbol)
        if entry.kind == "started":
            self._begin(entry)
        elif entry.kind != "frame":
            for market in self._markets.values():
                market.track(market.part(entry))

    def add(self, entry: Entry) -> None:
        """Write an entry to the files that need it."""
        match entry.kind:
            case "frame":
                self._on_frame(entry)
            case "started":
                self._on_started(entry)
            case "damaged" | "missing":
                self._faults.append(entry.reason)
                self._cut_all(entry, f"the recording is damaged: {entry.reason}")
                self._reopen(entry, self._link, self._topics())
            case "unknown":
                pass
            case _:
                self._on_event(entry)

    def _of(self, symbol: str) -> _Market:
        market = market_of(symbol)
        found = self._markets.get(market)
        if found is None:
            found = _Market(market, self._drafts, self._packer, self._begins_at)
            found.state.link = self._link
            self._markets[market] = found
        return found

    def _on_frame(self, entry: Entry) -> None:
        header = push_header(entry.frame)
        symbol = "" if header is None else header.topic.symbol
        market, _, code = symbol.partition(":")
        if header is None or header.tp not in _LETTERS:
            self._unreadable += header is None
        elif code and market.isascii() and market.isalnum():
            if self._batch[0] != entry.at:
                self._batch = entry.at, []
            self._batch[1].append(market)
            self._of(symbol).frame(entry, header)
        else:
            self._unreadable += 1

    def _on_event(self, entry: Entry) -> None:
        for topic in entry.topics:
            self._of(topic.symbol)
        if entry.kind == "opened":
            self._link = True
        elif entry.kind in ("lost", "closed"):
            self._link = False
        if entry.kind == "lost" and not self._gaps:
            self._cut_all(entry, entry.reason)
            return
        for name, market in self._markets.items():
            left = self._batch[1][-entry.left :].count(name) if entry.left else 0
            if not entry.topics or market.has_any(entry.topics):
                market.event(replace(market.part(entry), left=left))

    # The beginnings of files and runs

    def _on_started(self, entry: Entry) -> None:
        before, here = self._run, (entry.run, entry.number)
        for topic in (*entry.topics, *entry.awaited):
            self._of(topic.symbol)
        if before is None:
            self._begin(entry)
            return
        self._run, self._gaps = here, entry.gaps
        if here == (before[0], before[1] + 1):
            return
        self._cut_all(entry, "the recording was interrupted")
        self._reopen(entry, entry.link, set(entry.topics))

    def _begin(self, entry: Entry) -> None:
        self._run, self._gaps, self._link = (
            (entry.run, entry.number),
            entry.gaps,
            entry.link,
        )
        for market in self._markets.values():
            market.state.link = entry.link
            market.state.topics.update(filter(market.has, entry.topics))
            market.state.awaited.update(filter(market.has, entry.awaited))

    def _topics(self) -> set[Topic]:
        return {t for one in self._markets.values() for t in one.lost_topics}

    def _cut_all(self, entry: Entry, reason: str) -> None:
        for market in self._markets.values():
            market.cut(entry, reason)

    def _reopen(self, entry: Entry, link: bool, topics: set[Topic]) -> None:  # noqa: FBT001 - internal
        self._link = link
        if link:
            opened = Entry(at=entry.at, elapsed=entry.elapsed, kind="opened")
            kind = "subscribed"
            for market in self._markets.values():
                market.event(opened)
                if own := tuple(sorted(filter(market.has, topics))):
                    market.event(replace(opened, kind=kind, topics=own))

    # The end

    def finish(
        self, out: Path, drafts: Path, now: int, faults: Iterable[str]
    ) -> Archived:
        """Move the complete files to their places, and write the manifest."""
        path = out / "manifest.json"
        known: dict[str, ArchivedDay] = {}
        with suppress(FileNotFoundError):
            try:
                known = decode_days(path.read_bytes())
            except ValueError as exc:
                raise RecordingError(
                    f"{path} is not a manifest of an archive: use another directory ({exc})"
                ) from None
        written: list[ArchivedDay] = []
        unchanged: list[ArchivedDay] = []
        kept: list[str] = []
        unfinished: list[str] = []
        for market in sorted(self._markets):
            for made, draft, is_whole in self._markets[market].close(now):
                before = known.get(made.path)
                target = out / made.path
                exists = before is not None and target.exists()
                if not is_whole:
                    unfinished.append(f"{market} {made.date}")
                elif exists and before == made:
                    unchanged.append(made)
                elif exists and before is not None and before.pushes >= made.pushes:
                    kept.append(made.path)
                else:
                    target.parent.mkdir(exist_ok=True)
                    draft.replace(target)
                    known[made.path] = made
                    written.append(made)
                draft.unlink(missing_ok=True)
        if written or not path.exists():
            _write_manifest(path, drafts, known)
        return Archived(
            written=tuple(written),
            unchanged=tuple(unchanged),
            kept=tuple(kept),
            unfinished=tuple(unfinished),
            faults=(*faults, *(one for one in self._faults if one not in faults)),
            unreadable=self._unreadable,
        )


def _write_manifest(path: Path, drafts: Path, days: dict[str, ArchivedDay]) -> None:
    whole = Manifest(files=tuple(days[name] for name in sorted(days)))
    text = msgspec.json.format(msgspec.json.encode(whole), indent=1)
    draft = drafts / "manifest.part"
    draft.write_bytes(text + b"\n")
    draft.replace(path)


class _Market:
    """The entries of one market: its state, and its file of the present day.

    Attributes:
        state: What holds now.
        lost_topics: The topics of the last ``cut``.
    """

    def __init__(self, market: str, drafts: Path, packer: Any, begins_at: int) -> None:
        self.state = DayState()
        self.lost_topics: set[Topic] = set()
        self._market, self._drafts, self._packer = market, drafts, packer
        self._begins_at = begins_at
        self._days = TradingDays(market)
        self._file: DayFile | None = None
        self._closed: list[tuple[ArchivedDay, Path, bool]] = []
        self._cut: dict[Topic, tuple[int, str]] = {}
        self._last_at = self._previous = 0

    def has(self, topic: Topic) -> bool:
        """Whether a topic is of this market."""
        return market_of(topic.symbol) == self._market

    def has_any(self, topics: Iterable[Topic]) -> bool:
        """Whether one of them is."""
        return any(map(self.has, topics))

    def part(self, entry: Entry) -> Entry:
        """Return an entry with the topics of this market only."""
        return replace(entry, topics=tuple(filter(self.has, entry.topics)))

    def frame(self, entry: Entry, header: PushHeader) -> None:
        """Write a push."""
        self._open(entry).frame(entry, header)
        self._last_at = entry.at

    def event(self, entry: Entry) -> None:
        """Write an event, and those that it implies."""
        begins = entry.kind in _BEGIN and (entry.topics or self.state.topics)
        file = self._open(entry) if begins else self._current(entry)
        if file is not None:
            file.event(cast("Event", entry.kind), entry)
        self.track(entry)
        if entry.kind == "subscribed":
            self._end_cuts(entry)

    def track(self, entry: Entry) -> None:
        """Keep what holds after an event."""
        state, topics = self.state, entry.topics
        match entry.kind:
            case "opened":
                state.link = True
            case "lost":
                state.link = False
                state.awaited |= state.topics
                state.topics.clear()
            case "closed":
                state.link = False
                state.topics.clear()
                state.awaited.clear()
            case "subscribed":
                state.topics.update(topics)
            case "suspect":
                state.awaited.update(topics)
            case "fetched":
                state.awaited.difference_update(topics)
            case "unsubscribed" | "rejected":
                state.topics.difference_update(topics)
                state.awaited.difference_update(topics)
            case _:
                pass

    def cut(self, entry: Entry, reason: str) -> None:
        """Begin an outage of all topics, of which no end is recorded."""
        state = self.state
        self.lost_topics = set(state.topics)
        since = self._last_at or entry.at
        self._cut |= dict.fromkeys(state.topics | state.awaited, (since, reason))
        if state.link:
            at = max(since, entry.at)
            self.event(Entry(at=at, elapsed=entry.elapsed, kind="lost", reason=reason))
        state.topics.clear()

    def _end_cuts(self, entry: Entry) -> None:
        for topic in entry.topics:
            if topic not in self._cut:
                continue
            since, reason = self._cut.pop(topic)
            self.event(
                Entry(
                    at=entry.at,
                    elapsed=entry.elapsed,
                    kind="fetched",
                    topics=(topic,),
                    status="unfilled",
                    reason=reason,
                    since=since,
                    until=entry.at,
                )
            )

    def _current(self, entry: Entry) -> DayFile | None:
        """Return the file of the day of an entry, if there is one."""
        file = self._file
        if file is None or self.state.awaited:
            return file
        if self._days.date_at(entry.at) > file.day:
            self._finish(is_over=True)
            return None
        return file

    def _open(self, entry: Entry) -> DayFile:
        file = self._current(entry)
        if file is None:
            day = self._days.date_at(entry.at)
            draft = self._drafts / f"{self._market}-{day}.part"
            file = self._file = DayFile(
                draft,
                self._market,
                day,
                first=entry,
                state=self.state,
                packer=self._packer,
                previous=self._previous,
            )
        return file

    def _finish(self, *, is_over: bool) -> None:
        file, self._file = self._file, None
        if file is not None:
            self._previous = file.last_at
            made = file.close()
            is_cut = self._days.begins_at(file.day) < self._begins_at
            self._closed.append((made, file.draft, is_over and not is_cut))

    def close(self, now: int) -> list[tuple[ArchivedDay, Path, bool]]:
        """Return all files, their drafts, and whether each has all of its day."""
        if self._file is not None:
            self._finish(is_over=self._days.ends_at(self._file.day) <= now)
        return self._closed
