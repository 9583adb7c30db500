"""The spool: what the broker does not have yet survives the process and the disk."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from qos_async import RecordingError
from qos_async.jetstream import spool_files as spool_module
from qos_async.jetstream import spool_writer
from qos_async.jetstream.spool import Spool
from qos_async.jetstream.spool_files import Era, spool_files

SUBJECT = "QOS.T.US.AAPL"


@pytest.fixture
def place(tmp_path):
    return tmp_path / "deep" / "spool"


@pytest.fixture
def open_spool(place):
    """Return a function that opens a spool; all are closed at the end."""
    opened: list[Spool] = []

    def open_(directory=place, **limits):
        spool = Spool(directory, **limits)
        opened.append(spool)
        if not spool.eras:
            spool.begin_era()
        return spool

    yield open_
    for spool in opened:
        spool.close()


def fill(spool, count, size=10, subject=SUBJECT):
    """Append messages; return how many were taken."""
    number = spool.next_number
    taken = 0
    for one in range(number, number + count):
        taken += spool.append(subject, payload(one, size), at=one, up=one)
    return taken


def payload(number, size=10):
    return f"{number:0{size}}".encode()


async def read_all(spool, number=0):
    found = []
    while number < spool.next_number:
        part = await spool.read(number)
        found += part
        number = part[-1].number + 1
    return found


async def wait_for(condition):
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not happen within ten seconds")


async def test_messages_are_read_in_order_as_they_come(open_spool):
    spool = open_spool(None)
    reading = asyncio.create_task(spool.read(0))
    await asyncio.sleep(0)
    assert not reading.done()
    fill(spool, 3)
    assert [m.payload for m in await reading] == [payload(n) for n in range(3)]
    assert [m.number for m in await spool.read(1)] == [1, 2]


async def test_each_message_names_the_one_before_it_on_its_subject(open_spool):
    spool = open_spool(None)
    for subject in ("a", "b", "a", "b"):
        fill(spool, 1, subject=subject)
    spool.begin_era()
    fill(spool, 1, subject="a")
    assert [m.previous for m in await spool.read(0)] == [-1, -1, 0, 1, -1]
    assert [spool.era_of(n).start for n in range(5)] == [0, 0, 0, 0, 4]


async def test_a_payload_of_several_lines_comes_back_byte_for_byte(open_spool, place):
    spool = open_spool(keep=0.0)
    pushes = b'{"c":"US:\xc3\xa4 b"}\n{"c":" "}\n'
    spool.append(SUBJECT, pushes, 5, 6)
    spool.close()
    [found] = await read_all(open_spool())
    assert (found.payload, found.at, found.up) == (pushes, 5, 6)


@pytest.mark.fault("N32")
async def test_the_next_process_goes_on_after_what_was_stored(open_spool):
    spool = open_spool()
    spool.set_epoch(0, 17)
    fill(spool, 10)
    spool.mark_stored(3)
    spool.close()
    spool = open_spool()
    assert (spool.next_number, spool.stored, spool.pending) == (10, 3, 6)
    assert spool.eras == [Era(0, 17)]
    assert spool.stored_numbers(Era(0, 17)) == [3]
    assert [m.number for m in await read_all(spool, 4)] == [*range(4, 10)]
    spool.begin_era()
    fill(spool, 2)
    assert [m.number for m in await read_all(spool, 4)] == [*range(4, 12)]
    assert spool.lost == 0


@pytest.mark.fault("N32")
async def test_processes_that_never_reached_the_broker_leave_an_era_each(open_spool):
    for _ in range(3):
        spool = open_spool()
        spool.begin_era()
        fill(spool, 2)
        spool.close()
    spool = open_spool()
    assert spool.eras == [Era(0, 0), Era(2, 0), Era(4, 0)]
    assert [m.number for m in await read_all(spool)] == [*range(6)]


KILLED = """
import asyncio, sys
from pathlib import Path
from qos_async.jetstream.spool import Spool

async def main():
    spool = Spool(Path(sys.argv[1]))
    spool.begin_era(9)
    while True:
        spool.append("QOS.T.US.AAPL", b"%d" % spool.next_number, 1, 1)
        if spool.next_number % 100 == 0:
            spool.mark_stored(spool.next_number - 50)
            print(spool._writer.written, flush=True)
            await asyncio.sleep(0.001)

