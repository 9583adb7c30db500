"""``qos record``: its options, and the command itself."""

from __future__ import annotations

from argparse import ArgumentParser
from functools import partial
from typing import TYPE_CHECKING

from qos_async.cli import exits
from qos_async.cli.display import add_tz
from qos_async.cli.files import check_parquet
from qos_async.cli.options import (
    Command,
    Options,
    UsageError,
    add_connection,
    add_seconds,
    add_topics,
    any_path,
    place,
    seconds,
)

if TYPE_CHECKING:  # Slow to import.
    from qos_async.cli.record.recording import Job

__all__ = ["COMMAND"]

_OF_A_STREAM = ("name", "lease", "spool", "on_broker_loss", "on_conflict")


def _add_arguments(parser: ArgumentParser) -> None:
    parser.usage = (
        "qos record [CHANNEL ...] SYMBOL [SYMBOL ...] -o PLACE [options]\n"
        "       qos record --fleet FILE --name NAME [options]"
    )
    add = parser.add_argument
    add_topics(parser, optional=True)
    add(
        *("-o", "--output"),
        type=place,
        metavar="PLACE",
        help="a directory, or a stream: nats://host:4222/STREAM",
    )
    add(
        "--to",
        choices=("jsonl", "parquet"),
        default="jsonl",
        help="parquet: also convert the recording at the end",
    )
    add("--fleet", type=any_path, metavar="FILE", help="what to record, as TOML")
    _add_stream_arguments(parser)
    add_seconds(parser)
    add_tz(parser, "of messages; terminal: local, else UTC")
    parser.set_defaults(csv=False, json=False)
    add_connection(parser)


def _add_stream_arguments(parser: ArgumentParser) -> None:
    add = parser.add_argument_group("streams").add_argument
    add(
        "--name",
        help="the name of this recorder (default); with --fleet, of the holder",
    )
    add(
        "--lease",
        type=seconds,
        metavar="S",
        help="seconds until a standby takes over",
    )
    add(
        "--spool",
        type=any_path,
        metavar="DIR",
        help="where what it does not have yet is kept",
    )
    add(
        "--on-broker-loss",
        choices=("keep", "close"),
        help="what happens to the link while the broker is away (keep)",
    )
    add(
        "--on-conflict",
        metavar="C",
        help="what to do if another program uses the key: yield, retake, or "
        "'retake-after 15m' (yield)",
    )


def _run(options: Options) -> int:
    """Record until Ctrl-C, which is the regular end without ``--seconds``."""
    from qos_async import QosError
    from qos_async.cli.client import report_error, run_async
    from qos_async.cli.record.recording import Started, record, report_recorded

    try:
        job = _job(options)
    except QosError as error:  # nats-py is missing.
        return report_error(error)
    started = Started()
    code = run_async(partial(record, job, options, started))
    stopped = code in (exits.INTERRUPTED, exits.TERMINATED)
    if stopped and options.seconds is None:
        code = exits.OK
    if started.recorder is not None:
        is_kept = report_recorded(started.recorder, job)
        code = code if is_kept or code == exits.KEY_REFUSED else exits.FAILED
    if options.to == "parquet" and started.recorder is not None:
        from qos_async.cli.convert import convert_all

        converted = convert_all(started.recorder.paths, job.output / "parquet")
        code = code or converted
    return code


def _job(options: Options) -> Job:
    """Return what to record.

    Raises:
        UsageError: If options contradict each other.
        FleetError: If the fleet file is invalid.
    """
    from qos_async.cli.record.recording import Job
    from qos_async.cli.stream import topics_of

    if options.fleet is not None:
        return _job_of_fleet(options)
    if options.output is None:
        raise UsageError("name where to record to: -o PLACE; or --fleet FILE")
    topics = topics_of(options)
    if options.to == "parquet":
        if isinstance(options.output, str):
            raise UsageError(
                "--to parquet is for directories: use qos convert for a stream"
            )
        check_parquet()
    given = {name: getattr(options, name) for name in _OF_A_STREAM}
    return Job(
        topics,
        options.output,
        {name: value for name, value in given.items() if value is not None},
    )


