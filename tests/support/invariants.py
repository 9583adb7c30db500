"""What must hold whatever goes wrong: the invariants I1 to I18, watched.

A ``Judge`` looks at a client from outside: at the frames that pass between it and its
socket (a ``Tap``), at what the simulator notes, and at what ``Reader``s are given. The
simulator's tape is the oracle. The first breach is kept, for whoever drives the run.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import math
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any, NamedTuple
from urllib.parse import quote

from msgspec import Struct, field

from qos_async import Client, Depth, Dropped, Gap, Kline, Snapshot, Topic, Trade
from qos_async._core.link import MOVES
from qos_async._core.wire import LETTERS
from qos_async._io.transport import Socket, Transport
from qos_async.enums import Channel, Interval, LinkState
from qos_async.errors import QosError, RejectedError
from qos_async.sim import Simulator

__all__ = ["KEY", "START", "Ask", "Broken", "Judge", "Reader", "Tap"]

KEY = "canary-3c9e+KEY/0"
START = 1_750_000_000.0
"""What the wall clock shows when the loop's clock shows 0."""

PATIENCE = 8.0
PACE = 1.0
EPSILON = 1e-4
MOMENT = 1e-5
BURST = 200
HELD = 16.0  # Seconds after which a recovery is decided, whatever is known.
_PAUSES = {"1008": 30.0, "3000": 30.0, "4000": 30.0, "1013": 10.0}
CHANNELS = {letter: channel for channel, letter in LETTERS.items()}
LEGAL = {(before, after) for (before, _), after in MOVES.items()}


class Broken(AssertionError):  # noqa: N818
    """An invariant does not hold; the message begins with its name."""


class Said(NamedTuple):
    """A frame that the client sent, and whether it was answered in time to matter."""

    at: float
    frame: dict[str, Any]


class Heard(NamedTuple):
    """A push that the client received."""

    number: int
    at: float
    link: int
    topic: Topic
    row: tuple[Any, ...]


class Link(Struct):
    """One websocket, as its client sees it."""

    number: int
    opened_at: float
    beaten_at: float
    heard_at: float
    closed_at: float | None = None
    proven: bool = False
    awaited: Said | None = None
    sent: list[Said] = field(default_factory=list)


class Ask(Struct):
    """A question somebody waits for; ``mark`` is a count that no other asks for."""

    what: str
    at: float
    via: str
    mark: int | None
    sent_at: float | None = None
    done_at: float | None = None
    cancelled: bool = False


class Stint(Struct):
    """A time in which a reader wants a topic."""

    since: float
    until: float | None = None
    live: bool = False


