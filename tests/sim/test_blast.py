"""Blast: prepared frames, as fast as the socket accepts them."""

from __future__ import annotations

import asyncio
import struct

import aiohttp
import pytest

from qos_async._server.connection import text_frame


@pytest.mark.parametrize(
    ("length", "header"),
    [
        (0, b"\x81\x00"),
        (125, b"\x81\x7d"),
        (126, b"\x81\x7e\x00\x7e"),
        (65_535, b"\x81\x7e\xff\xff"),
        (65_536, b"\x81\x7f" + struct.pack("!Q", 65_536)),
    ],
)
def test_frames_have_the_header_of_their_length(length, header):
    assert text_frame(b"x" * length) == header + b"x" * length


@pytest.mark.parametrize(("kinds", "total"), [(1, 5), (3, 2000), (700, 1500)])
async def test_blasted_frames_arrive_in_order_repeatedly(raw, kinds, total):
    wires = [await raw.dial(), await raw.dial(compress=15)]
    frames = [b'{"tp":"T","n":%d}' % n for n in range(kinds)]
    blast = asyncio.create_task(raw.sim.blast(frames, total))
    for wire in wires:
        got = [(await wire.next())["n"] for _ in range(total)]
        assert got == [n % kinds for n in range(total)]
    assert await blast == 2 * total
    assert (await wires[0].request("H"))["msg"] == "OK"


async def test_long_frames_arrive_whole(raw):
    wire = await raw.dial()
    frame = b'"%s"' % (b"x" * 70_000)
    blast = asyncio.create_task(raw.sim.blast([frame], 3))
    for _ in range(3):
        assert (await wire.receive()).data == frame.decode()
    assert await blast == 3


async def test_a_blast_waits_for_a_slow_reader(raw):
    wire = await raw.dial()
    blast = asyncio.create_task(raw.sim.blast([b'"%s"' % (b"x" * 998)], 100_000))
    await asyncio.sleep(0.2)
    assert not blast.done()  # 100 MB do not fit into socket buffers.
    raw.sim.cut()
    assert await blast < 100_000
    await wire.end()


async def test_a_blast_lets_other_tasks_run(raw):
    wire = await raw.dial()
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.create_task(count())
    blast = asyncio.create_task(raw.sim.blast([b'"x"'], 6_000))
    for _ in range(6_000):
        assert (await wire.receive()).type is aiohttp.WSMsgType.TEXT
    await blast
    counting.cancel()
    assert turns > 6


async def test_a_blast_without_frames_raises(raw):
    with pytest.raises(ValueError, match="at least one frame"):
        await raw.sim.blast([], 1)
