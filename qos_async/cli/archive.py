"""``qos archive``: finished trading days of a recording, a file for each."""

from __future__ import annotations

from argparse import ArgumentParser

from qos_async._wording import plural
from qos_async.cli import exits
from qos_async.cli.options import (
    Command,
    Options,
    add_place,
    any_path,
    start_of,
    time_spec,
)
from qos_async.cli.streams import print_message

__all__ = ["COMMAND"]


def _add_arguments(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add_place(parser)
    add(
        *("-o", "--output"),
        type=any_path,
        required=True,
        metavar="DIR",
        help="the archive",
    )
    add(
        "--from",
        dest="since",
        type=time_spec,
        metavar="T",
        help="read from then on only, such as 4d; days that began before are left out",
    )
    add("--json", action="store_true", help="what was written, as one JSON object")


def _run(options: Options) -> int:
    """Archive without an event loop, which would keep signals waiting."""
    import msgspec

    import qos_async as qos
    from qos_async.cli.client import report_error
    from qos_async.cli.info import size_text
    from qos_async.cli.serialize import json_line
    from qos_async.recordings import archive

    try:
        made = archive(options.place, options.output, start=start_of(options))
    except (qos.QosError, ValueError) as error:
        return report_error(error)
    for fault in made.faults:
        print_message(f"damaged: {fault}")
    if made.unreadable:
        print_message(f"skipped {plural(made.unreadable, 'unreadable frame')}")
    if options.json:
        print(json_line(msgspec.to_builtins(made)), end="")
        return exits.OK
    for one in made.written:
        gaps = plural(len(one.gaps), "gap")
        print(f"{one.path}: {one.pushes:,} pushes, {gaps}, {size_text(one.bytes)}")
    for path in made.kept:
        print_message(f"{path} has what the recording still has, or more: kept")
    if made.unfinished:
        print_message(f"left out, not finished: {', '.join(made.unfinished)}")
    print_message(
        f"{plural(len(made.written), 'file')} written, {len(made.unchanged)} unchanged, "
        f"in {options.output}"
    )
    return exits.OK


COMMAND = Command(
    "keep the finished trading days of a recording",
    """\
Writes each finished trading day of each market as a recording of its own, such
as DIR/US/qos-US-2025-01-02.jsonl.zst, which qos replay, qos convert and qos
info read, and DIR/manifest.json with checksums, counts and gaps.

examples:
  qos archive recordings -o archive
  qos archive nats://host:4222/QOS -o archive --from 4d
  qos convert archive/US -o parquet
  0 6 * * * qos archive nats://host:4222/QOS -o /data/archive --from 4d  # cron
""",
    """\
A day begins with the first session of its market (20:00 in New York on the
evening before for US, 17:00 for FX, 18:00 for CM), else at midnight there;
weekends belong to the Monday, except for CF. An outage at the end of a day is
kept whole. Ticks keep their places. Running it again writes the same bytes; a
file is kept unless the recording has more of its day. Files are moved into
place when they are complete.
""",
    _add_arguments,
    _run,
)
