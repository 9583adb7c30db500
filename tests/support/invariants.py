"""Invariants I1 to I18, which must hold whatever goes wrong, checked during a run.

An ``InvariantChecker`` observes a client from outside: the frames between it and its
socket (``ObservedTransport``), what the simulator records, and what each
``RecordingConsumer`` receives. The first violation is kept, for the driver of the run.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from qos_async import Client, Gap, Interrupted, Rejected, Topic
from qos_async.errors import QosError, RejectedError
from qos_async.sim import ReceivedFrame, Simulator
from tests.support.client_sizes import client_sizes
from tests.support.observations import (
    CHANNELS,
    Fetch,
    ObservedLink,
    ReceivedPush,
    SentFrame,
    SubscriptionSpan,
    decode,
    push_of,
    short,
)

__all__ = [
    "KEY",
    "TOLERANCE",
    "InvariantChecker",
    "InvariantViolation",
    "RecordingConsumer",
]

KEY = "canary-3c9e+KEY/0"

REQUEST_TIMEOUT = 8.0
COMMAND_INTERVAL = 1.0
TOLERANCE = 1e-4
MAX_FRAMES_PER_STEP = 200


class InvariantViolation(AssertionError):  # noqa: N818
    """An invariant does not hold; the message begins with its name."""


class InvariantChecker:
    """Checks one client and its simulator.

    Attributes:
        violation: The first violation.
        trace: Events, in order; equal runs have equal traces.
        received: The pushes that were received, by topic.
        links: Every websocket so far.
        fetches: Every fetch so far.
        consumers: Every consumer so far.
        counts: Frames received, by kind.
        blocks: When user code blocked the loop, and for how many seconds.
        dialling: Dials in progress.
        open_links: Links that are not closed.
        settled_at: When everything had recovered, at the end of the run; 0 before.
        closed_at: When the client was closed, which delivers what it held.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.violation: InvariantViolation | None = None
        self.trace: list[str] = []
        self.received: dict[Topic, list[ReceivedPush]] = {}
        self.links: list[ObservedLink] = []
        self.fetches: list[Fetch] = []
        self.consumers: list[RecordingConsumer] = []
        self.counts: Counter[str] = Counter()
        self.blocks: list[tuple[float, float]] = []
        self._blackouts = 0
        self._blackout_ended_at = -math.inf
        self.dialling = 0
        self.open_links = 0
        self.settled_at = 0.0
        self.closed_at = math.inf
        self._frames_in_step = 0
        self._hash = hashlib.sha256()
        self._violations_checked = 0
        self._intervals = _IntervalChecker(self)
        self._last_sent_at = 0.0
        self._log_checker = _LogChecker(self)

    # Violations and traces

    def fail(self, rule: str, text: str) -> None:
        """Record a violation, unless there is one already."""
        if self.violation is None:
            self.violation = InvariantViolation(
                f"{rule} at {self.clock():.3f} s: {text}"
            )
            self.record(f"VIOLATED {self.violation}")

    def check(self, rule: str, holds: object, text: str) -> None:
        """Record a violation if ``holds`` is false."""
        if not holds:
            self.fail(rule, text)

    def record(self, text: str, *, shown: bool = True) -> None:
        """Add a line to the hash, and to the trace if it is to be shown."""
        line = f"{self.clock():10.4f} {text}"
        self._hash.update(line.encode() + b"\n")
        if shown:
            self.trace.append(line)

    @property
    def hash(self) -> str:
        """A hash of all lines; equal runs have equal hashes."""
        return self._hash.hexdigest()

    def record_block(self, seconds: float) -> None:
        """Record that user code has just blocked the loop."""
        self.blocks.append((self.clock(), seconds))

    @contextmanager
    def blackout(self) -> Iterator[None]:
        """Record a time in which the network holds bytes, so neither side knows the other."""
        self._blackouts += 1
        try:
            yield
        finally:
            self._blackouts -= 1
            self._blackout_ended_at = self.clock()

    def log_handler(self) -> logging.Handler:
        """Return a log handler that checks what is logged."""
        return self._log_checker

    def slack(self, since: float) -> float:
        """Return the seconds by which blocks since then may have delayed the client."""
        return sum(s + 1.5 for at, s in self.blocks if at >= since)

    def blackout_since(self, since: float) -> bool:
        """Return whether the network has held bytes since then."""
        return self._blackouts > 0 or self._blackout_ended_at >= since

    def check_no_key(self, text: str, where: str) -> None:
        """Check that a text does not contain the key."""
        leaked = KEY in text or quote(KEY, safe="") in text
        self.check("I13", not leaked, f"the key is in {where}")

    # The wire, on the client's side

    def on_dial(self) -> None:
        """Record that an attempt to open a link begins."""
        self.record("dial")
        self.dialling += 1
        links = self.dialling + self.open_links
        self.check("I4", links <= 1, f"{links} links and dials at once")

    def on_open(self) -> ObservedLink:
        """Record that a link is open."""
        now = self.clock()
        link = ObservedLink(len(self.links) + 1, now, now)
        self.links.append(link)
        self.record(f"link {link.number} opened")
        return link

    def on_close(self, link: ObservedLink) -> None:
        """Record that the client begins to close a link."""
        if link.closed_at is None:
            link.closed_at = self.clock()
            self.record(f"link {link.number} closed")

    def on_send(self, link: ObservedLink, raw: bytes) -> None:
        """Check a frame that the client sends."""
        now, frame = self.clock(), json.loads(raw)
        sent = SentFrame(now, frame)
        kind = frame["type"]
        self.record(f"link {link.number} > {raw.decode()}")
        if link.pending is not None:
            waited = now - link.pending.at
            # The very first frame may be dropped for the pace of the process before: it
            # and the second have half of the time each, if there is no reply at all.
            sent_so_far = sum(len(one.sent) for one in self.links)
            unanswered = not any(one.confirmed for one in self.links)
            first = unanswered and sent_so_far <= 2
            least = REQUEST_TIMEOUT / 2 if first else REQUEST_TIMEOUT
            early = waited < least - TOLERANCE
            self.check("I6", not early, f"{kind} after {waited:.3f} s without a reply")
        link.pending = sent
        link.sent.append(sent)
        self._last_sent_at = now
        if kind == "H":
            interval = now - link.heartbeat_at
            early = link.confirmed and interval < 10 and len(link.sent) > 2
            early = early and not link.heartbeat_refused  # Then it is sent again.
            link.heartbeat_refused = False
            self.check("I3", not early, f"heartbeats {interval:.1f} s apart")
            self._check_heartbeat(link)
            link.heartbeat_at = now
        else:
            self._intervals.on_send(link, sent)
        for fetch in self.fetches:
            pending = fetch.done_at is None and fetch.via == "stream"
            if pending and f'"co":{fetch.unique_count},' in raw.decode():
                fetch.sent_at = now

    def _check_heartbeat(self, link: ObservedLink) -> None:
        elapsed = self.clock() - link.heartbeat_at
        most = 25.0 + self.slack(link.heartbeat_at)
        self.check("I3", elapsed <= most, f"no heartbeat for {elapsed:.1f} s")

    def on_receive(self, link: ObservedLink, raw: bytes) -> None:
        """Check a frame that the client received."""
        now = self.clock()
        if not self._frames_in_step:
            asyncio.get_running_loop().call_soon(self._new_step)
        self._frames_in_step += 1
        # Before the first reply only aiohttp's buffer, some 100 KiB, is the limit.
        yields = self._frames_in_step <= MAX_FRAMES_PER_STEP or not link.confirmed
        self.check("I17", yields, f"{self._frames_in_step} frames in one step")
        frame = decode(raw)
        push = None if frame is None else push_of(frame)
        if push is not None:
            self.counts["ticks"] += 1
            topic, values = push
            pushes = self.received.setdefault(topic, [])
            pushes.append(ReceivedPush(len(pushes), now, link.number, topic, values))
            self.record(f"< {topic} {values}", shown=False)
            link.confirmed = True
        elif frame is None or frame.get("tp") in CHANNELS:
            self.counts["unreadable"] += 1
            self.record(f"link {link.number} < unreadable {raw!r:.80}")
        elif "tp" in frame:
            self.counts["unknown"] += 1
            self.record(f"link {link.number} < unknown {raw!r:.80}", shown=False)
        else:
            self.counts["answers"] += 1
            shown = {name: frame[name] for name in frame if name != "data"}
            self.record(f"link {link.number} < {shown} {len(raw)} bytes")
            self._on_reply(link, frame)

    def _on_reply(self, link: ObservedLink, frame: dict[str, Any]) -> None:
        if frame.get("type") == "H" and frame.get("msg") != "OK":
            link.heartbeat_refused = True
        if link.pending is None:
            return
        sent = link.pending.frame
        matches = frame.get("reqid", sent.get("reqid")) == sent.get("reqid")
        if frame.get("type") == sent["type"] and matches:
            link.pending, link.confirmed = None, True

    def _new_step(self) -> None:
        self._frames_in_step = 0

    # The server

    def check_now(self, sim: Simulator, client: Client) -> None:
        """Check everything that must hold at any time."""
        self._intervals.check(sim)
        for violation in sim.violations[self._violations_checked :]:
            self._check_server_violation(violation)
        self._violations_checked = len(sim.violations)
        for fetch in self.fetches:
            self._check_fetch(fetch)
        for link in self.links[-1:]:
            if link.closed_at is None:
                self._check_heartbeat(link)
        self._check_sizes(client)
        self._check_counts(client)

    def _check_server_violation(self, text: str) -> None:
        if " arrived " in text or " connections, the plan has" in text:
            return  # Checked by _IntervalChecker, which knows the client's view; by I4.
        now = self.clock()
        disturbed = self.blackout_since(now - 40) or self.slack(now - 80)
        report = f"the server recorded: {text}"
        if "no heartbeat" in text:
            self.check("I3", disturbed, report)
        elif "more requests" in text:
            self.check("I2", self.blackout_since(now - 130), report)
        else:
            self.fail("I2", report)

    def _check_fetch(self, fetch: Fetch) -> None:
        if fetch.cancelled or fetch.is_checked:
            return
        now = self.clock() if fetch.done_at is None else fetch.done_at
        deadline = self._fetch_deadline(fetch) + self.slack(fetch.started_at)
        state = "waits" if fetch.done_at is None else "waited"
        text = f"{fetch} {state} for {now - fetch.started_at:.1f} s"
        self.check("I5", now <= deadline, text)
        fetch.is_checked = fetch.done_at is not None

    def _fetch_deadline(self, fetch: Fetch) -> float:
        if fetch.via == "http":
            return fetch.started_at + 900.0
        if fetch.sent_at is not None:
            return fetch.sent_at + REQUEST_TIMEOUT + 2.0
        free_at = self._last_sent_at + REQUEST_TIMEOUT + COMMAND_INTERVAL
        sent_by = max(fetch.started_at, free_at)
        return min(sent_by + REQUEST_TIMEOUT + 2.0, fetch.started_at + 150.0)

    def _check_sizes(self, client: Client) -> None:
        active = [one for one in self.consumers if not one.ended]
        topics = len({topic for one in active for topic in one.sub.topics}) + 2
        pending = sum(fetch.done_at is None for fetch in self.fetches)
        for name, size in client_sizes(client).items():
            most = 2 * topics + 4
            if name in ("futures", "requests", "recovery_requests"):
                most += pending
            self.check("I16", size <= most, f"{name} holds {size}, expected {most}")

    def _check_counts(self, client: Client) -> None:
        stats, counts = client.stats, self.counts
        for name in ("ticks", "answers", "unreadable", "unknown"):
            count, counted = counts[name], getattr(stats, name)
            text = f"{count} {name} were received, {counted} are counted"
            self.check("I7", count == counted, text)
        total = sum(counts.values())
        text = f"{total} frames were received, {stats.frames_received} are counted"
        self.check("I7", total == stats.frames_received, text)
        matched = stats.answers - stats.unmatched
        text = f"{matched} replies to {stats.frames_sent} frames"
        self.check("I7", 0 <= matched <= stats.frames_sent, text)