asyncio.run(main())
"""


def fill_until_killed(place):
    """Fill a spool in another process, and kill that; return what was written."""
    program = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(place)], stdout=subprocess.PIPE, text=True
    )
    assert program.stdout is not None
    written = -1
    for line in program.stdout:
        written = int(line)
        if written > 5000:
            break
    program.send_signal(signal.SIGKILL)
    program.communicate()
    return written


@pytest.mark.fault("N32")
async def test_a_killed_process_loses_nothing_that_was_written(open_spool, place):
    written = await asyncio.to_thread(fill_until_killed, place)
    spool = open_spool()
    assert spool.next_number > written
    assert spool.stored >= 0
    found = await read_all(spool, 0)
    assert [m.number for m in found] == [*range(spool.next_number)]
    assert all(m.payload == b"%d" % m.number for m in found)


@pytest.mark.fault("N33")
async def test_a_torn_end_is_cut_and_counted(open_spool, place):
    spool = open_spool()
    fill(spool, 5)
    spool.close()
    [file] = spool_files(place)
    with file.open("ab") as torn:
        block = file.read_bytes()
        block = block[block.index(b"qosb") - 8 :]
        torn.write(block[:34])
    spool = open_spool()
    assert [m.number for m in await read_all(spool)] == [*range(5)]
    [fault] = spool.faults
    assert "34 bytes were not written" in fault


@pytest.mark.fault("N33")
async def test_what_is_damaged_is_counted_and_the_rest_is_read(
    open_spool, place, monkeypatch
):
    monkeypatch.setattr(spool_writer, "_CHUNK_SIZE", 1)
    spool = open_spool()
    fill(spool, 50)
    spool.close()
    [file] = spool_files(place)
    damaged = bytearray(file.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    file.write_bytes(damaged)
    spool = open_spool()
    numbers = [m.number for m in await read_all(spool)]
    assert len(numbers) == 49
    assert spool.lost == 1


@pytest.mark.fault("N33")
async def test_a_file_of_which_nothing_is_left_does_not_hide_those_before(
    open_spool, place
):
    spool = open_spool()
    fill(spool, 5)
    spool.close()
    (place / "00000000000000000005-1.spool.zst").touch()
    spool = open_spool()
    assert spool.next_number == 5
    assert len(await read_all(spool)) == 5


@pytest.mark.fault("N30")
async def test_what_does_not_fit_into_memory_is_read_from_files(open_spool, place):
    spool = open_spool(memory=100_000)
    for _ in range(20):
        assert fill(spool, 100) == 100
        await wait_for(lambda: spool._writer.written == spool.next_number - 1)
    assert spool._memory.first > 0
    assert [m.number for m in await read_all(spool)] == [*range(2000)]
    assert spool.lost == 0


@pytest.mark.fault("N34")
async def test_a_full_memory_without_files_refuses_messages_until_some_are_stored(
    open_spool,
):
    spool = open_spool(None, memory=100_000)
    taken = fill(spool, 1000)
    assert 0 < taken < 1000
    assert spool.pending == taken
    spool.mark_stored(taken - 1)
    assert fill(spool, 10) == 10
    assert spool.lost == 0


@pytest.fixture
def full_disk(monkeypatch):
    """Return a function that fills the disk, and empties it."""
    write, full = os.write, [False]

    def limited(file, data):
        if full[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, data)

    monkeypatch.setattr("qos_async.recordings.block_file.os.write", limited)
    monkeypatch.setattr(spool_writer, "_RETRY", 0.01)
    return lambda on: full.__setitem__(0, on)


@pytest.mark.fault("N34")
async def test_a_full_disk_loses_nothing_as_long_as_there_is_memory(
    open_spool, full_disk
):
    spool = open_spool()
    errors: list[RecordingError] = []
    spool.on_error(errors.append)
    fill(spool, 10)
    await wait_for(lambda: spool._writer.written == 9)
    full_disk(True)
    fill(spool, 10)
    await wait_for(lambda: spool.error)
    assert "No space left on device; messages wait in memory" in str(spool.error)
    assert [m.number for m in await spool.read(5)] == [*range(5, 20)]
    full_disk(False)
    await wait_for(lambda: spool.error is None)
    assert len(errors) == 1
    spool.close()
    assert [m.number for m in await read_all(open_spool())] == [*range(20)]


@pytest.mark.fault("N34")
async def test_a_full_disk_refuses_messages_when_memory_is_full_too(
    open_spool, full_disk
):
    spool = open_spool(memory=100_000)
    full_disk(True)
    taken = 0
    for _ in range(20):
        taken += fill(spool, 100)
        await asyncio.sleep(0.01)
    assert 0 < taken < 2000
    full_disk(False)
    await wait_for(lambda: spool.error is None and fill(spool, 1))
    assert [m.number for m in await read_all(spool)] == [*range(spool.next_number)]


@pytest.mark.fault("N34")
async def test_files_at_their_limit_refuse_messages_until_some_are_stored(
    open_spool, place, monkeypatch
):
    monkeypatch.setattr(spool_writer, "_FILE_SIZE", 1000)
    monkeypatch.setattr(spool_writer, "_CHUNK_SIZE", 1000)
    monkeypatch.setattr(spool_writer, "_RETRY", 0.01)
    spool = open_spool(memory=50_000, disk=10_000)
    while not spool.error:
        fill(spool, 10)
        await asyncio.sleep(0.001)
    assert "it has" in str(spool.error)
    assert sum(file.stat().st_size for file in spool_files(place)) < 20_000
    spool.mark_stored(spool.next_number - 1)
    await wait_for(lambda: spool.error is None)
    await wait_for(lambda: fill(spool, 1))


async def test_what_is_stored_is_kept_for_a_while_and_then_deleted(
    open_spool, place, monkeypatch
):
    monkeypatch.setattr(spool_writer, "_FILE_SIZE", 100)
    now = [time.time()]
    monkeypatch.setattr("qos_async.jetstream.spool_writer.time.time", lambda: now[0])
    spool = open_spool(keep=300.0)
    for _ in range(3):
        number = spool.next_number
        fill(spool, 10)
        await wait_for(lambda last=number + 9: spool._writer.written == last)
    spool.mark_stored(19)
    await asyncio.sleep(0.3)
    assert len(spool_files(place)) >= 3
    now[0] += 301
    await wait_for(lambda: len(spool_files(place)) <= 2)
    assert [m.number for m in await read_all(spool, 20)] == [*range(20, 30)]


@pytest.mark.fault("N31")
@pytest.mark.parametrize("directory", [True, False])
async def test_what_the_broker_has_lost_is_read_again(open_spool, place, directory):
    spool = open_spool(place if directory else None)
    spool.set_epoch(0, 3)
    fill(spool, 10)
    if directory:
        await wait_for(lambda: spool._writer.written == 9)
    spool.mark_stored(4)
    spool.mark_stored(9)
    spool.rewind(spool.stored_numbers(spool.eras[0])[-1])
    assert spool.stored == 4
    assert [m.number for m in await read_all(spool, 5)] == [*range(5, 10)]
    spool.rewind(-1)
    assert spool.stored == -1
    assert [m.number for m in await read_all(spool, 0)] == [*range(10)]


@pytest.mark.fault("N35")
async def test_two_recorders_cannot_use_one_spool(open_spool, place):
    open_spool()
    with pytest.raises(RecordingError, match="another recorder uses the spool in"):
        open_spool()


def test_a_spool_whose_directory_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RecordingError, match=r"cannot make the directory .*file/spool"):
        Spool(tmp_path / "file" / "spool")


@pytest.mark.fault("N132")
async def test_files_that_are_gone_cost_their_messages_and_nothing_else(
    open_spool, place
):
    spool = open_spool()
    fill(spool, 50)
    await _written(spool)
    spool.mark_stored(49)
    for path in spool_files(place):
        path.unlink()
    spool.rewind(9)  # The broker has lost the rest.
    assert await spool.find(20) is None
    async with asyncio.timeout(5):
        reading = asyncio.create_task(spool.read(10))
        await asyncio.sleep(0)
        assert fill(spool, 1) == 1
        [message] = await reading
    assert (message.number, spool.lost) == (50, 40)
    assert await spool.find(50) == message


@pytest.mark.fault("N132")
async def test_a_read_that_was_cancelled_and_still_goes_on_disturbs_no_other(
    open_spool, monkeypatch
):
    spool = open_spool()
    fill(spool, 100)
    await _written(spool)
    spool.mark_stored(9)
    spool.mark_stored(99)
    spool.rewind(9)
    begun, go_on, lines = threading.Event(), threading.Event(), spool_module._lines

    def slow(*arguments):
        for line in lines(*arguments):
            begun.set()
            go_on.wait(10)
            yield line

    monkeypatch.setattr(spool_module, "_lines", slow)
    first = asyncio.create_task(spool.read(10, 5))
    await asyncio.to_thread(begun.wait)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    second = asyncio.create_task(spool.read(10, 5))
    await asyncio.sleep(0.05)
    go_on.set()
    assert [one.number for one in await second] == [10, 11, 12, 13, 14]


@pytest.mark.fault("N132")
async def test_a_spool_of_a_newer_form_is_refused(open_spool, place, monkeypatch):
    monkeypatch.setattr(spool_module, "FORM", 2)
    spool = open_spool()
    fill(spool, 5)
    spool.close()
    monkeypatch.undo()
    with pytest.raises(RecordingError, match=r"form 2.*newer qos-async"):
        open_spool()


async def _written(spool):
    """Wait until all messages are in files."""
    async with asyncio.timeout(10):
        while spool.waiting:  # noqa: ASYNC110 - a thread writes them
            await asyncio.sleep(0.02)
