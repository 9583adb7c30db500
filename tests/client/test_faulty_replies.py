"""Replies that are bad in part: what can be used is given, over HTTP and the stream."""

from __future__ import annotations

import copy
import logging
import pickle
from typing import Any

import pytest
from msgspec import Raw

from qos_async import (
    AuthenticationError,
    DecodeError,
    LimitError,
    Limits,
    QosError,
    RejectedError,
    RequestTimeoutError,
    Result,
    Timing,
    TransportError,
)
from qos_async._io.http import HttpClient
from qos_async._io.stream import Stream
from qos_async.sim.requests import RequestHandler

SYMBOLS = [
    *[f"US:{name}" for name in ("AAPL", "TSLA", "NVDA")],
    *[f"CF:{name}" for name in ("BTCUSDT", "ETHUSDT")],
    "HK:700",
    "HK:1810",
]
VERBS: dict[str, dict[str, Any]] = {
    "fetch_instruments": {},
    "fetch_snapshots": {},
    "fetch_depth": {},
    "fetch_trades": {},
    "fetch_klines": {"interval": "1m", "count": 3},
    "fetch_history": {"interval": "1m", "count": 3},
}
VIA = ["http", "stream"]


def spoil(rows: list[Any], value: Any) -> list[Any]:
    """Make one number of the row of US:TSLA unreadable."""
    for row in rows:
        if row["c"] == "US:TSLA":
            levels = row.get("k") or row.get("b") or [row]
            name = next(name for name in ("o", "p", "ls", "lp") if name in levels[0])
            levels[-1][name] = value
    return rows


@pytest.fixture(params=["1,200", Raw(b"NaN"), Raw(b"-Infinity")])
def spoiled(sim, monkeypatch, request):
    """A simulator whose replies have an unreadable number."""
    handle = RequestHandler.handle
    monkeypatch.setattr(
        RequestHandler,
        "handle",
        lambda *args: spoil(copy.deepcopy(handle(*args)), request.param),
    )
    return sim


@pytest.mark.fault("F22", "F67")
@pytest.mark.parametrize("via", VIA)
@pytest.mark.parametrize("verb", VERBS)
async def test_one_unreadable_row_does_not_cost_the_others(
    verb, via, spoiled, dial, caplog
):
    caplog.set_level(logging.WARNING, "qos_async")
    async with dial(spoiled) as client:
        for _ in range(2):
            found = await getattr(client, verb)(*SYMBOLS, via=via, **VERBS[verb])
            assert set(found) | {"US:TSLA"} == set(SYMBOLS)
            lost = verb in ("fetch_depth", "fetch_trades")
            assert found.missing == (("US:TSLA",) if lost else ())
    records = [one for one in caplog.records if one.levelno >= logging.WARNING]
    [warning] = [one.getMessage() for one in records if one.name.startswith("qos")]
    assert "US:TSLA: cannot read the field" in warning
    assert any(text in warning for text in ("'1,200'", "'NaN'", "'-Infinity'"))


# Several requests, of which one fails

CHUNKS = Limits(symbols=3, command_interval=0.01, http_requests=1000, http_period=1.0)
HASTY = Timing(request_timeout=3.0, backoff_initial=0.01, backoff_max=0.01)
FAILURES: dict[str, tuple[Any, type[QosError]]] = {
    "503": (lambda sim: sim.fail_http(503, None), TransportError),
    "429": (lambda sim: sim.fail_http(429, None), LimitError),
    "hang up": (lambda sim: sim.fail_http(None, None), TransportError),
    "html": (lambda sim: sim.fail_http(200, None), DecodeError),
    "expired": (lambda sim: sim.expire_key(), AuthenticationError),
    "rejected": (lambda sim: sim.reject_symbols("HK:1810"), RejectedError),
    "silence": (lambda sim: sim.drop_replies(count=None), RequestTimeoutError),
}
ONLY_HTTP = ("503", "429", "hang up", "html")
CASES = [
    (via, name)
    for via in VIA
    for name in FAILURES
    if via == "http" or name not in ONLY_HTTP
]


@pytest.mark.fault("F23")
@pytest.mark.parametrize(("via", "name"), CASES)
async def test_an_error_has_what_came_before_it(via, name, start, dial, monkeypatch):
    sim = await start(plan=CHUNKS)
    fail, kind = FAILURES[name]
    transport = HttpClient if via == "http" else Stream
    fetch, seen = transport.fetch, []

    async def counting(self: Any, query: Any, **options: Any) -> Any:
        seen.append(query)
        if len(seen) == 3:
            fail(sim)
        return await fetch(self, query, **options)

    monkeypatch.setattr(transport, "fetch", counting)
    async with dial(sim, timing=HASTY) as client:
        with pytest.raises(kind) as caught:
            await client.fetch_snapshots(*SYMBOLS, via=via)
    partial = caught.value.partial
    assert isinstance(partial, Result)
    assert (list(partial), partial.missing) == (SYMBOLS[:6], ())
    assert pickle.loads(pickle.dumps(caught.value)).partial == partial
    assert copy.copy(caught.value).partial == partial


@pytest.mark.fault("F23")
@pytest.mark.parametrize("via", VIA)
@pytest.mark.parametrize("verb", VERBS)
async def test_a_rejection_names_the_symbols_and_nothing_came(verb, via, sim, dial):
    sim.reject_symbols("US:TSLA")
    async with dial(sim) as client:
        with pytest.raises(RejectedError) as caught:
            await getattr(client, verb)(*SYMBOLS, via=via, **VERBS[verb])
    assert caught.value.symbols == ("US:TSLA",)
    assert (caught.value.partial, caught.value.partial.missing) == ({}, ())
