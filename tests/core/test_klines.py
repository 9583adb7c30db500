"""Which klines are over."""

from __future__ import annotations

from qos_async._core.buffers import KlineFinalizer
from qos_async.enums import Interval
from qos_async.models import Kline


def bar(start: int, close: str, symbol: str = "US:A", interval: int = 1) -> Kline[str]:
    return Kline(
        symbol=symbol,
        timestamp=start,
        interval=Interval(interval),
        open="1",
        high="1",
        low="1",
        close=close,
    )


def test_a_bar_is_over_when_a_later_one_starts_and_comes_out_as_it_was_last():
    finished = KlineFinalizer()
    assert finished.push(bar(60, "1")) is None
    assert finished.push(bar(60, "2")) is None
    assert finished.push(bar(120, "3")) == bar(60, "2")
    assert finished.push(bar(120, "4")) is None


def test_each_bar_comes_once_and_a_late_one_not_at_all():
    finished = KlineFinalizer()
    pushes = [bar(60, "1"), bar(120, "2"), bar(60, "9"), bar(180, "3"), bar(120, "9")]
    told = [found for push in pushes if (found := finished.push(push))]
    assert told == [bar(60, "1"), bar(120, "2")]


def test_symbols_and_intervals_do_not_finish_each_other():
    finished = KlineFinalizer()
    finished.push(bar(60, "1"))
    assert finished.push(bar(120, "2", symbol="US:B")) is None
    assert finished.push(bar(300, "3", interval=5)) is None
    assert finished.push(bar(120, "4")) == bar(60, "1")
