"""Fleet files: what they may have, and what is reported of mistakes in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from qos_async import Limits, Topic
from qos_async.cli.record.fleet import FleetError, FleetFile, Holder, KeySource

GOOD = """\
stream = "nats://127.0.0.1:4222/QOS"
spool = "spool"

[holders.us]
key = { env = "US_KEY" }
channels = ["trades", "klines"]
intervals = ["1m", "1d"]
symbols = ["US:AAPL,TSLA"]

[holders.hk]
key = { file = "hk.key" }
symbols = ["HK:00700"]
lease = 5
limits = { symbols = 100 }
"""


def holder(path: Path, name: str) -> Holder:
    found = FleetFile(path, name).read()
    assert found is not None
    return found


@pytest.fixture
def fleet(tmp_path):
    path = tmp_path / "fleet.toml"
    path.write_text(GOOD)
    return path


def test_a_holder_has_what_stands_above_the_tables_unless_it_has_its_own(fleet):
    us, hk = holder(fleet, "us"), holder(fleet, "hk")
    assert us.stream == hk.stream == "nats://127.0.0.1:4222/QOS"
    assert us.recorder == {"name": "us", "lease": 10.0, "spool": "spool"}
    assert hk.recorder == {"name": "hk", "lease": 5.0, "spool": "spool"}
    assert us.topics == (
        Topic("trade", "US:AAPL"),
        Topic("trade", "US:TSLA"),
        Topic("kline", "US:AAPL", "1m"),
        Topic("kline", "US:TSLA", "1m"),
        Topic("kline", "US:AAPL", "1d"),
        Topic("kline", "US:TSLA", "1d"),
    )
    assert hk.topics == (Topic("trade", "HK:700"),)
    assert hk.limits == Limits(symbols=100)


def test_a_file_is_returned_once_for_each_content(fleet):
    file = FleetFile(fleet, "us")
    assert file.read() is not None
    assert file.read() is None
    fleet.write_text(GOOD.replace("TSLA", "NVDA"))
    found = file.read()
    assert found is not None
    assert found.topics[1] == Topic("trade", "US:NVDA")


def test_an_error_is_raised_once_for_each_content(fleet):
    file = FleetFile(fleet, "us")
    fleet.unlink()
    with pytest.raises(FleetError, match=r"cannot read .*fleet.toml: No such file"):
        file.read()
    assert file.read() is None


@pytest.mark.fault("N70")
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("]\n\n[holders.hk", "\n\n[holders.hk", "is not valid TOML: Unclosed array"),
        ('"US:AAPL,TSLA"', '"AAPL"', "line 8: holders.us.symbols: malformed symbol"),
        ('["US:AAPL,TSLA"]', "[]", "line 8: holders.us.symbols: name at least one"),
        ('["US:AAPL,TSLA"]', "3", "line 8: holders.us.symbols: Expected `array`"),
        ('"trades", ', '"ticks", ', "line 6: holders.us.channels: 'ticks' is none of"),
        ('["trades", "klines"]', "[]", 'none: write channels = ["trades", "depth"]'),
        (', "klines"', "", 'line 7: holders.us.intervals: they need "klines"'),
        (
            '"1m"',
            '"3m"',
            "line 7: holders.us.intervals: '3m' is not an interval: write",
        ),
        ('{ env = "US_KEY" }', '"s3cret"', "a key does not belong in this file: write"),
        (
            '{ env = "US_KEY" }',
            "{}",
            'line 5: holders.us.key: write key = { env = "NAME"',
        ),
        (
            'env = "US_KEY"',
            'env = "A", file = "b"',
            "line 5: holders.us.key: write key",
        ),
        ("channels", "chanels", "line 6: holders.us.chanels: unknown; allowed: stream"),
        (
            'spool = "spool"',
            "spol = 1",
            "line 2: spol: unknown; allowed: stream, lease",
        ),
        ('stream = "nats', 'x = "nats', "line 1: x: unknown; allowed"),
        (
            '"nats://127.0.0.1:4222/QOS"',
            '"dir"',
            "line 1: holders.us.stream: 'dir' is not",
        ),
        ("4222/QOS", "4222", "line 1: holders.us.stream: malformed place"),
        (
            'spool = "spool"',
            "lease = 0.1",
            "line 2: holders.us.lease: lease must be at",
        ),
        (
            'spool = "spool"',
            'on_conflict = "fight"',
            "line 2: holders.us.on_conflict: ",
        ),
        (
            'spool = "spool"',
            'on_broker_loss = "x"',
            "line 2: holders.us.on_broker_loss: ",
        ),
        ("[holders.us]", "[holders.jp]", "holders: us is not in it, but hk, jp: add ["),
        (
            "limits = { symbols = 100 }",
            "limits = { x = 1 }",
            "holders.hk.limits.x: unkn",
        ),
        (
            "US:AAPL,TSLA",
            "US:" + ",".join(f"A{n}" for n in range(11)),
            "the plan allows 10",
        ),
    ],
)
def test_a_mistake_is_reported_with_its_line_and_what_to_write(
    fleet, old, new, message
):
    assert old in GOOD
    fleet.write_text(GOOD.replace(old, new))
    with pytest.raises(FleetError) as caught:
        FleetFile(fleet, "us").read()
    assert message in str(caught.value)
    assert str(fleet) in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_mistake_in_the_table_of_another_holder_is_reported_too(fleet):
    fleet.write_text(GOOD.replace("HK:00700", "700"))
    with pytest.raises(FleetError, match=r"line 12: holders.hk.symbols"):
        FleetFile(fleet, "us").read()


def test_a_key_comes_from_a_variable_a_file_or_a_profile(tmp_path, monkeypatch):
    monkeypatch.setenv("US_KEY", "key-1\n")
    (tmp_path / "key").write_text("key-2\n")
    config = tmp_path / "qos-async" / "config.toml"
    config.parent.mkdir()
    config.write_text('[profiles.us]\nkey = "key-3"\n')
    config.chmod(0o600)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert KeySource(env="US_KEY").read() == "key-1"
    assert KeySource(file=str(tmp_path / "key")).read() == "key-2"
    assert KeySource(profile="us").read() == "key-3"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (KeySource(env="NONE_SUCH"), "the environment variable NONE_SUCH is not set"),
        (KeySource(file="none-such"), "cannot read the key in none-such: No such file"),
        (KeySource(file="empty"), "empty is empty"),
        (KeySource(profile="us"), "has no key of that name: add [profiles.us]"),
    ],
)
def test_a_missing_key_is_reported_with_its_source(
    source, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "empty").touch()
    with pytest.raises(FleetError) as caught:
        source.read()
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "--fleet needs the --name of one of its holders"),
        (("--name", "us", "-o", "x"), "the fleet file has these: leave out -o"),
        (("--name", "us", "US:AAPL"), "leave out symbols and channels"),
        (("--name", "us", "--lease", "3", "--key", "k"), "leave out --key, --lease"),
        (("--name", "jp"), "holders: jp is not in it, but hk, us: add [holders.jp]"),
    ],
)
def test_options_that_the_file_has_are_refused(fleet, words, message, qos):
    ran = qos("record", "--fleet", fleet, *words)
    assert ran.code == 2
    assert message in ran.err


def test_a_missing_key_ends_a_run_before_it_begins(fleet, qos, monkeypatch):
    monkeypatch.delenv("US_KEY", raising=False)
    ran = qos("record", "--fleet", fleet, "--name", "us")
    assert ran.code == 2
    assert ran.err.endswith(
        "there is no API key: the environment variable US_KEY is not set\n"
    )


def test_without_nats_py_the_error_has_the_command_to_install_it(
    fleet, qos, monkeypatch
):
    monkeypatch.setattr("qos_async.jetstream.session.find_spec", lambda _: None)
    ran = qos("record", "--fleet", fleet, "--name", "us")
    assert ran.code == 1
    assert "pip install 'qos-async[nats]'" in ran.err
