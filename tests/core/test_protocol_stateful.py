"""Stateful test of the protocol: random changes, a model server, a faulty network.

Time is a number that the machine moves. Frames take their time in both directions and
never overtake each other, except for answers that the server itself is late with. A
frame reaches the server within 3 s or the link breaks; answers may get lost.
"""

from __future__ import annotations

import math
import os
from collections import Counter, deque
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from qos_async._core.events import (
    Confirmed,
    Failed,
    LinkTimedOut,
    Replied,
    Resumed,
    ServerError,
    SubscriptionRejected,
    SubscriptionTimedOut,
    Unreadable,
)
from qos_async._core.wire import LETTERS
from qos_async.models import Trade
from qos_async.topics import Topic
from tests.support.wire_frames import (
    PUSHES,
    ack,
    decoded,
    encoded,
    new_protocol,
    rejection,
    topics,
)

PACE, TIMEOUT, SLACK = 1.0, 8.0, 1e-6
CODES = ("US:A", "US:B", "HK:1", "US:BAD", "HK:666")
GUILTY = frozenset({"US:BAD", "HK:666"})
ALL = [
    *topics("trade", *CODES),
    *topics("depth", *CODES),
    *topics("kline", "US:A", "US:BAD", interval="1m"),
]
CHANNELS = {letter: str(channel) for channel, letter in LETTERS.items()}

moments = st.sampled_from([0.0, 0.1, 0.5, 1.0, 2.9])
habits = st.fixed_dictionaries(
    {
        "there": moments,
        "back": moments,
        "fate": st.sampled_from(["answer"] * 6 + ["lose", "late"]),
        "half": st.booleans(),
        "silent": st.sampled_from([(), (), ("reqid",), ("type",), ("type", "reqid")]),
    }
)
CALM = {"there": 0.1, "back": 0.1, "fate": "answer", "half": False, "silent": ()}


class Server:
    """Records received frames with their times."""

    def __init__(self) -> None:
        self.held: set[Topic] = set()
        self.seen_at = -math.inf
        self.beaten_at = 0.0
        self.changes = 0

    def connect(self, now: float) -> None:
        self.held = set()
        self.beaten_at = now
        self.changes = 0

    def take(self, frame: bytes, now: float, *, half: bool) -> bool:
        assert now - self.seen_at >= PACE - SLACK, f"{now - self.seen_at} s: too fast"
        self.seen_at = now
        message = decoded(frame)
        if message["type"] == "H":
            self.beaten_at = now
            return True
        if "kline_reqs" in message or message["type"].startswith("R"):
            return "US:BAD" not in str(message)
        return self._change(message, half=half)

    def _change(self, message: dict[str, Any], *, half: bool) -> bool:
        self.changes += 1
        about = topics_of(message)
        if message["type"].endswith("C"):
            self.held -= about
            return True
        innocent = {topic for topic in about if topic.symbol not in GUILTY}
        if innocent == about or half:
            self.held |= innocent
        return innocent == about


def topics_of(message: dict[str, Any]) -> set[Topic]:
    interval = {1: "1m"}.get(message.get("kt", 0))
    codes = [
        f"{entry.partition(':')[0]}:{code}"
        for entry in message["codes"]
        for code in entry.partition(":")[2].split(",")
    ]
    return set(topics(CHANNELS[message["type"][0]], *codes, interval=interval))