class _IntervalChecker:
    """Checks the intervals at which frames arrive at the server, over all links (I2).

    Two frames may arrive too close together if the client could not know that the first
    was late: its link was closed meanwhile, or its reply had timed out.
    """

    def __init__(self, checker: InvariantChecker) -> None:
        self._checker = checker
        self._checked = 0
        self._previous: tuple[float, SentFrame | None, ObservedLink | None] | None
        self._previous = None
        self._sent_by_reqid: dict[int, tuple[SentFrame, ObservedLink]] = {}
        self._links_by_number: dict[int, ObservedLink] = {}
        self._arrivals_by_link: Counter[int] = Counter()

    def on_send(self, link: ObservedLink, sent: SentFrame) -> None:
        """Record a frame that has a ``reqid``."""
        self._sent_by_reqid[sent.frame["reqid"]] = sent, link

    def check(self, sim: Simulator) -> None:
        """Check the frames that arrived since the previous call."""
        for frame in sim.frames[self._checked :]:
            sent, link = self._find_sent(frame)
            before, self._previous = self._previous, (frame.at, sent, link)
            if before is None or frame.at - before[0] >= COMMAND_INTERVAL - 0.001:
                continue
            excused = self._could_not_know(*before, sent, frame.at)
            text = f"{before[1]} and {sent} arrived {frame.at - before[0]:.3f} s apart"
            self._checker.check("I2", excused, text)
        self._checked = len(sim.frames)

    def _find_sent(
        self, frame: ReceivedFrame
    ) -> tuple[SentFrame | None, ObservedLink | None]:
        """Return the sent frame that arrived as ``frame``, and its link."""
        self._arrivals_by_link[frame.link] += 1
        reqid = frame.body.get("reqid") if isinstance(frame.body, dict) else None
        if reqid in self._sent_by_reqid:
            sent, link = self._sent_by_reqid[reqid]
            self._links_by_number[frame.link] = link
            return sent, link
        # A heartbeat has no reqid: count the frames of its link.
        found = self._links_by_number.get(frame.link)
        position = self._arrivals_by_link[frame.link] - 1
        if found is None or position >= len(found.sent):
            return None, None
        return found.sent[position], found

    def _could_not_know(
        self,
        arrived_at: float,
        sent: SentFrame | None,
        link: ObservedLink | None,
        following: SentFrame | None,
        following_at: float,
    ) -> bool:
        if sent is None or link is None or following is None:
            return self._checker.blackout_since(following_at - 60)
        if link.closed_at is not None and link.closed_at <= arrived_at:
            return True
        return following.at - sent.at >= REQUEST_TIMEOUT - TOLERANCE


