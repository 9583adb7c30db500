"""The permissions of recorders and followers, on a server that enforces them."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from qos_async.jetstream.errors import BrokerUnavailableError
from qos_async.jetstream.lease import Lease, claim_epoch, ensure_leases
from qos_async.jetstream.messages import Stamper
from qos_async.jetstream.places import parse_place
from qos_async.jetstream.publisher import Publisher, last_stored
from qos_async.jetstream.streams import StreamOptions, ensure_stream
from qos_async.jetstream.takeover import inherited_outages
from qos_async.jetstream.wire import Wire
from qos_async.recordings import follow, replay
from tests.support.nats_servers import NatsServer
from tests.support.written_stream import BTC, Writer

RECORDER = {
    "publish": [
        "QOS.>",
        "$KV.QOS-lease.>",
        "$JS.API.INFO",
        "$JS.API.STREAM.INFO.QOS",
        "$JS.API.STREAM.MSG.GET.QOS",
        "$JS.API.CONSUMER.CREATE.QOS.*",
        "$JS.API.CONSUMER.MSG.NEXT.QOS.*",
        "$JS.API.CONSUMER.DELETE.QOS.*",
        "$JS.API.STREAM.INFO.KV_QOS-lease",
        "$JS.API.STREAM.MSG.GET.KV_QOS-lease",
    ],
    "subscribe": ["_INBOX.>"],
}
# Only for the first start, which creates the stream and the bucket.
CREATOR = [
    "$JS.API.STREAM.CREATE.QOS",
    "$JS.API.STREAM.UPDATE.QOS",
    "$JS.API.STREAM.CREATE.KV_QOS-lease",
]
# Reads only: for replay, convert and archive.
ARCHIVER = {
    "publish": [
        "$JS.API.STREAM.INFO.QOS",
        "$JS.API.STREAM.MSG.GET.QOS",
        "$JS.API.DIRECT.GET.QOS",
        "$JS.API.CONSUMER.CREATE.QOS",
        "$JS.API.CONSUMER.CREATE.QOS.*",
        "$JS.API.CONSUMER.MSG.NEXT.QOS.*",
        "$JS.API.CONSUMER.DELETE.QOS.*",
    ],
    "subscribe": ["_INBOX.>"],
}
# With a durable name; the first one creates the bucket. The lease shows that a recorder
# has ended.
DURABLE = [
    "$JS.API.STREAM.MSG.GET.KV_QOS-lease",
    "$KV.QOS-durable.>",
    "$JS.API.STREAM.INFO.KV_QOS-durable",
    "$JS.API.STREAM.MSG.GET.KV_QOS-durable",
]
BUCKET = ["$JS.API.STREAM.CREATE.KV_QOS-durable"]
FOLLOWER = {**ARCHIVER, "publish": ARCHIVER["publish"] + DURABLE + BUCKET}


async def test_a_recorder_works_with_exactly_these_permissions(own_node: NatsServer):
    creator = {**RECORDER, "publish": RECORDER["publish"] + CREATOR}
    users = [
        {"user": "first", "password": "a", "permissions": creator},
        {"user": "later", "password": "a", "permissions": RECORDER},
    ]
    own_node.configure(f"authorization: {json.dumps({'users': users})}")
    await asyncio.to_thread(own_node.start)
    for user in ("first", "later"):
        url = own_node.url.replace("://", f"://{user}:a@")
        async with Wire(parse_place(f"{url}/QOS", {})) as wire:
            await wire.connect()
            _, found = await ensure_stream(wire, "QOS", StreamOptions())
            assert not found
            is_new = await ensure_leases(wire, "QOS")
            lease = Lease(wire, "QOS", "main", seconds=1, is_new=is_new)
            await lease.acquire()
            fence = await claim_epoch(wire, "QOS", "main", lease.token)
            assert lease.is_held
            publisher = Publisher(wire, "QOS", "main", fence.epoch, fence.sequence)
            task = asyncio.create_task(publisher.run())
            stamper = Stamper("main", fence.epoch)
            await publisher.put(stamper.stamp("QOS.T.US.A", b"x", at=1, up=1))
            await publisher.flush()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert (
                await last_stored(wire, "QOS", "main", fence.epoch, fence.sequence) == 0
            )
            await inherited_outages(wire, "QOS", "main")
            await lease.release()
            assert wire.stats.denied == 0
            with pytest.raises(BrokerUnavailableError, match="permissions violation"):
                await wire.request("$JS.API.STREAM.DELETE.QOS", timeout=0.3)


async def test_a_follower_works_with_exactly_these_permissions(own_node: NatsServer):
    allowed = ARCHIVER["publish"]
    users = [
        {"user": "admin", "password": "a"},
        *(
            {
                "user": name,
                "password": "a",
                "permissions": {**FOLLOWER, "publish": more},
            }
            for name, more in (
                ("first", allowed + DURABLE + BUCKET),
                ("later", allowed + DURABLE),
                ("plain", allowed),
            )
        ),
    ]
    own_node.configure(f"authorization: {json.dumps({'users': users})}")
    await asyncio.to_thread(own_node.start)
    url = own_node.url.replace("://", "://admin:a@")
    async with Wire(parse_place(f"{url}/QOS", {})) as wire:
        await wire.connect()
        await ensure_stream(wire, "QOS", StreamOptions())
        writer = Writer(wire, "QOS", "main")
        await writer.begin()
        await writer.event("subscribed", topics=[str(BTC)])
        await writer.trades(BTC, 1)
    for user, durable in (("first", "bot"), ("later", "bot"), ("plain", None)):
        place = f"{own_node.url.replace('://', f'://{user}:a@')}/QOS"
        async with asyncio.timeout(20), follow(place, "first", durable) as client:
            async for trade in client.watch_trades(BTC.symbol):
                assert trade.price == 1
                break
            assert len(await client.fetch_trades(BTC.symbol, count=60)) == 1


async def test_a_follower_and_an_archiver_read_with_these_permissions(
    own_node: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    first = {**RECORDER, "publish": RECORDER["publish"] + CREATOR}
    users = [
        {"user": "first", "password": "a", "permissions": first},
        {"user": "follower", "password": "a", "permissions": FOLLOWER},
        {"user": "archiver", "password": "a", "permissions": ARCHIVER},
    ]
    own_node.configure(f"authorization: {json.dumps({'users': users})}")
    await asyncio.to_thread(own_node.start)
    places = {
        user["user"]: own_node.url.replace("://", f"://{user['user']}:a@") + "/QOS"
        for user in users
    }
    trade = b'{"tp":"T","c":"CF:A","p":"1","v":"1","ts":1750000000,"d":1}'
    async with Wire(parse_place(places["first"], {})) as wire:
        await ensure_stream(wire, "QOS", StreamOptions())
        fence = await claim_epoch(wire, "QOS", "main", "token")
        message = Stamper("main", fence.epoch).stamp("QOS.T.CF.A", trade, at=1, up=1)
        await wire.request(message.subject, trade, headers=message.headers)
    async with asyncio.timeout(20):
        async with follow(places["follower"], "first", durable="bot-1") as client:
            async for tick in client.watch_trades("CF:A"):
                assert tick.place
                break
        start = datetime.now(UTC) - timedelta(hours=1)
        async with follow(places["follower"], start) as client:
            await anext(aiter(client.watch_trades("CF:A")))
        async with replay(places["archiver"], speed=None) as past:
            assert [tick.symbol async for tick in past.watch_trades("CF:A")] == ["CF:A"]
    async with Wire(parse_place(places["archiver"], {})) as wire:
        with pytest.raises(BrokerUnavailableError, match="permissions violation"):
            await wire.request("QOS.T.CF.A", trade, timeout=0.3)
