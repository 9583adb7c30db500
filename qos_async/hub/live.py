"""Live state: what the hub has received of its topics, to reply without a request.

A reply from here has to equal the service's. That holds for a topic that is live (the
server has acknowledged it, and no outage is open), and

- for its snapshot, its book and its growing kline, as each push has the whole of it;
- for its last trades, as far back as nothing was missed.
"""

from __future__ import annotations

from collections import deque
from datetime import datetime
from typing import Any

from qos_async._clock import epoch_ns
from qos_async.config import TRADES_MAX
from qos_async.enums import Channel, Interval
from qos_async.hub.wire import row_of
from qos_async.models import AnyTick, Kline, Trade
from qos_async.topics import Topic

__all__ = ["LiveState"]


class LiveState:
    """The last pushes of each topic.

    Attributes:
        live: The topics that are acknowledged and have no open outage.
    """

    def __init__(self) -> None:
        self.live: set[Topic] = set()
        self._last: dict[Topic, tuple[AnyTick[Any], bytes]] = {}
        self._trades: dict[Topic, deque[bytes]] = {}
        self._starts: dict[Topic, int] = {}

    def update(self, topic: Topic, tick: AnyTick[Any], frame: bytes) -> None:
        """Add a push."""
        if tick.__class__ is not Trade:
            self._last[topic] = tick, frame
            return
        if topic in self._starts:
            if tick.recovered or tick.received_at < self._starts[topic]:
                return
            del self._starts[topic]
        tail = self._trades.get(topic)
        if tail is None:
            tail = self._trades[topic] = deque(maxlen=TRADES_MAX)
        tail.append(frame)

    def start_after(self, topic: Topic, time: datetime) -> None:
        """Begin the last trades of a topic anew with those received from then on.

        After a hole, what was fetched of it, or came on a link that did not last, need
        not be followed by what is pushed now.
        """
        self._trades.pop(topic, None)
        self._starts[topic] = epoch_ns(time)

    def remove(self, topic: Topic) -> None:
        """Forget a topic: it is not subscribed any more, or ticks of it are missing."""
        self.live.discard(topic)
        self._last.pop(topic, None)
        self._trades.pop(topic, None)
        self._starts.pop(topic, None)

    def state(self, topic: Topic) -> bytes | None:
        """Return the last push of a live topic, for a new client; None for trades."""
        found = self._last.get(topic) if topic in self.live else None
        return None if found is None else found[1]

    def row(self, topic: Topic) -> bytes | None:
        """Return the row of a snapshot or book; None if it is not known for certain."""
        frame = self.state(topic)
        return None if frame is None else row_of(frame)

    def trades(self, topic: Topic, count: int) -> list[bytes] | None:
        """Return the last ``count`` trades, oldest first; None if fewer are known."""
        tail = self._trades.get(topic, ())
        if topic not in self.live or len(tail) < count:
            return None
        return [row_of(frame) for frame in list(tail)[-count:]]

    def growing(self, symbol: str, interval: Interval, now: float) -> bytes | None:
        """Return the row of the kline that is not over yet; None if it is not known."""
        topic = Topic(Channel.KLINE, symbol, interval)
        found = self._last.get(topic) if topic in self.live else None
        if found is None:
            return None
        tick, frame = found
        assert isinstance(tick, Kline)
        return row_of(frame) if tick.end.timestamp() > now else None