class RecordingConsumer:
    """A consumer of a subscription, which records everything it receives.

    Attributes:
        events: What was received, with the time.
        spans: When each topic was subscribed.
        rejected: The symbols whose rejection was raised.
        ended: Whether the subscription has ended.
        final: Whether it is of final klines only.
        pause: Seconds between two items, for a slow consumer.
    """

    def __init__(
        self,
        checker: InvariantChecker,
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
        self.spans: dict[Topic, list[SubscriptionSpan]] = {}
        self.rejected: set[str] = set()
        self._interrupted: set[Topic] = set()
        self.ended = False
        self.final = final
        self._checker = checker
        self.pause = pause
        checker.consumers.append(self)
        self.added(topics)

    def added(self, topics: Iterable[Topic]) -> None:
        """Record that topics are subscribed from now on."""
        now = self._checker.clock()
        for topic in topics:
            spans = self.spans.setdefault(topic, [])
            if not spans or spans[-1].until is not None:
                spans.append(SubscriptionSpan(now))

    def removed(self, topics: Iterable[Topic]) -> None:
        """Record that topics are no longer subscribed."""
        now = self._checker.clock()
        for topic in topics:
            spans = self.spans.get(topic)
            if spans and spans[-1].until is None:
                spans[-1].until = now

    def raised(self, error: QosError) -> None:
        """Record an error that was raised to the user."""
        checker = self._checker
        checker.record(f"{self.name} raises {type(error).__name__}: {error}")
        checker.check_no_key(
            f"{error!r} {error} {error.__dict__} {error.__context__!r}", "an error"
        )
        if isinstance(error, RejectedError):
            self.rejected.update(error.symbols)
        self.removed(self.open - set(self.sub.topics))

    @property
    def open(self) -> set[Topic]:
        """The topics that are subscribed now."""
        return {t for t, spans in self.spans.items() if spans[-1].until is None}

    async def run(self) -> None:
        """Consume until the subscription ends."""
        events = self.sub.events()
        while not self.ended:
            try:
                event = await anext(events)
            except StopAsyncIteration:
                self.ended = True
            except QosError as exc:
                self.raised(exc)
                if not self.sub.topics:
                    self.ended = True
            else:
                self._record(event)
                if self.pause:
                    await asyncio.sleep(self.pause)
        self.removed(self.open)
        self._checker.record(f"{self.name} ends")

    def _record(self, event: Any) -> None:
        if isinstance(event, Interrupted):
            self._interrupted.add(event.topic)
            return
        if isinstance(event, Rejected):
            self.rejected.add(event.topic.symbol)
            self.removed(self.open - set(self.sub.topics))
            return
        self.events.append((self._checker.clock(), event))
        if isinstance(event, Gap):
            announced = event.topic in self._interrupted
            self._checker.check("I8", announced, f"no Interrupted before {event}")
            self._interrupted.discard(event.topic)
            self._checker.record(f"{self.name} {short(event)}")
            self._checker.check_no_key(repr(event), "a gap")


class _LogChecker(logging.Handler):
    """Checks every log record: no key, and no internal error."""

    def __init__(self, checker: InvariantChecker) -> None:
        super().__init__(logging.DEBUG)
        self._checker = checker

    def emit(self, record: logging.LogRecord) -> None:
        text = f"{record.getMessage()} {record.args!r} {record.exc_text}"
        if record.exc_info:
            text += logging.Formatter().formatException(record.exc_info)
        self._checker.check_no_key(text, "the log")
        if record.name.startswith("qos_async") and record.levelno >= logging.ERROR:
            self._checker.fail("I18", text)
