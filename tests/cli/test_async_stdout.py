"""Tests of ``qos_async.cli.async_stdout``."""

from __future__ import annotations

import asyncio
import contextlib
import os

import pytest

from qos_async.cli.async_stdout import AsyncStdout


@contextlib.contextmanager
def stdout_and_reader():
    """Standard output as a pipe, and its reading end."""
    inlet, end = os.pipe()
    with os.fdopen(inlet, "rb", 0) as reader, os.fdopen(end, "w") as writer:
        with contextlib.redirect_stdout(writer):
            stdout = AsyncStdout()
        yield stdout, reader


async def test_a_slow_reader_blocks_write_but_not_the_event_loop():
    """So memory stays bounded."""
    got = b""

    async def write_much():
        for number in range(3000):
            await stdout.write(f"{number:099}\n")

    with stdout_and_reader() as (stdout, reader):
        writing = asyncio.create_task(stdout.run())
        writing_much = asyncio.create_task(write_much())
        done, _ = await asyncio.wait([writing_much], timeout=0.05)
        assert not done, "a pipe takes 64 kB, and a thousand lines may be pending"
        os.set_blocking(reader.fileno(), False)
        while len(got) < 300_000:
            got += reader.read(65536) or b""
            await asyncio.sleep(0)
        await writing_much
        await stdout.drain()
        writing.cancel()
        await asyncio.wait([writing])
    assert [int(line) for line in got.split()] == list(range(3000))


async def test_a_closed_pipe_is_noticed_without_writing():
    with stdout_and_reader() as (stdout, reader):
        writing = asyncio.create_task(stdout.run())
        await asyncio.sleep(0)
        reader.close()
        with pytest.raises(ExceptionGroup) as caught:
            await writing
    assert isinstance(caught.value.exceptions[0], BrokenPipeError)
    assert stdout.failed


async def test_finish_does_not_wait_for_a_reader_that_stopped_reading():
    with stdout_and_reader() as (stdout, reader):
        for _ in range(900):
            await stdout.write("x" * 999)
        await stdout.finish()
        assert not stdout.failed
        assert len(os.read(reader.fileno(), 65536)) == 65536
