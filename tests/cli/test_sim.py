"""``qos sim``, as a process."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from qos_async import Client
from tests.support.cli_process import finish, run, start


async def test_a_client_can_use_the_printed_environment():
    """The lines are for a shell. Ctrl-C is the regular end, so the exit code is 0."""
    process = start("sim", "--seed", "3")
    variables = dict(
        process.stdout.readline().removeprefix("export ").strip().split("=", 1)
        for _ in range(3)
    )
    async with Client(
        variables["QOS_API_KEY"],
        http_url=variables["QOS_HTTP_URL"],
        stream_url=variables["QOS_STREAM_URL"],
    ) as client:
        assert await client.fetch_snapshots("US:AAPL")
    process.send_signal(signal.SIGINT)
    ran = finish(process)
    assert ran.code == 0
    assert "0 frames and 1 requests received, 0 violations of the protocol" in ran.err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_not_reported_as_a_port_error():
    with Path("/dev/full").open("w") as full:
        ran = finish(start("sim", stdout=full))
    assert ran.code == 1
    assert ran.err.splitlines()[-1] == "qos: No space left on device"


def test_a_port_in_use_is_reported():
    """With exit code 1 and what to do; the first server keeps running, until SIGTERM."""
    process = start("sim")
    port = process.stdout.readline().rpartition(":")[2].strip()
    ran = run("sim", "--port", port)
    assert ran.code == 1
    assert ran.err.splitlines()[-1] == (
        f"qos: port {port} is in use: choose another with --port, "
        "or let --port 0 find a free one"
    )
    process.send_signal(signal.SIGTERM)
    assert finish(process).code == 0


def test_real_hours_are_an_option():
    process = start("sim", "--hours", "real")
    assert process.stdout.readline().startswith("export QOS_HTTP_URL=")
    process.send_signal(signal.SIGTERM)
    assert finish(process).code == 0


def test_other_hours_are_rejected_with_both_that_exist():
    ran = run("sim", "--hours", "closed")
    assert ran.code == 2
    assert "--hours: 'closed' is not one of always and real" in ran.err