def _job_of_fleet(options: Options) -> Job:
    from qos_async.cli.record.fleet import FleetFile
    from qos_async.cli.record.recording import Job

    if options.name is None:
        raise UsageError("--fleet needs the --name of one of its holders")
    others = {
        "symbols and channels": options.words or options.channel or options.interval,
        "-o": options.output,
        "--to": options.to == "parquet",
        "--key": options.key,
        "--symbols-limit": options.symbols_limit,
        **{
            f"--{name.replace('_', '-')}": getattr(options, name)
            for name in _OF_A_STREAM[1:]
        },
    }
    if given := [name for name, value in others.items() if value]:
        raise UsageError(f"the fleet file has these: leave out {', '.join(given)}")
    file = FleetFile(options.fleet, options.name)
    holder = file.read()
    assert holder is not None, "it is read for the first time"
    return Job(holder.topics, holder.stream, holder.recorder, file, holder)


COMMAND = Command(
    "write received frames to files or a stream, until Ctrl-C",
    """\
Writes everything that is received over the websocket into files of a directory,
or into a stream of NATS JetStream, with the time of receipt, until Ctrl-C or
for --seconds. Outages are recorded, and what was fetched after them; the key is
not. CHANNEL is snapshots, trades (the default), depth or klines.

examples:
  qos record trades depth US:AAPL,TSLA -o recordings
  qos record --sim CF:BTCUSDT --seconds 5 -o recordings
  qos record --sim CF:BTCUSDT --seconds 5 -o recordings --to parquet
  qos record US:AAPL -o nats://host:4222/QOS --lease 10 --spool spool
  qos record --fleet fleet.toml --name us
""",
    """\
Files are JSON lines, compressed with zstandard; a new one is started each hour.
They are flushed every second, so Ctrl-C, or even a crash, loses next to
nothing. Existing files are left alone; one recorder writes to a directory, and
a second one is refused. With --to parquet there is also a directory parquet in
DIR at the end. Play them with qos replay; see also qos info and qos convert. A
full disk ends the recording with exit code 1.

A stream is made if it is missing; several servers are nats://a,nats://b/STREAM.
While the broker is away, the link stays, and what is received waits in memory
or, with --spool, in a directory from which the next run sends it. Without
--spool, what the broker does not have at the end is lost: exit code 1. With
--lease of several runs of one --name one has a link, and another takes over as
soon as it ends. Credentials: QOS_NATS_USER and QOS_NATS_PASSWORD,
QOS_NATS_TOKEN or QOS_NATS_CREDS.

A fleet file has a table for each key; a holder has what stands above the
tables, unless it has its own:
  stream = "nats://n1:4222,nats://n2:4222,nats://n3:4222/QOS"
  lease = 10                        # also spool, on_broker_loss, on_conflict
  [holders.us]
  key = { env = "QOS_API_KEY_US" }  # { file = "PATH" } or { profile = "NAME" }
  channels = ["trades", "klines"]   # only trades, if it is left out
  intervals = ["1m", "1d"]          # of klines
  symbols = ["US:AAPL,TSLA"]
  limits = { symbols = 100 }        # of the plan of that key
A profile is a table [profiles.NAME] of the configuration, with a key. The file
is read again when it changes, and at SIGHUP: symbols, channels and intervals
are added and removed on the same link, a new key is for the next connection,
and the rest waits for a restart. A mistake in it is reported, and changes
nothing.

Ctrl-C (or SIGTERM, or without --fleet SIGHUP) is the regular end, so the exit
code is 0; with --seconds it is 130 (143), because the time was not over.
""",
    _add_arguments,
    _run,
)
