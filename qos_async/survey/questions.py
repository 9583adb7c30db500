"""Questions of a survey, in the order in which they are asked."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from qos_async.survey.exchanges import Exchanges, Row, SurveyLink

__all__ = [
    "LIVE",
    "MANY",
    "QUIET",
    "UNKNOWN",
    "ask_beyond_plan",
    "ask_over_http",
    "ask_over_stream",
]

LIVE = ("CF:BTCUSDT", "CF:ETHUSDT")
"""Trade around the clock."""
QUIET = ("US:AAPL", "HK:700")
"""Their markets are closed for most of the day."""
UNKNOWN = "CF:QOSNOSUCH"
MANY = (
    *(f"US:{code}" for code in ("AAPL", "TSLA", "MSFT", "NVDA", "AMZN", "GOOG")),
    *("CF:BTCUSDT", "CF:ETHUSDT", "HK:700", "HK:9988", "SH:600519", "SZ:000001"),
)
_DAY = 86_400
_HEARTBEAT = 15.0
_NO_HEARTBEAT = 40.0
"""Seconds without a heartbeat; the document asks for one every 10 to 30."""
_CLOSING = 3.0
"""Seconds in which a server may close a link after it has refused something."""

Progress = Callable[[str], None]


def _codes(symbols: Sequence[str]) -> list[str]:
    """Return the entries of ``codes``: one for each market."""
    by_market: dict[str, list[str]] = {}
    for symbol in symbols:
        market, _, code = symbol.partition(":")
        by_market.setdefault(market, []).append(code)
    return [f"{market}:{','.join(codes)}" for market, codes in by_market.items()]


def _kline(symbol: str, kt: int, count: int, end: int | None = None) -> Row:
    item: Row = {"c": symbol, "co": count, "a": 0, "kt": kt}
    return {"kline_reqs": [item if end is None else {**item, "e": end}]}


def _long_ago() -> int:
    return int(time.time()) // _DAY * _DAY - 60 * _DAY


async def ask_over_http(exchanges: Exchanges, progress: Progress) -> None:
    """Send one request to each endpoint, and two that are to be refused."""
    some = _codes((*LIVE, "HK:00700", "US:AAPL"))
    requests: Mapping[str, tuple[str, Row]] = MappingProxyType(
        {
            "http snapshot": ("/snapshot", {"codes": some}),
            "http trade": ("/trade", {"codes": _codes(LIVE), "count": 20}),
            "http depth": ("/depth", {"codes": some}),
            "http kline": ("/kline", _kline("CF:BTCUSDT", 1, 120)),
            "http history": ("/history", _kline("CF:BTCUSDT", 1001, 5, _long_ago())),
            "http instrument": ("/instrument-info", {"codes": some}),
            "http calendar": ("/market-calendar", {"market": ["HK", "US"]}),
            "http products": ("/product-list", {"market": ["CF"]}),
            "http unknown interval": ("/kline", _kline("CF:BTCUSDT", 12_345, 5)),
        }
    )
    for step, (path, body) in requests.items():
        await exchanges.post(step, path, body)
        progress(f"HTTP: {path}")
    await exchanges.post("http wrong key", "/snapshot", {"codes": some}, key=False)
    progress("HTTP: a wrong key")


async def ask_over_stream(
    exchanges: Exchanges, progress: Progress, *, seconds: float
) -> SurveyLink | None:
    """Ask each request of the stream, then watch each channel; return the open link."""
    await _wrong_key(exchanges)
    progress("websocket: a wrong key")
    exchanges.step = "connect"
    link = await exchanges.dial()
    if link is None:
        progress("websocket: refused")
        return None
    some = _codes((*LIVE, "HK:00700", "US:AAPL"))
    requests: dict[str, Row] = {
        "heartbeat": {"type": "H"},
        "snapshot": {"type": "RS", "codes": some},
        "unknown symbol": {"type": "RS", "codes": _codes(("CF:BTCUSDT", UNKNOWN))},
        "depth": {"type": "RD", "codes": _codes(LIVE)},
        "trade": {"type": "RT", "codes": _codes(LIVE), "count": 20},
        "kline": {"type": "RK", **_kline("CF:BTCUSDT", 1, 120)},
        "history": {"type": "RH", **_kline("CF:BTCUSDT", 1001, 5, _long_ago())},
        "instrument": {"type": "RI", "codes": some},
        "unknown interval": {"type": "RK", **_kline("CF:BTCUSDT", 12_345, 5)},
    }
    channels = _codes((*LIVE, *QUIET))
    for letter in "SDTK":
        body: Row = {"type": letter, "codes": channels}
        requests[f"subscribe {letter}"] = {**body, "kt": 1} if letter == "K" else body
    requests["subscribe again"] = {"type": "S", "codes": channels}
    for step, request in requests.items():
        await link.ask(step, request)
        progress(f"websocket: {step}")
        if link.closed:
            return None
    await _watch(exchanges, link, progress, seconds)
    for letter in "SDTK":
        body = {"type": f"{letter}C", "codes": channels}
        await link.ask(
            f"unsubscribe {letter}", {**body, "kt": 1} if letter == "K" else body
        )
    progress("websocket: unsubscribed")
    return link


async def ask_beyond_plan(
    exchanges: Exchanges, link: SurveyLink, progress: Progress
) -> None:
    """Try what the plan or the protocol forbids: links may be closed meanwhile."""
    many = {"type": "RS", "codes": _codes(MANY[: exchanges.limits.symbols + 1])}
    if len(MANY) > exchanges.limits.symbols:
        await link.ask("too many symbols", many)
        progress("beyond the plan: one symbol too many")
    await _second_connection(exchanges, link)
    progress("beyond the plan: a second connection")
    await link.aclose()
    await _too_fast(exchanges)
    progress("beyond the plan: a frame too soon")
    await _no_heartbeat(exchanges, progress)


async def _wrong_key(exchanges: Exchanges) -> None:
    exchanges.step = "wrong key"
    refused = await exchanges.dial(key=False)
    if refused is not None:
        await refused.watch(_CLOSING)
        await refused.aclose()


async def _watch(
    exchanges: Exchanges, link: SurveyLink, progress: Progress, seconds: float
) -> None:
    exchanges.step = "watch"
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while (left := until - loop.time()) > 0 and not link.closed:
        await link.watch(min(left, _HEARTBEAT))
        progress(f"websocket: watching, {max(0.0, until - loop.time()):.0f} s left")
        if left > _HEARTBEAT:
            await link.ask("watch", {"type": "H"})


async def _second_connection(exchanges: Exchanges, link: SurveyLink) -> None:
    exchanges.step = "second connection"
    await asyncio.sleep(exchanges.interval)
    second = await exchanges.dial()
    await link.watch(_CLOSING)
    if second is None:
        return
    for one in (link, second):
        if not one.closed:
            await one.ask("second connection", {"type": "H"})
    await second.aclose()


async def _too_fast(exchanges: Exchanges) -> None:
    await asyncio.sleep(exchanges.interval)
    exchanges.step = "too fast"
    link = await exchanges.dial()
    if link is None:
        return
    body = {"type": "RS", "codes": ["CF:BTCUSDT"]}
    with contextlib.suppress(ConnectionError):
        first = len(exchanges.events)
        await link.send(body)
        await link.reply(first, await link.send(body))
    await link.watch(_CLOSING)
    await link.aclose()


async def _no_heartbeat(exchanges: Exchanges, progress: Progress) -> None:
    exchanges.step = "no heartbeat"
    await asyncio.sleep(exchanges.interval)
    link = await exchanges.dial()
    if link is None:
        return
    progress(f"beyond the plan: {_NO_HEARTBEAT:.0f} s without a heartbeat")
    await link.watch(_NO_HEARTBEAT)
    await link.aclose()
