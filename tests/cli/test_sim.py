"""``qos sim``, as a process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from qos_async import AuthenticationError, Client
from qos_async.cli.sim_keys import SimKeys
from qos_async.sim import Simulator
from tests.support.cli_process import command, environment, finish, run, start

pytestmark = pytest.mark.slow

_SUICIDE = "import os; os.kill(os.getpid(), 9)"


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
    assert "0 frames and 1 request received, 0 violations of the protocol" in ran.err


def _on_terminal(keys: bytes) -> tuple[str, int]:
    """Return what is on the terminal after each key, and the exit code."""
    pty = pytest.importorskip("pty", reason="Windows has no pseudo-terminals")
    master, slave = pty.openpty()
    process = subprocess.Popen(
        command("sim"), stdin=slave, stdout=slave, stderr=slave, env=environment()
    )
    os.close(slave)
    shown, typed = b"", 0
    with contextlib.suppress(OSError):  # How Linux reports the end.
        while piece := os.read(master, 4096):
            shown += piece
            lines = shown.partition(b"keys:")[2].count(b"\n")
            if lines > typed and typed < len(keys):  # Each key has a line.
                os.write(master, keys[typed : typed + 1])
                typed += 1
    os.close(master)
    return shown.decode().replace("\r", ""), process.wait(15)


def test_keys_on_a_terminal_cause_faults():
    shown, code = _on_terminal(b"coomMkKxq")
    assert code == 0
    assert "Traceback" not in shown
    lines = shown[shown.index("keys:") :].splitlines()
    assert lines[:10] == [
        "keys: c cut  o outage of 30 s  k expire the key  m mute  q quit",
        "cut: 0 links",
        "outage of 30 s; o ends it now",
        "the outage is over",
        "mute: nothing is sent; m ends it",
        "no longer mute: what was held is sent",
        "the key has expired; k renews it",
        "the key is accepted again",
        "keys: c cut  o outage of 30 s  k expire the key  m mute  q quit",
        "",
    ]


async def test_each_key_causes_its_fault(capsys, fast_limits):
    async with (
        Simulator(history=60.0, plan=fast_limits) as sim,
        Client(
            sim.key,
            http_url=sim.http_url,
            stream_url=sim.stream_url,
            limits=fast_limits,
        ) as client,
    ):
        keys = SimKeys(sim)
        await client.connect()
        keys.press("c")
        async with asyncio.timeout(5):
            while not client.stats.reconnects:  # noqa: ASYNC110 - a counter
                await asyncio.sleep(0.005)
        assert "cut: 1 link\n" in capsys.readouterr().err
        keys.press("k")
        with pytest.raises(AuthenticationError):
            await client.fetch_snapshots("US:AAPL")
        keys.press("k")
        assert await client.fetch_snapshots("US:AAPL")
        keys.press("o")
        await asyncio.sleep(0)
        with pytest.raises(TimeoutError):  # It is retried until the outage is over.
            async with asyncio.timeout(0.5):
                await client.fetch_snapshots("US:AAPL")
        keys.close()
        assert await client.fetch_snapshots("US:AAPL")


def test_without_a_terminal_there_is_nothing_about_keys():
    process = start("sim")
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    assert "keys:" not in finish(process).err


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


PROGRAM = """\
import asyncio, sys
from qos_async import Client

async def main():
    async with Client() as client:
        quotes = await client.fetch_snapshots("US:AAPL")
        async for trade in client.watch_trades("CF:BTCUSDT"):
            print([*quotes], trade.symbol, flush=True)
            if sys.argv[1:] != ["forever"]:
                return 0

try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("closed")
    sys.exit(3)
"""


@pytest.fixture
def program(tmp_path: Path) -> list[str]:
    path = tmp_path / "bot.py"
    path.write_text(PROGRAM)
    return ["--", sys.executable, str(path)]


def test_a_program_runs_with_the_environment_of_the_simulator(program):
    ran = run("sim", "--seed", "3", *program)
    assert ran.code == 0
    assert ran.out == "['US:AAPL'] CF:BTCUSDT\n"
    assert ran.err.endswith(" received, 0 violations of the protocol\n")


@pytest.mark.parametrize(
    ("script", "code"), [("import sys; sys.exit(7)", 7), (_SUICIDE, 137)]
)
def test_the_exit_code_is_that_of_the_program(script, code):
    assert run("sim", "--", sys.executable, "-c", script).code == code


def test_a_program_that_is_not_there_is_named():
    ran = run("sim", "--", "no-such-program")
    assert ran.code == 1
    assert ran.err == "qos: cannot run no-such-program: there is no such program\n"


def test_a_script_that_is_no_program_is_run_by_python(tmp_path, monkeypatch):
    """A file in this directory is not on the path, and needs no permission to be run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bot.py").touch()
    ran = run("sim", "--", "bot.py")
    assert ran.code == 1
    assert ran.err == (
        "qos: cannot run bot.py: there is no such program; "
        "did you mean qos sim -- python bot.py?\n"
    )


def test_options_of_the_program_are_its_own():
    ran = run(
        "sim", "--", sys.executable, "-c", "import sys; print(sys.argv)", "--port"
    )
    assert ran.out == "['-c', '--port']\n"


def test_ctrl_c_lets_the_program_end_as_it_wants(program):
    process = start("sim", *program, "forever", process_group=0)
    process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)
    ran = finish(process)
    assert ran.code == 3
    assert ran.out.endswith("closed\n")


def test_sigterm_ends_the_program(program):
    process = start("sim", *program, "forever")
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    assert finish(process).code == 143
