"""Subscriptions: the methods ``watch_*`` of the client."""

from __future__ import annotations

from typing import Any, Generic

from qos_async._core.buffers import DropOldest, Latest, Policy, Strict
from qos_async._io.stream import Stream
from qos_async._io.subscription import Subscription
from qos_async.enums import Channel, Interval
from qos_async.models import AnyTick, Depth, Kline, N, Snapshot, Trade
from qos_async.symbols import Symbols, split
from qos_async.topics import Topic

__all__ = ["Watching"]


class Watching(Generic[N]):
    """``watch_*``: subscriptions, which are read with ``async for``.

    Each takes ``buffer=``, the policy for ticks that the consumer has not read yet. Two
    subscriptions to one topic are one on the wire. Call these methods in a running event
    loop; each raises, at the call:

    - ``ValueError`` for a malformed symbol, an unknown interval or another ``buffer``;
    - ``RuntimeError`` outside of the event loop that the client was first used in;
    - ``LimitError`` for more distinct symbols than ``limits.symbols``;
    - ``AuthenticationError`` or ``LimitError`` if such an error has ended the stream;
    - ``ClosedError`` after the client was closed.
    """

    _stream: Stream[N]

    def watch_snapshots(
        self, *symbols: Symbols, buffer: Policy | None = None
    ) -> Subscription[Snapshot[N]]:
        """Return a subscription to the trading day's state at each change (section 5.2).

        By default, a slow consumer gets the newest snapshot of each symbol.
        """
        return self._watch(Channel.SNAPSHOT, symbols, _policy(buffer, Latest()))

    def watch_trades(
        self, *symbols: Symbols, buffer: Policy | None = None
    ) -> Subscription[Trade[N]]:
        """Return a subscription to every trade (section 5.3).

        By default, the newest 65,536 are buffered for a slow consumer.
        """
        return self._watch(Channel.TRADE, symbols, _policy(buffer, DropOldest()))

    def watch_depth(
        self, *symbols: Symbols, buffer: Policy | None = None
    ) -> Subscription[Depth[N]]:
        """Return a subscription to the whole order book at each change (section 5.4).

        By default, a slow consumer gets the newest book of each symbol.
        """
        return self._watch(Channel.DEPTH, symbols, _policy(buffer, Latest()))

    def watch_klines(
        self,
        *symbols: Symbols,
        interval: Interval | str,
        final: bool = False,
        buffer: Policy | None = None,
    ) -> Subscription[Kline[N]]:
        """Return a subscription to klines at each change (section 5.5).

        Args:
            *symbols: Which symbols.
            interval: Such as ``"1m"`` or ``Interval.MIN_1``.
            final: Whether to yield each kline only once, when it is complete: when the
                first tick of the next one has been received.
            buffer: By default, the newest 65,536 are buffered for a slow consumer.
        """
        return self._watch(
            Channel.KLINE,
            symbols,
            _policy(buffer, DropOldest()),
            interval=Interval.parse(interval),
            final=final,
        )

    def watch(
        self, *topics: Topic, buffer: Policy | None = None
    ) -> Subscription[AnyTick[N]]:
        """Return one subscription to topics of any channels, in the order of arrival.

        >>> client.watch(Topic("trade", "US:AAPL"), Topic("kline", "CF:BTCUSDT", "1m"))
        """
        queue = self._stream.subscribe(_topics(*topics), _policy(buffer, DropOldest()))
        return Subscription(self._stream, queue, _topics)

    def _watch(
        self,
        channel: Channel,
        symbols: tuple[Symbols, ...],
        buffer: Policy,
        *,
        interval: Interval | None = None,
        final: bool = False,
    ) -> Subscription[Any]:
        def parse(*symbols: Symbols) -> tuple[Topic, ...]:
            return tuple([Topic(channel, name, interval) for name in split(*symbols)])

        queue = self._stream.subscribe(parse(*symbols), buffer, final=final)
        return Subscription(self._stream, queue, parse)


def _policy(buffer: object, default: Policy) -> Policy:
    if buffer is None:
        return default
    if isinstance(buffer, (Latest, DropOldest, Strict)):
        return buffer
    found = repr(buffer)
    if isinstance(buffer, type) and issubclass(buffer, (Latest, DropOldest, Strict)):
        found = f"the class: call it, {buffer.__name__}()"
    raise ValueError(
        f"buffer must be Latest(), DropOldest(n), Strict(n) or None, not {found}"
    )


def _topics(*topics: object) -> tuple[Topic, ...]:
    if not topics:
        raise ValueError('name at least one topic, such as Topic("trade", "US:AAPL")')
    found: list[Topic] = []
    for topic in topics:
        if not isinstance(topic, Topic):
            raise ValueError(  # noqa: TRY004 - as for every wrong argument
                f'expected a Topic, such as Topic("trade", "US:AAPL"), not {topic!r}'
            )
        found.append(topic)
    return tuple(found)
