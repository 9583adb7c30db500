"""The client against the simulator, over real sockets."""

from __future__ import annotations

import asyncio
import email.utils
import logging
import time
from decimal import Decimal
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from qos_async import (
    AuthenticationError,
    Client,
    ClosedError,
    ConnectError,
    Depth,
    Gap,
    Interval,
    Kline,
    LimitError,
    Limits,
    LinkState,
    RejectedError,
    RequestTimeoutError,
    Snapshot,
    Strict,
    Timing,
    Topic,
    Trade,
    TransportError,
)
from qos_async.sim import Close, Cut, Mute, Simulator, Variants
from tests.support.http_servers import serving
from tests.support.leak_check import assert_absent
from tests.support.memory_transport import KEY

SYMBOLS = ("US:AAPL,TSLA", "HK:00700", "CF:BTCUSDT")
CANONICAL = ("US:AAPL", "US:TSLA", "HK:700", "CF:BTCUSDT")
WRONG_KEY = "wrong-" + KEY


async def within(seconds: float, awaitable: Any) -> Any:
    async with asyncio.timeout(seconds):
        return await awaitable


# Requests

VERBS: dict[str, dict[str, Any]] = {
    "fetch_instruments": {},
    "fetch_snapshots": {},
    "fetch_depth": {},
    "fetch_trades": {"count": 5},
    "fetch_klines": {"interval": "1m", "count": 7},
    "fetch_history": {"interval": Interval.DAY, "count": 7},
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("key_in", ["header", "url"])
async def test_http_and_stream_return_the_same(verb, key_in, start, dial):
    sim = await start(speed=0.0)  # Time stands still, so that nothing changes.
    async with dial(sim, key_in=key_in) as client:
        ask = getattr(client, verb)
        over_http = await ask(*SYMBOLS, **VERBS[verb])
        over_stream = await ask(*SYMBOLS, **VERBS[verb], via="stream")
        assert over_http == over_stream
        assert tuple(over_http) == CANONICAL
        assert over_http.missing == over_stream.missing == ()
        assert {request.key_in for request in sim.requests} == {key_in}


async def test_some_queries_are_sent_over_http_only(sim, dial):
    async with dial(sim) as client:
        calendar = await client.fetch_calendar("HK", "US")
        products = await client.fetch_products("HK")
        assert list(calendar) == ["HK", "US"]
        assert calendar["US"][0].date.year > 2000
        assert products["HK"][0].symbol.startswith("HK:")


async def test_history_is_paged_over_http(start, dial):
    sim = await start(speed=0.0)
    async with dial(sim) as client:
        begin = int(sim.now) - 1500 * 60  # The wire has whole seconds.
        pages = [
            page
            async for page in client.iter_history(
                "CF:BTCUSDT", interval="1m", start=begin
            )
        ]
        assert len(pages) >= 2
        times = [bar.timestamp for page in reversed(pages) for bar in page]
        assert times == sorted(set(times))
        assert times[0] >= begin


@pytest.mark.fault("P11")
async def test_unknown_symbols_are_missing(sim, dial):
    async with dial(sim) as client:
        for via in ("http", "stream"):
            found = await client.fetch_snapshots("US:AAPL,NOSUCH", via=via)
            assert (tuple(found), found.missing) == (("US:AAPL",), ("US:NOSUCH",))


@pytest.mark.parametrize("via", ["http", "stream"])
async def test_more_symbols_than_the_plan_allows_are_split_into_several_requests(
    via, start, dial
):
    plan = Limits(symbols=2, command_interval=0.02, http_requests=100, http_period=1)
    sim = await start(plan=plan)
    async with dial(sim) as client:
        found = await client.fetch_snapshots(*SYMBOLS, "US:AAPL", via=via)
        assert tuple(found) == CANONICAL
        assert len(sim.received("RS")) + len(sim.requests) == (
            2 if via == "http" else 3
        )


@pytest.mark.fault("P25")
async def test_the_plans_http_pace_is_kept(start, dial):
    plan = Limits(http_requests=3, http_period=0.3, command_interval=0.02)
    sim = await start(plan=plan)
    async with dial(sim) as client:
        await asyncio.gather(*(client.fetch_depth("US:AAPL") for _ in range(7)))
        assert client.stats.http_requests == 7
        assert client.stats.http_retries == 0


@pytest.mark.parametrize("numbers", [Decimal, float, str])
async def test_numbers_are_of_the_requested_type(numbers, sim, dial):
    async with dial(sim, numbers=numbers) as client:
        [quote] = (await client.fetch_snapshots("US:AAPL")).values()
        async with client.watch_trades("US:AAPL") as trades:
            live = await within(3, anext(trades))
        assert type(quote.last_price) is type(live.price) is type(live.size) is numbers


@pytest.mark.parametrize("via", ["http", "stream"])
async def test_a_rejected_request_does_not_affect_the_client(via, sim, dial):
    async with dial(sim) as client:
        sim.reject("Parameter error: co", ("RT", "/trade"))
        with pytest.raises(RejectedError, match="Parameter error: co"):
            await client.fetch_trades("US:AAPL", via=via)
        sim.reject("Exceeded the limit", ("RT", "/trade"))
        with pytest.raises(LimitError):
            await client.fetch_trades("US:AAPL", via=via)
        assert await client.fetch_trades("US:AAPL", via=via)


async def test_malformed_symbols_are_named_before_any_io(sim, dial):
    async with dial(sim) as client:
        for wrong in ("AAPL", "US:", "US:A B", ""):
            with pytest.raises(ValueError, match=r"\w"):
                await client.fetch_snapshots(wrong)
            with pytest.raises(ValueError, match=r"\w"):
                client.watch_trades(wrong)
        with pytest.raises(ValueError, match="via"):
            await client.fetch_snapshots("US:AAPL", via="pigeon")
    assert sim.requests == []


# Subscriptions


async def test_the_four_channels_deliver_their_records(sim, dial):
    async with dial(sim) as client:
        for sub, record in (
            (client.watch_snapshots("US:AAPL"), Snapshot),
            (client.watch_trades("US:AAPL"), Trade),
            (client.watch_depth("US:AAPL"), Depth),
            (client.watch_klines("US:AAPL", interval="1m"), Kline),
        ):
            async with sub:
                tick = await within(3, anext(sub))
                assert type(tick) is record
                assert tick.symbol == "US:AAPL"
                assert tick.received_at
        await sim.until(lambda: not sim.subscribed)
        assert client.stats.unreadable == client.stats.unmatched == 0


async def test_live_trades_are_the_tape_without_a_gap(sim, dial):
    async with dial(sim) as client:
        async with client.watch_trades("CF:BTCUSDT", buffer=Strict()) as trades:
            got = [await within(3, anext(trades)) for _ in range(60)]
        tape = [(row["p"], row["v"]) for row in sim.tape("CF:BTCUSDT")]
        mine = [(str(tick.price), str(tick.size)) for tick in got]
        at = next(i for i in range(len(tape)) if tape[i : i + 60] == mine)
        assert at > 0


async def test_a_cut_is_recovered_with_one_frame_a_channel(sim, dial):
    async with dial(sim) as client:
        topics = [
            Topic(kind, symbol)
            for kind in ("trade", "depth", "snapshot")
            for symbol in CANONICAL
        ]
        bars = [Topic("kline", symbol, "1m") for symbol in CANONICAL]
        async with client.watch(*topics, *bars) as sub:
            sim.cut()
            await sim.until(lambda: sim.links and sim.links[0].number == 2)
            await sim.until(lambda: len(sim.subscribed) == 16)
            frames = [f.type for f in sim.frames if f.link == 2 and f.type != "H"]
            assert sorted(frames) == ["D", "K", "S", "T"]
            gaps = set()
            async with asyncio.timeout(3):
                async for event in sub.events():
                    if isinstance(event, Gap):
                        gaps.add(event.topic)
                    if len(gaps) == 16:
                        break
            assert client.stats.gaps == 16


async def test_two_clients_do_not_affect_each_other(start, dial):
    plan = Limits(connections=2, command_interval=0.0, http_requests=100)
    sim = await start(plan=plan)
    async with dial(sim) as one, dial(sim) as other:  # noqa: SIM117
        async with one.watch_trades("US:AAPL") as a, other.watch_trades("US:AAPL") as b:
            await within(3, anext(a))
            await one.aclose()
            assert sim.connections <= 2
            for _ in range(5):
                await within(3, anext(b))


# Keys


@pytest.mark.fault("T14")
@pytest.mark.parametrize("bad_key", ["400", "401", "403", "message"])
@pytest.mark.parametrize("key_in", ["header", "url"])
async def test_a_bad_key_ends_everything_however_it_is_rejected(
    bad_key, key_in, start, dial, caplog
):
    sim = await start(variants=Variants(bad_key=bad_key))
    async with dial(sim, key=WRONG_KEY, key_in=key_in) as client:
        trades = client.watch_trades("US:AAPL")
        outcomes = await within(
            3,
            asyncio.gather(
                client.connect(),
                client.fetch_snapshots("US:AAPL", via="stream"),
                _one(trades),
                client.fetch_snapshots("US:AAPL"),
                return_exceptions=True,
            ),
        )
        assert [type(one) for one in outcomes] == [AuthenticationError] * 4
        assert_absent(KEY, *outcomes, repr(client), client.stats)
        assert client.state is LinkState.CLOSED
        assert sum(request.path == "/ws" for request in sim.requests) == 1


async def _one(source: Any) -> Any:
    return await anext(source)


@pytest.mark.fault("P24")
async def test_a_key_that_expires_ends_loops_and_requests(sim, dial):
    async with dial(sim) as client, client.watch_trades("US:AAPL") as trades:
        sim.expire_key()
        with pytest.raises(AuthenticationError, match="expired"):
            await client.fetch_snapshots("US:AAPL", via="stream")
        with pytest.raises(AuthenticationError, match="expired"):
            async for _ in trades:
                pass
        with pytest.raises(AuthenticationError, match="expired"):
            await client.fetch_snapshots("US:AAPL")


async def test_a_callable_key_is_read_anew_at_each_connect(sim, dial):
    requested = []

    def key() -> str:
        requested.append(1)
        return KEY

    async with dial(sim, key=key) as client:
        await client.connect()
        sim.cut()
        await sim.until(lambda: sim.links and sim.links[0].number == 2)
    assert len(requested) >= 2


async def test_without_a_key_the_error_has_the_remedy(monkeypatch):
    monkeypatch.delenv("QOS_API_KEY", raising=False)
    with pytest.raises(AuthenticationError, match="QOS_API_KEY"):
        Client()


async def test_the_environment_is_read_when_nothing_is_passed(sim, monkeypatch):
    monkeypatch.setenv("QOS_API_KEY", KEY)
    monkeypatch.setenv("QOS_HTTP_URL", sim.http_url)
    monkeypatch.setenv("QOS_STREAM_URL", sim.stream_url)
    async with Client(limits=sim.plan) as client:
        assert await client.fetch_snapshots("US:AAPL")
        assert await client.fetch_snapshots("US:AAPL", via="stream")


@pytest.mark.parametrize(
    ("option", "url"),
    [
        ("http_url", "http://api.qos.hk"),
        ("stream_url", "ws://api.qos.hk/ws"),
        ("http_url", "http://127.0.0.1.example.com"),
        ("stream_url", "https://api.qos.hk/ws"),
        ("http_url", "http://localhost@example.com/"),
        ("http_url", "nonsense"),
    ],
)
async def test_addresses_that_would_expose_the_key_raise(option, url):
    with pytest.raises(ValueError, match=r"\w"):
        Client(KEY, **{option: url})


async def test_insecure_addresses_may_be_allowed():
    Client(KEY, http_url="http://192.0.2.1", allow_insecure=True)


@pytest.mark.parametrize(
    "wrong",
    [
        {"numbers": int},
        {"key_in": "cookie"},
        {"ssl": False},
        {"timing": Timing(heartbeat=19.0), "limits": Limits(command_interval=5.0)},
    ],
)
async def test_invalid_options_raise_at_once(wrong):
    with pytest.raises(ValueError, match=r"\w"):
        Client(KEY, **wrong)


@pytest.mark.fault("T18")
@pytest.mark.parametrize("key_in", ["header", "url"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_gets_the_key(status, key_in, fast_timing):
    visits: list[str] = []

    async def thief(request: web.Request) -> web.Response:
        visits.append(f"{request.rel_url} {dict(request.headers)}")
        return web.Response()

    async with serving(thief) as elsewhere:

        async def moved(request: web.Request) -> web.Response:
            return web.Response(status=status, headers={"Location": str(elsewhere)})

        async with serving(moved) as url:
            client = Client(
                KEY,
                http_url=str(url),
                stream_url=str(url.with_scheme("ws")),
                key_in=key_in,
                timing=fast_timing,
            )
            async with client:
                with pytest.raises(ConnectError, match="redirect") as one:
                    await client.connect()
                with pytest.raises(TransportError, match="redirect") as two:
                    await client.fetch_snapshots("US:AAPL")
                assert_absent(KEY, one.value, two.value)
    assert visits == []


async def test_the_key_shows_in_no_error_whatever_fails(sim, dial, caplog):
    errors: list[BaseException] = []
    async with dial(sim, key_in="url") as client:
        sim.reject_upgrades(418)
        sim.fail_http(404, body=f"no such key: {KEY}".encode())
        for attempt in (
            client.connect(),
            client.fetch_snapshots("US:AAPL"),
        ):
            try:
                await attempt
            except Exception as exc:  # noqa: BLE001
                errors.append(exc)
        assert len(errors) == 2
        await client.connect()
        sim.reject(f"your key {KEY} is fine but this is not", "RS")
        with pytest.raises(RejectedError) as caught:
            await client.fetch_snapshots("US:AAPL", via="stream")
        errors.append(caught.value)
        sim.push_garbage(f"{{{KEY}".encode())
        sim.push({"msg": f"hello {KEY}"})
        await sim.until(lambda: client.stats.unmatched and client.stats.unreadable)
        assert_absent(KEY, *errors, caplog.records, repr(client), client.stats)


async def test_a_client_shows_its_state_and_no_key(sim, dial):
    async with dial(sim) as client:
        assert repr(client) == "<Client idle key=***>"
        await client.connect()
        assert repr(client) == "<Client open key=***>"


# Faults


async def recovers(client: Client, sim: Any) -> None:
    """Check that requests and ticks work again."""
    async with asyncio.timeout(8):
        while True:
            try:
                if await client.fetch_snapshots("US:AAPL", via="stream"):
                    break
            except (TransportError, RequestTimeoutError):
                await asyncio.sleep(0.01)
        await sim.until(lambda: sim.connections == 1)


FAULTS = {
    "reset": lambda sim: sim.cut(),
    "fin": lambda sim: sim.cut(reset=False),
    "refused": lambda sim: (sim.reject_upgrades(503, 3), sim.cut()),
    "refused with garbage": lambda sim: (
        sim.reject_upgrades(502, 1, body=b"<html>"),
        sim.cut(),
    ),
    "cut at the door": lambda sim: (sim.reject_upgrades(None, 2), sim.cut()),
    "too many": lambda sim: (
        sim.reject_upgrades(429, 1, headers={"Retry-After": "0"}),
        sim.cut(),
    ),
    "mute": lambda sim: sim.mute(new_connections=False),
    "lost answers": lambda sim: (sim.drop_replies("T", 1), sim.cut()),
    "late answers": lambda sim: sim.delay_replies(0.3, count=3),
    "garbage": lambda sim: (
        sim.push_garbage(),
        sim.push_garbage(b""),
        sim.push_garbage(b"[]"),
    ),
    "unknown push": lambda sim: sim.push({"tp": "Z", "c": "US:AAPL"}),
    "foreign answer": lambda sim: sim.push({"type": "T", "msg": "OK", "reqid": 999}),
    "compressed no more": lambda sim: sim.cut(),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_loop_survives(fault, sim, dial):
    async with dial(sim) as client, client.watch_trades("US:AAPL") as trades:
        await within(3, anext(trades))
        FAULTS[fault](sim)
        await recovers(client, sim)
        seen = trades.stats.received
        async with asyncio.timeout(5):
            while trades.stats.received < seen + 10:
                await anext(trades)
        assert client.state is LinkState.OPEN


@pytest.mark.fault("T6", "T7", "T8", "T9", "T11")
@pytest.mark.parametrize("code", [1000, 1001, 1006, 1008, 1011, 1012, 1013, 3000, 4999])
async def test_a_loop_survives_a_close_with_any_code(code, sim, dial):
    async with dial(sim) as client, client.watch_trades("US:AAPL") as trades:
        await within(3, anext(trades))
        if code == 1006:
            sim.cut(reset=False)
        else:
            await sim.close(code, "bye")
        await sim.until(lambda: sim.links and sim.links[0].number == 2)
        await sim.until(lambda: sim.subscribed)
        for _ in range(5):
            await within(3, anext(trades))


async def test_scheduled_faults_are_survived(start, dial):
    faults = [Cut(after=0.2), Close(after=0.5), Mute(after=0.9, lasting=0.3)]
    sim = await start(faults=faults)
    async with dial(sim) as client, client.watch_trades("US:AAPL") as trades:
        await sim.until(lambda: sim.now - sim._start > 1.3)
        await recovers(client, sim)
        async with asyncio.timeout(5):
            seen = trades.stats.received
            while trades.stats.received < seen + 10:
                await anext(trades)


VARIANTS = [
    Variants(too_fast="close"),
    Variants(too_fast="drop"),
    Variants(unknown_symbol="refuse"),
    Variants(subscribed_twice="error"),
    Variants(reqid_on_errors=False),
    Variants(push_on_subscribe=True),
    Variants(json_numbers=True),
    Variants(trades_newest_first=True),
    Variants(errors_as_200=True),
    Variants(compression=False),
]


@pytest.mark.fault("P6", "P8", "P22")
@pytest.mark.parametrize("variants", VARIANTS)
async def test_the_client_works_with_every_variant_of_the_server(variants, start, dial):
    sim = await start(variants=variants)
    async with dial(sim) as client:  # noqa: SIM117
        async with client.watch_trades("US:AAPL", "HK:00700") as trades:
            await within(3, anext(trades))
            sim.cut()
            await sim.until(lambda: len(sim.subscribed) == 2)
            await within(3, anext(trades))
            recent = await client.fetch_trades("US:AAPL", count=20, via="stream")
            again = await client.fetch_trades("US:AAPL", count=20)
            for rows in (recent["US:AAPL"], again["US:AAPL"]):
                times = [row.timestamp for row in rows]
                assert times == sorted(times)


@pytest.mark.fault("P8")
@pytest.mark.parametrize("reqid_on_errors", [True, False])
async def test_an_unknown_symbol_is_found_among_known_ones(
    reqid_on_errors, start, dial
):
    variants = Variants(unknown_symbol="refuse", reqid_on_errors=reqid_on_errors)
    sim = await start(variants=variants)
    async with dial(sim) as client:
        with pytest.raises(RejectedError, match="Unknown code") as caught:
            async with client.watch_trades("US:AAPL,NOSUCH,TSLA"):
                pass
        assert caught.value.symbols == ("US:NOSUCH",)
        trades = client.watch_trades("US:AAPL,NOSUCH,TSLA")
        with pytest.raises(RejectedError):  # noqa: PT012
            async with asyncio.timeout(3):
                async for _ in trades:
                    pass
        assert await within(3, anext(trades))
        await sim.until(
            lambda: {w.symbol for w in sim.subscribed} == {"US:AAPL", "US:TSLA"}
        )


@pytest.mark.fault("P23")
async def test_a_rejected_second_connection_is_retried(start, dial):
    sim = await start()
    async with dial(sim) as one, dial(sim) as other:
        await one.connect()
        with pytest.raises(ConnectError, match="429"):
            await other.connect()
        await one.aclose()
        async with asyncio.timeout(3):
            while other.state is not LinkState.OPEN:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    sim.violations.clear()  # That there were two was the point.


@pytest.mark.fault("P23")
async def test_contention_ends_with_a_limit_error(start, dial):
    sim = await start(variants=Variants(second_connection="close_oldest"))
    async with dial(sim) as one, dial(sim) as other:
        loops = [_all(c.watch_trades("US:AAPL")) for c in (one, other)]
        outcomes = asyncio.gather(*loops, return_exceptions=True)
        async with asyncio.timeout(5):
            while LinkState.CLOSED not in (one.state, other.state):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await one.aclose()
        await other.aclose()
        assert LimitError in [type(one) for one in await outcomes]
    sim.violations.clear()


async def _all(source: Any) -> list[Any]:
    return [item async for item in source]


async def test_heartbeats_keep_a_link_alive_that_the_server_would_close(
    start, dial, fast_timing
):
    sim = await start(heartbeat_limit=1.0)
    async with dial(sim) as client:
        await client.connect()
        await asyncio.sleep(1.3)
        assert client.stats.links == 1
        assert len(sim.received("H")) >= 2


@pytest.mark.fault("P25")
async def test_http_failures_are_retried(sim, dial):
    async with dial(sim) as client:
        sim.fail_http(500)
        sim.fail_http(None)
        assert await client.fetch_snapshots("US:AAPL")
        assert client.stats.http_retries == 2


# Closing


async def test_nothing_is_alive_after_closing(sim, dial):
    before = asyncio.all_tasks()
    client = dial(sim)
    async with client:
        await client.fetch_snapshots("US:AAPL")
        trades = client.watch_trades("US:AAPL")
        await within(3, anext(trades))
        asyncio.get_running_loop()
    assert client.state is LinkState.CLOSED
    mine = [
        t for t in asyncio.all_tasks() - before if "qos_async.stream" in t.get_name()
    ]
    assert mine == []
    await sim.until(lambda: sim.connections == 0)


async def test_a_client_works_without_being_entered_and_not_after_closing(sim, dial):
    client = dial(sim)
    assert await client.fetch_snapshots("US:AAPL")
    await client.aclose()
    for use in (
        lambda: client.fetch_snapshots("US:AAPL"),
        lambda: client.fetch_snapshots("US:AAPL", via="stream"),
        client.connect,
        lambda: client.fetch_calendar("US"),
        lambda: anext(client.iter_history("US:AAPL", interval="1m", start=0)),
    ):
        with pytest.raises(ClosedError):
            await use()
    with pytest.raises(ClosedError):
        client.watch_trades("US:AAPL")


async def test_closing_during_faults_takes_no_longer_than_close_timeout(sim, dial):
    async with dial(sim) as client, client.watch_trades("US:AAPL") as trades:
        await within(3, anext(trades))
        frame = b'{"tp":"T","c":"US:AAPL","p":"1","v":"1","ts":1,"d":1}'
        blasting = asyncio.create_task(sim.blast([frame], 2_000_000))
        await asyncio.sleep(0.2)
        start = asyncio.get_running_loop().time()
        await client.aclose()
        assert asyncio.get_running_loop().time() - start < 3.0
        assert trades.stats.received > 100
        assert await within(3, blasting) < 2_000_000


@pytest.mark.parametrize("polite", [True, False])
async def test_closing_with_a_mute_server_takes_no_longer_than_close_timeout(
    polite, sim, dial
):
    async with dial(sim) as client:
        await client.connect()
        sim.mute()
        start = asyncio.get_running_loop().time()
        await client.aclose()
        assert asyncio.get_running_loop().time() - start < 3.0
        sim.unmute()


async def test_closing_while_it_dials_ends_at_once(sim, dial):
    sim.mute()
    async with dial(sim) as client:
        trades = client.watch_trades("US:AAPL")
        await asyncio.sleep(0.05)
        await within(1, client.aclose())
        assert [tick async for tick in trades] == []
    sim.unmute()


async def test_closing_ends_http_requests_that_wait_for_the_response(sim, dial):
    async with dial(sim) as client:
        sim.drop_replies("/snapshot")
        request_task = asyncio.create_task(client.fetch_snapshots("US:AAPL"))
        await sim.until(lambda: sim.requests)
        await client.aclose()
        with pytest.raises(ClosedError):
            await within(1, request_task)


async def test_closing_ends_http_requests_that_wait_for_the_quota(start, dial):
    plan = Limits(http_requests=1, http_period=60.0, command_interval=0.02)
    sim = await start(plan=plan)
    async with dial(sim) as client:
        await client.fetch_snapshots("US:AAPL")
        request_task = asyncio.create_task(client.fetch_snapshots("US:AAPL"))
        await asyncio.sleep(0.05)
        await client.aclose()
        try:
            with pytest.raises(ClosedError):
                await within(1, request_task)
        finally:
            request_task.cancel()


async def test_closing_ends_http_requests_that_wait_for_a_retry(sim, dial):
    async with dial(sim) as client:
        sim.fail_http(503, headers={"Retry-After": "60"})
        request_task = asyncio.create_task(client.fetch_snapshots("US:AAPL"))
        await sim.until(lambda: sim.requests)
        await asyncio.sleep(0.05)
        await client.aclose()
        try:
            with pytest.raises(ClosedError):
                await within(1, request_task)
        finally:
            request_task.cancel()


@pytest.mark.fault("U14")
async def test_a_client_belongs_to_one_loop(sim, dial):
    async with dial(sim) as client:
        await client.connect()

        async def use() -> None:
            with pytest.raises(RuntimeError, match="another event loop"):
                client.watch_trades("US:AAPL")

        await asyncio.to_thread(asyncio.run, use())


async def test_draining_over_real_sockets(sim, dial):
    async with dial(sim) as client, client.watch_trades("US:AAPL") as trades:
        reading = asyncio.create_task(_all(trades))
        await asyncio.sleep(0.1)
        assert await client.drain(3) is True
        got = await reading
        assert len(got) == trades.stats.received == trades.stats.delivered


# Borrowed sessions


async def test_a_borrowed_session_is_used_and_stays_open(sim, dial):
    async with aiohttp.ClientSession() as session:
        async with dial(sim, session=session) as client:
            assert await client.fetch_snapshots("US:AAPL")
            assert await client.fetch_snapshots("US:AAPL", via="stream")
        assert not session.closed
        assert session.trace_configs == []
        async with session.get(sim.http_url) as response:
            assert response.status == 404


async def test_a_borrowed_session_that_was_closed_has_its_own_error(sim, dial):
    session = aiohttp.ClientSession()
    async with dial(sim, session=session) as client:
        await client.connect()
        await session.close()
        with pytest.raises(ClosedError, match="session"):
            await client.fetch_snapshots("US:AAPL")


async def test_two_clients_may_share_one_session(start, dial):
    plan = Limits(connections=2, command_interval=0.0, http_requests=100)
    sim = await start(plan=plan)
    async with aiohttp.ClientSession() as session:  # noqa: SIM117
        async with dial(sim, session=session) as one:
            async with dial(sim, session=session) as other:
                await one.connect()
                await other.connect()
            assert await one.fetch_snapshots("US:AAPL", via="stream")
            assert await one.fetch_snapshots("US:AAPL")


async def test_nothing_is_logged_above_info_on_a_quiet_day(sim, dial, caplog):
    async with dial(sim) as client, client.watch_trades("US:AAPL") as trades:
        await within(3, anext(trades))
        await client.fetch_snapshots("US:AAPL")
    ours = [r for r in caplog.records if r.name.startswith("qos_async")]
    assert ours
    assert all(record.levelno <= logging.INFO for record in ours)


@pytest.mark.fault("F42")
@pytest.mark.parametrize("knows", ["stream", "response"])
async def test_history_reaches_the_present_of_a_server_whose_clock_is_ahead(knows):
    """By its websocket, or by the ``Date`` of the first response."""
    start = time.time() + 3600
    async with Simulator(start=start, key=KEY) as sim:

        async def relay(request: web.Request) -> web.Response:
            async with (
                aiohttp.ClientSession() as session,
                session.post(
                    f"{sim.http_url}/history",
                    json=await request.json(),
                    headers={"key": KEY},
                ) as response,
            ):
                date = email.utils.formatdate(sim.now, usegmt=True)
                body = await response.read()
                return web.Response(body=body, headers={"Date": date})

        async with (
            serving(relay) as url,
            Client(KEY, http_url=str(url), stream_url=sim.stream_url) as client,
        ):
            if knows == "stream":
                await client.watch_trades("CF:BTCUSDT").ready()
            since = start - 7200
            pages = client.iter_history("CF:BTCUSDT", interval="1m", start=since)
            found = [bar for page in [one async for one in pages] for bar in page]
    assert found[-1].timestamp > start - 120
    assert found[0].timestamp < start - 7000