class Judge:
    """Watches one client and its simulator.

    Attributes:
        broken: The first breach.
        trace: What happened, in order; equal runs have equal traces.
        heard: The pushes that were received, by topic.
        links: Every websocket so far.
        asks: Every question so far.
        quiet_at: When all was well again, in the end; 0 before.
        ended_at: When the client was closed, which gives out what is held back.
        readers: Every reader so far.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.broken: Broken | None = None
        self.trace: list[str] = []
        self.heard: dict[Topic, list[Heard]] = {}
        self.links: list[Link] = []
        self.asks: list[Ask] = []
        self.readers: list[Reader] = []
        self.counts: Counter[str] = Counter()
        self.stalls: list[tuple[float, float]] = []
        self._blind = 0
        self._blind_until = -math.inf
        self.dialling = 0
        self.held = 0
        self.dialled: list[float] = []
        self.quiet_at = 0.0
        self.ended_at = math.inf
        self._burst = 0
        self._hash = hashlib.sha256()
        self._violations = 0
        self._arrived = 0
        self._frame_before: tuple[float, Said | None, Link | None] | None = None
        self._said: dict[int, tuple[Said, Link]] = {}
        self._by_sim: dict[int, Link] = {}
        self._nth: Counter[int] = Counter()
        self._sent_at = 0.0
        self._log = _Ears(self)

    # Breaches and traces

    def fail(self, rule: str, text: str) -> None:
        """Record a breach, unless there is one."""
        if self.broken is None:
            self.broken = Broken(f"{rule} at {self.clock():.3f} s: {text}")
            self.note(f"BROKEN {self.broken}")

    def check(self, rule: str, holds: object, text: str) -> None:
        """Record a breach if something does not hold."""
        if not holds:
            self.fail(rule, text)

    def note(self, text: str, *, shown: bool = True) -> None:
        """Write a line of the trace; ``shown`` ones are for people, too."""
        line = f"{self.clock():10.4f} {text}"
        self._hash.update(line.encode() + b"\n")
        if shown:
            self.trace.append(line)

    @property
    def hash(self) -> str:
        """What equal runs share."""
        return self._hash.hexdigest()

    def stalled(self, seconds: float) -> None:
        """Record that user code has just held up the loop."""
        self.stalls.append((self.clock(), seconds))

    @contextmanager
    def blinded(self) -> Iterator[None]:
        """While the network holds bytes back, neither side can know of the other."""
        self._blind += 1
        try:
            yield
        finally:
            self._blind -= 1
            self._blind_until = self.clock()

    def listen(self) -> logging.Handler:
        """Give a handler that must not be told the key."""
        return self._log

    def slack(self, since: float) -> float:
        """Tell how much later something may be that should have come since then."""
        return sum(s + 1.5 for at, s in self.stalls if at >= since)

    def _was_blind(self, since: float) -> bool:
        return self._blind > 0 or self._blind_until >= since

    def secret(self, text: str, where: str) -> None:
        """See that the key is not told."""
        shown = KEY in text or quote(KEY, safe="") in text
        self.check("I13", not shown, f"the key is in {where}")

    # The wire, on the client's side

    def on_dial(self) -> None:
        """Record that an attempt to open a link begins."""
        self.dialled.append(self.clock())
        self.note("dial")
        self.dialling += 1
        held = self.dialling + self.held
        self.check("I4", held <= 1, f"{held} links and dials at once")

    def on_open(self) -> Link:
        """Record that a link is open."""
        now = self.clock()
        link = Link(len(self.links) + 1, now, now, now)
        self.links.append(link)
        self.note(f"link {link.number} opened")
        return link

    def on_close(self, link: Link) -> None:
        """Record that the client begins to close a link."""
        if link.closed_at is None:
            link.closed_at = self.clock()
            self.note(f"link {link.number} closed")

    def on_send(self, link: Link, raw: bytes) -> None:
        """Look at a frame that leaves."""
        now, frame = self.clock(), json.loads(raw)
        said = Said(now, frame)
        kind = frame["type"]
        self.note(f"link {link.number} > {raw.decode()}")
        if link.awaited is not None:
            waited = now - link.awaited.at
            early = waited < PATIENCE - EPSILON
            self.check("I6", not early, f"{kind} after {waited:.3f} s without answer")
        link.awaited = said
        link.sent.append(said)
        self._sent_at = now
        if kind == "H":
            soon = link.proven and now - link.beaten_at < 10 and len(link.sent) > 2
            self.check("I3", not soon, f"heartbeat {now - link.beaten_at:.1f} s apart")
            self._beats(link)
            link.beaten_at = now
        else:
            self._said[frame["reqid"]] = said, link
        for ask in self.asks:
            waits = ask.mark and ask.done_at is None and ask.via == "stream"
            if waits and f'"co":{ask.mark},' in raw.decode():
                ask.sent_at = now

    def _beats(self, link: Link) -> None:
        quiet = self.clock() - link.beaten_at
        most = 25.0 + self.slack(link.beaten_at)
        self.check("I3", quiet <= most, f"no heartbeat for {quiet:.1f} s")

    def on_receive(self, link: Link, raw: bytes) -> None:
        """Look at a frame that came."""
        link.heard_at = now = self.clock()
        if not self._burst:
            asyncio.get_running_loop().call_soon(self._new_step)
        self._burst += 1
        # Before the first answer, what aiohttp has buffered bounds it: some 100 KiB.
        fair = self._burst <= BURST or not link.proven
        self.check("I17", fair, f"{self._burst} frames in one step")
        frame = _read(raw)
        push = None if frame is None else _push_of(frame)
        if push is not None:
            self.counts["ticks"] += 1
            topic, row = push
            heard = self.heard.setdefault(topic, [])
            heard.append(Heard(len(heard), now, link.number, topic, row))
            self.note(f"< {topic} {row}", shown=False)
            link.proven = True
        elif frame is None or frame.get("tp") in CHANNELS:
            self.counts["unreadable"] += 1
            self.note(f"link {link.number} < unreadable {raw!r:.80}")
        elif "tp" in frame:
            self.counts["unknown"] += 1
            self.note(f"link {link.number} < unknown {raw!r:.80}", shown=False)
        else:
            self.counts["answers"] += 1
            shown = {name: frame[name] for name in frame if name != "data"}
            self.note(f"link {link.number} < {shown} {len(raw)} bytes")
            self._on_reply(link, frame)

    def _on_reply(self, link: Link, frame: dict[str, Any]) -> None:
        awaited = link.awaited
        if awaited is None:
            return
        asked = awaited.frame
        fits = frame.get("reqid", asked.get("reqid")) == asked.get("reqid")
        if frame.get("type") == asked["type"] and fits:
            link.awaited, link.proven = None, True

    def _new_step(self) -> None:
        self._burst = 0

    # The server

    def look(self, sim: Simulator, client: Client) -> None:
        """Look at everything that must hold at any time."""
        self._look_at_arrivals(sim)
        for violation in sim.violations[self._violations :]:
            self._look_at_violation(violation)
        self._violations = len(sim.violations)
        for ask in self.asks:
            self._look_at_ask(ask)
        for link in self.links[-1:]:
            if link.closed_at is None:
                self._beats(link)
        self._look_at_maps(client)
        self._look_at_counts(client)

    def _look_at_arrivals(self, sim: Simulator) -> None:
        for frame in sim.frames[self._arrived :]:
            said, link = self._sent_as(frame)
            before, self._frame_before = self._frame_before, (frame.at, said, link)
            if before is None or frame.at - before[0] >= PACE - 0.001:
                continue
            gap = frame.at - before[0]
            excused = _gave_up(*before, said, was_blind=self._was_blind(frame.at - 60))
            text = f"{before[1]} and {said} came {gap:.3f} s apart"
            self.check("I2", excused, text)
        self._arrived = len(sim.frames)

    def _sent_as(self, frame: Any) -> tuple[Said | None, Link | None]:
        """Find when a frame that arrived was sent."""
        self._nth[frame.link] += 1
        reqid = frame.body.get("reqid") if isinstance(frame.body, dict) else None
        if reqid in self._said:
            said, link = self._said[reqid]
            self._by_sim[frame.link] = link
            return said, link
        found = self._by_sim.get(frame.link)
        nth = self._nth[frame.link] - 1
        if found is None or nth >= len(found.sent):
            return None, None
        return found.sent[nth], found

    def _look_at_violation(self, text: str) -> None:
        if " came " in text or " connections, the plan has" in text:
            return  # Judged above by what the client could know; and by I4.
        now = self.clock()
        disturbed = self._was_blind(now - 40) or self.slack(now - 80)
        if "no heartbeat" in text:
            self.check("I3", disturbed, f"the server notes: {text}")
        elif "more requests" in text:
            self.check("I2", self._was_blind(now - 130), f"the server notes: {text}")
        else:
            self.fail("I2", f"the server notes: {text}")

    def _look_at_ask(self, ask: Ask) -> None:
        if ask.cancelled or (ask.done_at is not None and ask.done_at < 0):
            return
        now = self.clock() if ask.done_at is None else ask.done_at
        if ask.via == "http":
            due = ask.at + 900.0
        elif ask.sent_at is not None:
            due = ask.sent_at + PATIENCE + 2.0
        else:
            due = max(ask.at, self._sent_at + PATIENCE + PACE) + PATIENCE + 2.0
            due = min(due, ask.at + 150.0)
        due += self.slack(ask.at)
        state = "waits" if ask.done_at is None else "waited"
        self.check("I5", now <= due, f"{ask} {state} for {now - ask.at:.1f} s")
        if ask.done_at is not None:
            ask.done_at = -1.0  # Judged.

    def _look_at_maps(self, client: Client) -> None:
        wanted = {t for r in self.readers if not r.over for t in r.sub.topics}
        topics = len(wanted) + 2
        asked = sum(ask.done_at is None for ask in self.asks) + 2 * topics + 4
        for name, size in sizes(client).items():
            most = asked if name in ("futures", "requests", "asked") else 2 * topics + 4
            self.check("I16", size <= most, f"{name} holds {size}, expected {most}")

    def _look_at_counts(self, client: Client) -> None:
        stats, counts = client.stats, self.counts
        for name in ("ticks", "answers", "unreadable", "unknown"):
            mine, theirs = counts[name], getattr(stats, name)
            self.check(
                "I7", mine == theirs, f"{mine} {name} came, {theirs} are counted"
            )
        total = sum(counts.values())
        text = f"{total} frames came, {stats.frames_received} are counted"
        self.check("I7", total == stats.frames_received, text)
        matched = stats.answers - stats.unmatched
        text = f"{matched} answers to {stats.frames_sent} frames"
        self.check("I7", 0 <= matched <= stats.frames_sent, text)

    # The link's states

    async def watch_states(self, client: Client) -> None:
        """Look at each move of the link."""
        state, lost_at, wait, attempt = client.state, 0.0, 0.0, 0
        async for change in client.states():
            now = self.clock()
            self.note(f"state {change}")
            self.secret(repr(change), "a state change")
            move = (state, change.state)
            self.check("I15", move in LEGAL, f"from {move[0]} to {move[1]}")
            self.check("I15", state != change.state, f"from {state} to itself")
            state = change.state
            if state is LinkState.BACKOFF:
                self.check("I15", change.reason, "a link is lost without a reason")
                self._look_at_backoff(change, attempt)
                lost_at, wait, attempt = now, change.retry_in, change.attempt
            elif state is LinkState.CONNECTING:
                waited = now - lost_at
                late = self.slack(lost_at - wait)  # We may have heard of it late.
                early = attempt and waited + late < wait - EPSILON
                self.check(
                    "I14", not early, f"dialled after {waited:g} s, not {wait:g}"
                )
            elif state is LinkState.OPEN:
                proven = self.links and self.links[-1].proven
                self.check("I15", proven, "open before the server said anything")
            else:
                self.check("I15", change.reason, "closed without a reason")

    def _look_at_backoff(self, change: Any, before: int) -> None:
        last = self.links[-1] if self.links else None
        lived = last is not None and last.closed_at == self.clock()
        assert last is not None or not lived
        stable = lived and last is not None and self.clock() - last.opened_at >= 60.0
        expected = 1 if stable else before + 1
        text = f"attempt {change.attempt}, expected {expected}"
        self.check("I14", change.attempt == expected, text)
        code = re.search(r"closed the link with (\d+)", change.reason)
        least = _PAUSES.get(code[1], 0.0) if code else 0.0
        most = min(60.0, max(0.5 * 2.0 ** (change.attempt - 1), 2 * least))
        wait = change.retry_in
        text = f"attempt {change.attempt} waits {wait:g} s, not {least:g} to {most:g} s"
        self.check("I14", least <= wait <= most, text)

    # The end

    def verdict(self, sim: Simulator) -> None:
        """Look at what every reader was given, once all have ended."""
        tapes: dict[str, list[tuple[Any, ...]]] = {}
        for reader in self.readers:
            for topic in reader.stints:
                if topic.symbol not in tapes and topic.channel is Channel.TRADE:
                    rows = () if "NOPE" in topic.symbol else sim.tape(topic.symbol)
                    tapes[topic.symbol] = [_identity(row) for row in rows]
            reader.judge(tapes, sim)


class Tap:
    """A transport that tells a judge what passes."""

    def __init__(self, inner: Transport, judge: Judge) -> None:
        self._inner = inner
        self._judge = judge

    async def dial(self) -> Socket:
        judge = self._judge
        judge.on_dial()
        try:
            socket = await self._inner.dial()
        finally:
            judge.dialling -= 1
        judge.held += 1
        return _TappedSocket(socket, judge, judge.on_open())


class _TappedFrames(Sequence[bytes]):
    """Frames that a judge hears of when they are taken out."""

    def __init__(self, frames: Sequence[bytes], judge: Judge, link: Link) -> None:
        self._frames = frames
        self._judge = judge
        self._link = link

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, place: Any) -> Any:
        part = self._frames[place]
        for raw in part if isinstance(place, slice) else [part]:
            self._judge.on_receive(self._link, raw)
        return part


class _TappedSocket:
    def __init__(self, inner: Socket, judge: Judge, link: Link) -> None:
        self._inner = inner
        self._judge = judge
        self._link = link

    def set_sync_handler(self, take: Callable[[Sequence[bytes]], bool]) -> None:
        def tapped(frames: Sequence[bytes]) -> bool:
            taken = take(frames)
            for raw in frames if taken else ():
                self._judge.on_receive(self._link, raw)
            return taken

        self._inner.set_sync_handler(tapped)

    async def receive(self) -> Sequence[bytes]:
        return _TappedFrames(await self._inner.receive(), self._judge, self._link)

    async def send(self, frame: bytes) -> None:
        self._judge.on_send(self._link, frame)
        await self._inner.send(frame)

    async def close(self, *, graceful: bool) -> None:
        self._judge.on_close(self._link)
        try:
            await self._inner.close(graceful=graceful)
        finally:
            self._judge.held -= 1


class Reader:
    """Somebody who watches topics, and remembers all that was given.

    Attributes:
        events: What came, with the time at which it was taken.
        stints: When each topic was wanted.
        refused: The symbols whose refusal was told.
        over: Whether nothing more will come.
        ends: What the reading ended with.
        final: Whether only finished klines come.
        pause: Seconds between two items, for a slow one.
    """

    def __init__(
        self,
        judge: Judge,
        name: str,
        sub: Any,
        topics: Iterable[Topic],
        *,
        pause: float = 0.0,
        final: bool = False,
    ) -> None:
        self.name = name
        self.sub = sub
        self.events: list[tuple[float, Any]] = []
        self.stints: dict[Topic, list[Stint]] = {}
        self.refused: set[str] = set()
        self.over = False
        self.ends: BaseException | None = None
        self.final = final
        self._judge = judge
        self.pause = pause
        judge.readers.append(self)
        self.wants(topics)

    def wants(self, topics: Iterable[Topic]) -> None:
        """Record that more topics are wanted from now on."""
        now = self._judge.clock()
        for topic in topics:
            stints = self.stints.setdefault(topic, [])
            if not stints or stints[-1].until is not None:
                stints.append(Stint(now))

    def leaves(self, topics: Iterable[Topic]) -> None:
        """Record that topics are not wanted any more."""
        now = self._judge.clock()
        for topic in topics:
            stints = self.stints.get(topic)
            if stints and stints[-1].until is None:
                stints[-1].until = now

    def agreed(self) -> None:
        """Record that the server has said yes to all that is wanted."""
        for topic in self.open:
            self.stints[topic][-1].live = topic in self.sub.topics

    def told(self, error: QosError) -> None:
        """Record an error that the user was told."""
        judge = self._judge
        judge.note(f"{self.name} hears {type(error).__name__}: {error}")
        judge.secret(f"{error!r} {error} {error.__dict__} {error.__context__!r}", "it")
        if isinstance(error, RejectedError):
            self.refused.update(error.symbols)
        self.leaves(self.open - set(self.sub.topics))

    @property
    def open(self) -> set[Topic]:
        """What is wanted now."""
        return {t for t, stints in self.stints.items() if stints[-1].until is None}

    async def run(self) -> None:
        """Read until nothing more can come."""
        events = self.sub.events()
        while not self.over:
            try:
                event = await anext(events)
            except StopAsyncIteration:
                self.over = True
            except QosError as exc:
                self.told(exc)
                if not self.sub.topics:
                    self.over, self.ends = True, exc
            else:
                self._take(event)
                if self.pause:
                    await asyncio.sleep(self.pause)
        self.leaves(self.open)
        self._judge.note(f"{self.name} ends")

    def _take(self, event: Any) -> None:
        self.events.append((self._judge.clock(), event))
        if isinstance(event, Gap):
            self._judge.note(f"{self.name} {_short(event)}")
            self._judge.secret(repr(event), "a gap")

    # What it was given

    def judge(self, tapes: dict[str, list[tuple[Any, ...]]], sim: Simulator) -> None:
        """Look at all that came."""
        judge, stats = self._judge, self.sub.stats
        ticks = [e for _, e in self.events if not isinstance(e, (Gap, Dropped))]
        lost = sum(e.count for _, e in self.events if isinstance(e, Dropped))
        text = f"{self.name} took {len(ticks)}: {stats}"
        judge.check("I7", stats.delivered == len(ticks), text)
        whole = stats.received == stats.delivered + stats.dropped + stats.backlog
        judge.check("I7", whole, text)
        if type(self.sub._queue.buffer).__name__ != "_Conflating":
            text = f"{self.name} lost {lost}: {stats}"
            judge.check("I7", lost == stats.dropped, text)
        if self.final:
            self._judge_bars(sim)
            return
        for topic in self.stints:
            tape = tapes[topic.symbol] if topic.channel is Channel.TRADE else None
            _Story(judge, self, topic, lossless=not stats.dropped).tell(tape)
        judge.check("I9", {_topic(t) for t in ticks} <= self.stints.keys(), text)

    def _judge_bars(self, sim: Simulator) -> None:
        bars = [e for _, e in self.events if isinstance(e, Kline)]
        for topic in self.stints:
            if "NOPE" in topic.symbol:
                continue
            mine = [bar for bar in bars if _topic(bar) == topic]
            starts = [bar.timestamp for bar in mine]
            text = f"{self.name}: bars of {topic} begin at {starts}"
            ascending = all(a < b for a, b in pairwise(starts))
            self._judge.check("I9", ascending, text)
            assert topic.interval is not None
            rows = sim.market.klines(topic.symbol, topic.interval, 60, sim.now)
            truth = {row["ts"]: _push_row(Channel.KLINE, row) for row in rows}
            for bar in mine:
                same = truth.get(bar.timestamp, _row(bar)) == _row(bar)
                text = f"{self.name}: {bar} is {truth.get(bar.timestamp)}"
                self._judge.check("I10", same, text)


class _Story:
    """One topic, as one reader was told of it."""

    def __init__(
        self, judge: Judge, reader: Reader, topic: Topic, *, lossless: bool
    ) -> None:
        self._judge = judge
        self._reader = reader
        self._topic = topic
        self._lossless = lossless
        self._stints = reader.stints[topic]
        self._events = [e for _, e in reader.events if _topic(e) == topic]
        self._found = self._find()

    def _check(self, rule: str, holds: object, text: str) -> None:
        where = f"{self._reader.name}, {self._topic}"
        self._judge.check(rule, holds, f"{where}: {text}")

    def _find(self) -> dict[int, Heard]:
        """Find which push each live tick is, by its stamp; in the order of arrival."""
        waiting: dict[tuple[int, Any], deque[Heard]] = {}
        for heard in self._judge.heard.get(self._topic, ()):
            key = _stamp(heard.at), heard.row
            waiting.setdefault(key, deque()).append(heard)
        found: dict[int, Heard] = {}
        for at, event in enumerate(self._events):
            if isinstance(event, Gap) or event.recovered:
                continue
            same = waiting.get((event.received_at // 1000, _row(event)))
            if not same:
                self._check("I7", False, f"{event} was never received, or comes twice")
                continue
            found[at] = same.popleft()
        return found

    def tell(self, tape: list[tuple[Any, ...]] | None) -> None:
        self._order()
        self._gaps()
        if self._lossless:
            self._completeness()
        if tape is not None:
            self._against(tape)

    def _order(self) -> None:
        numbers = [heard.number for heard in self._found.values()]
        rising = all(a < b for a, b in pairwise(numbers))
        self._check("I9", rising, f"pushes come in the order {numbers}")
        stamps = [e.timestamp for e in self._events if not isinstance(e, Gap)]
        if any(one.until is not None for one in self._stints):
            return  # Taken back and wanted again: what is fetched may be old.
        falls = [(a, b) for a, b in pairwise(stamps) if a > b]
        self._check("I9", not falls, f"timestamps fall: {falls}")

    def _gaps(self) -> None:
        until = 0.0
        links = {link.number: link for link in self._judge.links}
        for at, event in enumerate(self._events):
            if isinstance(event, Gap):
                since, end = _loop_time(event.since), _loop_time(event.until)
                self._check("I8", event.reason, f"{event} has no reason")
                self._check(
                    "I8", since <= end + MOMENT, f"{event} ends before it begins"
                )
                apart = since >= until - MOMENT
                self._check("I8", apart, f"{_short(event)} overlaps the one before")
                until = end
                self._sides(at, since)
            elif at in self._found:
                self._told_before(at, links, until)
        for stint in self._stints:
            self._told_at_all(stint, until)

    def _sides(self, at: int, since: float) -> None:
        """What was received before a gap comes before it, what comes later after it."""
        before = [h.at for n, h in self._found.items() if n < at]
        after = [h.at for n, h in self._found.items() if n > at]
        text = f"{_short(self._events[at])} after {before[-3:]}, before {after[:3]}"
        self._check("I8", not before or max(before) <= since + MOMENT, text)
        self._check("I8", not after or min(after) > since - MOMENT, text)

    def _told_before(self, at: int, links: dict[int, Link], until: float) -> None:
        heard = self._found[at]
        earlier = [
            other
            for number, other in self._found.items()
            if number < at and self._stint(other) is self._stint(heard)
        ]
        if not earlier or earlier[-1].link >= heard.link:
            return
        opened = links[heard.link].opened_at
        text = f"{heard} of a later link than {earlier[-1]}, and no gap between"
        held = until >= opened - MOMENT or self._held_on(heard, at)
        self._check("I8", held, text)

    def _held_on(self, heard: Heard, at: int) -> bool:
        """Whether it came on a link that did not last, and follows a wider gap."""
        gaps = [e for e in self._events[:at] if isinstance(e, Gap)]
        return bool(gaps) and _loop_time(gaps[-1].until) >= heard.at

    def _told_at_all(self, stint: Stint, until: float) -> None:
        """A topic that was live on an earlier link than the last had a gap."""
        judge = self._judge
        if stint.until is not None and stint.until < judge.quiet_at:
            return
        if not judge.quiet_at:
            return
        last = [link for link in judge.links if link.opened_at < judge.quiet_at][-1]
        mine = [h for h in self._found.values() if self._stint(h) is stint]
        was_live = any(h.link < last.number for h in mine)
        told = until >= last.opened_at - MOMENT
        text = f"live before link {last.number}, and no gap was told since"
        self._check("I8", not was_live or told, text)

    def _stint(self, heard: Heard) -> Stint | None:
        for stint in self._stints:
            until = stint.until
            if stint.since <= heard.at and (until is None or heard.at <= until):
                return stint
        return None

    def _completeness(self) -> None:
        told = {heard.number for heard in self._found.values()}
        echoes = Counter(
            _row(e) for e in self._events if not isinstance(e, Gap) and e.recovered
        )
        missing = []
        for heard in self._judge.heard.get(self._topic, ()):
            stint = self._stint(heard)
            if stint is None or heard.number in told:
                continue
            if heard.at in (stint.since, stint.until) or self._held_at_the_end(
                heard, stint
            ):
                continue
            if echoes[heard.row]:
                echoes[heard.row] -= 1
            elif not self._superseded(heard):
                missing.append(heard)
        text = f"{len(missing)} pushes were not delivered: {missing[:3]}"
        self._check("I7", not missing, text)

    def _superseded(self, heard: Heard) -> bool:
        """Whether a bar was held back until a newer state of it was told instead."""
        if self._topic.channel is not Channel.KLINE:
            return False
        ticks = [e for e in self._events if not isinstance(e, Gap)]
        newer = any(
            tick.timestamp == heard.row[0] and tick.volume >= heard.row[2]
            for tick in ticks
        )
        gaps = [e for e in self._events if isinstance(e, Gap)]
        return newer and any(
            _loop_time(gap.since) - MOMENT <= heard.at <= _loop_time(gap.until) + HELD
            for gap in gaps
        )

    def _held_at_the_end(self, heard: Heard, stint: Stint) -> bool:
        """Whether it was held back when the topic was given up."""
        if stint.until is None or stint.until >= self._judge.ended_at:
            return False
        later = (h for h in self._found.values() if h.number > heard.number)
        return not any(self._stint(other) is stint for other in later)

    # The tape

    def _against(self, tape: list[tuple[Any, ...]]) -> None:
        ticks = [e for e in self._events if not isinstance(e, Gap)]
        heard = Counter(map(_identity_of, ticks))
        extra = heard - Counter(tape)
        self._check("I10", not extra, f"not on the tape, or too often: {extra}")
        for event in self._events:
            if isinstance(event, Gap):
                self._recovered(event)
        if self._lossless:
            for run in self._runs():
                where = _place(run, tape)
                text = f"{len(run)} trades in a row are not so on the tape: {where}"
                self._check("I10", isinstance(where, int), text)

    def _recovered(self, gap: Gap) -> None:
        """Recovered trades are of the gap."""
        at = self._events.index(gap)
        mine = self._events[at + 1 : at + 1 + gap.recovered]
        until = gap.until.timestamp()
        if not self._lossless:
            return
        for tick in self._fetched(mine, gap):
            # How old it may be says its order: nothing is fetched that was told.
            inside = tick.timestamp <= until + 1.5
            self._check("I10", inside, f"{tick} is not of {_short(gap)}")

    def _fetched(self, mine: list[Any], gap: Gap) -> list[Any]:
        return [e for e in mine if not isinstance(e, Gap) and e.recovered]

    def _runs(self) -> list[list[tuple[Any, ...]]]:
        """Cut what was delivered where it need not be complete."""
        runs: list[list[tuple[Any, ...]]] = [[]]
        since, stint = 0.0, None
        for at, event in enumerate(self._events):
            if isinstance(event, Gap):
                if event.status != "filled":
                    runs.append([])
                    since = _loop_time(event.until)
                continue
            heard = self._found.get(at)
            if heard is None and since:
                continue  # Fetched for a gap that is not filled.
            if heard is not None and heard.at < since - MOMENT:
                continue  # Of a link that did not last.
            if heard is not None:
                now = self._stint(heard)
                if now is not stint and stint is not None:
                    runs.append([])
                stint, since = now, 0.0
            runs[-1].append(_identity_of(event))
        return [run for run in runs if run]


class _Ears(logging.Handler):
    """Hears every line of every log."""

    def __init__(self, judge: Judge) -> None:
        super().__init__(logging.DEBUG)
        self._judge = judge

    def emit(self, record: logging.LogRecord) -> None:
        told = f"{record.getMessage()} {record.args!r} {record.exc_text}"
        if record.exc_info:
            told += logging.Formatter().formatException(record.exc_info)
        self._judge.secret(told, "the log")
        if record.name.startswith("qos_async") and record.levelno >= logging.ERROR:
            self._judge.fail("I18", told)


def sizes(client: Client) -> dict[str, int]:
    """Count what a client remembers; all of it must stay small."""
    stream: Any = client._stream
    protocol = stream._protocol
    registry, requests, recovery = (
        protocol.registry,
        protocol._requests,
        protocol.recovery,
    )
    return {
        "wanted": len(registry._wanted),
        "held": len(registry._held),
        "unsure": len(registry._unknown),
        "dirty": len(registry.dirty),
        "suspects": len(registry._split_batches),
        "outages": len(protocol.outages.open),
        "early": len(protocol._outage_tracker._ticking_unacked),
        "refusals": len(protocol._outage_tracker._rejections),
        "cases": len(recovery.cases),
        "echoes": len(recovery.echoes),
        "asked": len(recovery._sent),
        "requests": len(requests._unsent) + len(requests._sent),
        "futures": len(stream._pending._futures),
        "routes": sum(map(len, stream._router.by_symbol.values())),
        "inboxes": len(stream._queues),
    }


def _gave_up(
    arrived_at: float,
    said: Said | None,
    link: Link | None,
    following: Said | None,
    *,
    was_blind: bool,
) -> bool:
    """Whether the client could not know that a frame would arrive so late."""
    if said is None or link is None or following is None:
        return was_blind
    if link.closed_at is not None and link.closed_at <= arrived_at:
        return True
    return following.at - said.at >= PATIENCE - EPSILON


def _read(raw: bytes) -> dict[str, Any] | None:
    try:
        frame = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return frame if isinstance(frame, dict) else None


def _push_of(frame: dict[str, Any]) -> tuple[Topic, tuple[Any, ...]] | None:
    channel = CHANNELS.get(str(frame.get("tp")))
    if channel is None or "ts" not in frame:
        return None
    interval = Interval(frame["kt"]) if channel is Channel.KLINE else None
    try:
        return Topic(channel, frame["c"], interval), _push_row(channel, frame)
    except (ArithmeticError, KeyError):
        return None


def _push_row(channel: Channel, row: dict[str, Any]) -> tuple[Any, ...]:
    match channel:
        case Channel.TRADE:
            return _identity(row)
        case Channel.SNAPSHOT:
            return row["ts"], Decimal(row["lp"]), Decimal(row["v"])
        case Channel.DEPTH:
            levels = [*row["b"][:1], *row["a"][:1]]
            return row["ts"], *(Decimal(str(one["p"])) for one in levels)
        case Channel.KLINE:
            return row["ts"], Decimal(row["cl"]), Decimal(row["v"])


def _identity(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["ts"], Decimal(str(row["p"])), Decimal(str(row["v"]))


def _row(tick: Any) -> tuple[Any, ...]:
    match tick:
        case Trade():
            return _identity_of(tick)
        case Snapshot():
            return tick.timestamp, tick.last_price, tick.volume
        case Depth():
            levels = [*tick.bids[:1], *tick.asks[:1]]
            return tick.timestamp, *(one.price for one in levels)
        case _:
            return tick.timestamp, tick.close, tick.volume


def _identity_of(trade: Trade[Any]) -> tuple[Any, ...]:
    return trade.timestamp, trade.price, trade.size


def _topic(event: Any) -> Topic | None:
    return None if isinstance(event, Dropped) else event.topic


def _stamp(at: float) -> int:
    return int((START + at) * 1e9) // 1000


def _loop_time(moment: datetime) -> float:
    return moment.timestamp() - START


def _short(gap: Gap) -> str:
    since, until = _loop_time(gap.since), _loop_time(gap.until)
    return (
        f"Gap({gap.topic}, {since:.3f}-{until:.3f}, {gap.status}, "
        f"{gap.recovered}, {gap.reason!r})"
    )


def _place(run: list[Any], tape: list[Any]) -> int | str:
    """Find a run on the tape, or say what is wrong with it."""
    size = len(run)
    places = [at for at, one in enumerate(tape) if one == run[0]]
    for at in places:
        if tape[at : at + size] == run:
            return at
    if not places:
        return f"{run[0]} is not there"
    best = max(places, key=lambda at: _common(run, tape[at:]))
    common = _common(run, tape[best:])
    there = tape[best + common : best + common + 1]
    return f"after {common}: {run[common : common + 3]}, the tape has {there}"


def _common(one: list[Any], other: list[Any]) -> int:
    pairs = zip(one, other, strict=False)
    return next(
        (n for n, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other))
    )