class Conversation(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.protocol = new_protocol(up=False, fresh=True)
        self.server = Server()
        self.wanted: Counter[Topic] = Counter()
        self.habit: dict[str, Any] = CALM
        self.up = False
        self.there: deque[tuple[float, bytes]] = deque()
        self.back: list[tuple[float, int, bytes]] = []
        self.counted = 0
        self.waiting: dict[int, float] = {}
        self.leaving: dict[int, float] = {}
        self.moved_at = 0.0
        self.awaited: tuple[float, bytes] | None = None
        self.answered = False

    # The user

    @rule(topic=st.sampled_from(ALL))
    def watch(self, topic: Topic) -> None:
        self.wanted[topic] += 1
        self.protocol.registry.want([topic])

    @rule(chosen=st.sets(st.sampled_from(ALL), min_size=2, max_size=6))
    def watch_many(self, chosen: set[Topic]) -> None:
        self.wanted.update(chosen)
        self.protocol.registry.want(sorted(chosen))

    @precondition(lambda self: self.wanted)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        topic = data.draw(st.sampled_from(sorted(self.wanted)))
        self.wanted = self.wanted - Counter([topic])
        self.protocol.registry.release([topic])
        self.protocol.outages.remove({topic} - self.wanted.keys())

    @rule(code=st.sampled_from(CODES), times=st.integers(1, 3))
    def ask(self, code: str, times: int) -> None:
        for _ in range(times):
            reqid = self.protocol.request("RS", {"codes": [code]}, self.now)
            assert reqid > 0
            assert reqid not in self.waiting
            self.waiting[reqid] = self.now

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        reqid = data.draw(st.sampled_from(sorted(self.waiting)))
        del self.waiting[reqid]
        self.protocol.cancel(reqid)

    # The network

    @rule(habit=habits)
    def change_habits(self, habit: dict[str, Any]) -> None:
        self.habit = habit

    @precondition(lambda self: not self.up)
    @rule()
    def connect(self) -> None:
        self.up = True
        self.server.connect(self.now)
        self.protocol.link_up(self.now)
        self.protocol.request_heartbeat()

    @precondition(lambda self: self.up)
    @rule()
    def cut(self) -> None:
        live = self.protocol.registry.held & self.wanted.keys()
        self.up = False
        self.there.clear()
        self.back.clear()
        self.awaited = None
        for event in self.protocol.link_down("cut", self.now):
            if isinstance(event, Failed):
                self._end(event.reqid)
        assert live <= self.protocol.outages.open.keys()
        self.server.held = set()

    @precondition(lambda self: self.up)
    @rule(
        noise=st.sampled_from(
            [
                encoded(PUSHES["T"]),
                b"garbage",
                b'{"tp":"X"}',
                b'{"type":"T","msg":"OK","reqid":100000}',
                b'{"type":"T","msg":"no","reqid":100000}',
                b'{"type":"XX","msg":"OK"}',
            ]
        )
    )
    def send_noise(self, noise: bytes) -> None:
        self._answer(noise, self.now + 0.1)

    @rule(seconds=st.sampled_from([0.0, 0.3, 1.0, 1.1, 3.0, 8.0, 9.0, 26.0]))
    def wait(self, seconds: float) -> None:
        self._pass_time(self.now + seconds)

    @rule()
    def fall_quiet(self) -> None:
        """Stop all faults: the held topics converge to the wanted ones."""
        self.change_habits(CALM)
        for _ in range(6):  # Earlier faults may still end the link.
            if not self.up:
                self.connect()
            self._pass_time(self.now + 30.0)
            if self.up and self.protocol.registry.settled and not self.waiting:
                break
        assert self.protocol.registry.settled
        assert self.server.held == set(self.wanted)
        assert self.protocol.registry.held == set(self.wanted)
        assert not self.wanted.keys() & {t for t in ALL if t.symbol in GUILTY}
        assert not self.waiting

    @rule()
    def reconnect_in_peace(self) -> None:
        """One frame a channel and interval, if nothing is rejected."""
        self.fall_quiet()
        self.cut()
        self.connect()
        self._pass_time(self.now + 12.0)
        assert self.server.held == set(self.wanted)
        assert self.server.changes == len(
            {(t.channel, t.interval) for t in self.wanted}
        )

    # Time

    def _pass_time(self, until: float) -> None:
        for _ in range(3000):
            self._speak()
            if (moment := self._next_moment()) > until:
                break
            self.now = max(self.now, moment)
            self._server_reads()
            self._client_reads()
        else:
            raise AssertionError("time does not pass")
        self.now = until
        self._check_deadlines()

    def _next_moment(self) -> float:
        there = self.there[0][0] if self.there else math.inf
        back = min(self.back)[0] if self.back else math.inf
        return min(there, back, self.protocol.wake_at())

    def _speak(self) -> None:
        outcomes = self.protocol.tick(self.now)
        for outcome in outcomes:
            self._on_outcome(outcome)
        frame = self.protocol.poll(self.now)
        if frame is not None:
            self._on_frame(frame)
        assert frame or outcomes or self.protocol.wake_at() > self.now

    def _on_frame(self, frame: bytes) -> None:
        assert self.up
        if self.awaited is not None:
            waited = self.now - self.awaited[0]
            # The first frame and its repetition share the time, before any answer.
            least = TIMEOUT if self.answered else TIMEOUT / 2
            assert waited >= least - SLACK, f"no answer for {waited} s only"
        self.awaited = (self.now, frame)
        self.moved_at = self.now
        if (message := decoded(frame))["type"] == "RS":
            self.leaving[message["reqid"]] = self.now
        held_up = self.there[-1][0] if self.there else 0.0
        self.there.append((max(self.now + self.habit["there"], held_up), frame))

    def _server_reads(self) -> None:
        while self.there and self.there[0][0] <= self.now:
            _, frame = self.there.popleft()
            agreed = self.server.take(frame, self.now, half=self.habit["half"])
            beats = decoded(frame)["type"] == "H"
            fate = (
                "answer"
                if beats and self.habit["fate"] == "late"
                else self.habit["fate"]
            )
            silent = () if fate == "late" else self.habit["silent"]
            if agreed or beats:
                silent = tuple(name for name in silent if name == "reqid")
            hidden: dict[str, Any] = dict.fromkeys(silent, ...)
            answer = (ack if agreed else rejection)(frame, **hidden)
            if fate == "answer":
                self._answer(answer, self.now + self.habit["back"])
            elif fate == "late":
                self._answer(answer, self.now + 9.0 + self.habit["back"])

    def _answer(self, answer: bytes, at: float) -> None:
        self.counted += 1
        self.back.append((at, self.counted, answer))

    def _client_reads(self) -> None:
        while self.back and min(self.back)[0] <= self.now:
            arrived = min(self.back)
            self.back.remove(arrived)
            before = self.protocol.stats.unmatched
            event = self.protocol.receive(arrived[2], self.now)
            matched = self.protocol.stats.unmatched == before
            if matched and b'"msg": ' in arrived[2]:
                self.awaited, self.answered = None, True
            if event is not None:
                self._on_outcome(event)

    def _on_outcome(self, outcome: Any) -> None:
        match outcome:
            case SubscriptionRejected(refused):
                assert {topic.symbol for topic in refused} <= GUILTY
                for topic in refused:
                    del self.wanted[topic]
            case Confirmed(confirmed):
                assert confirmed <= self.server.held
                for topic in confirmed:
                    self.protocol.outages.end(topic)
            case Resumed(resumed):
                assert resumed <= self.server.held
                for topic in resumed:
                    self.protocol.outages.end(topic)
            case Replied(reqid) | Failed(reqid):
                self._end(reqid)
            case LinkTimedOut():
                self.cut()
            case _:
                kinds = (SubscriptionTimedOut, Unreadable, ServerError, Trade)
                assert isinstance(outcome, kinds), outcome

    def _end(self, reqid: int) -> None:
        assert reqid in self.waiting, "ended twice, or never asked"
        self._check_deadline(reqid)
        del self.waiting[reqid]

    def _check_deadline(self, reqid: int) -> None:
        if reqid in self.leaving:
            due = self.leaving[reqid] + TIMEOUT
        else:  # Another command may be pending this long before this one is sent.
            due = max(self.waiting[reqid], self.moved_at + TIMEOUT) + TIMEOUT
        assert self.now <= due + SLACK, f"{self.now - due} s after its deadline"

    def _check_deadlines(self) -> None:
        for reqid in self.waiting:
            self._check_deadline(reqid)
        if self.up:
            assert self.now - self.server.beaten_at <= 30.0, "a heartbeat is missing"

    @invariant()
    def what_is_believed_is_true(self) -> None:
        assert self.protocol.registry.held - self.server.held <= self._being_removed()

    def _being_removed(self) -> set[Topic]:
        # Between the server's removal and its reply, the client cannot know.
        flight = self.protocol.registry._in_flight
        return set(flight.topics) if flight is not None and not flight.add else set()


more = int(os.environ.get("QOS_TEST_EFFORT", "1"))
TestConversation = pytest.mark.slow(Conversation.TestCase)
TestConversation.settings = settings(
    max_examples=200 * more,
    stateful_step_count=40,
    deadline=None,
    derandomize=more == 1,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
