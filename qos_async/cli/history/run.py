"""``qos history``: fetch, write, and tell."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from qos_async.cli import exits
from qos_async.cli.commands.history import Arguments
from qos_async.cli.connecting import UsageError, connect, run_async
from qos_async.cli.files import OutputError, check_place
from qos_async.cli.history.outputs import check, write
from qos_async.cli.history.paging import IGNORED, page_back
from qos_async.cli.history.part import Part, PartError, Request, part_path
from qos_async.cli.history.progress import choose
from qos_async.cli.history.report import nothing, sum_up
from qos_async.cli.moments import iso
from qos_async.cli.settings import SettingsError, resolve
from qos_async.cli.sources import source_of
from qos_async.periods import market_zone
from qos_async.symbols import market_of

__all__ = ["run_history"]


def run_history(arguments: Arguments) -> int:
    """Fetch what was asked for into a file, and give the exit code."""
    path = part_path(arguments.output)
    return _told(partial(_run, arguments, path), path)


def _run(arguments: Arguments, path: Path) -> int:
    request = _request(arguments, time.time())
    _check(arguments)
    with Part(path, request, anew=arguments.force) as part:
        try:
            return _told(partial(_download, arguments, part), path)
        finally:
            if part.count and path.exists():
                _tell(
                    f"stopped: {part.reached()} kept in {path}; the same command "
                    "goes on from there"
                )


def _told(work: Callable[[], int], path: Path) -> int:
    """Tell in a sentence what went wrong, and give the exit code."""
    try:
        return work()
    except (UsageError, SettingsError) as error:
        return _tell(str(error), exits.USAGE)
    except (ModuleNotFoundError, OutputError, PartError) as error:
        return _tell(str(error), exits.FAILED)
    except BrokenPipeError:
        raise
    except OSError as error:
        where = error.filename or path
        return _tell(f"cannot write {where}: {error.strerror}", exits.FAILED)


def _download(arguments: Arguments, part: Part) -> int:
    if part.found and not part.ended:
        _tell(f"going on with {part.path}: {part.reached()}, of {_span(part.request)}")
    if not part.ended:
        code = run_async(partial(_fetch, arguments, part))
        if code:
            return code
    return _finish(arguments, part)


async def _fetch(arguments: Arguments, part: Part) -> int:
    limits = resolve(arguments).limits
    async with connect(arguments, numbers=str) as client:
        with choose(part, limits) as progress:
            await page_back(client, part, progress)
        if part.count:
            return exits.OK
        symbol = part.request.symbol
        known = not (await client.fetch_instruments(symbol)).missing
    return _tell(nothing(part, known=known), exits.FAILED)


def _finish(arguments: Arguments, part: Part) -> int:
    output = arguments.output
    try:
        write(output, part.pages(), part.request, arguments.numbers)
    except ValueError as error:
        raise OutputError(
            f"cannot write {output}: {error}: try --numbers text"
        ) from None
    for line in sum_up(part, output, everything=arguments.all_holes):
        print(line, file=sys.stderr)
    part.remove()
    return exits.FAILED if part.ended == IGNORED else exits.OK


def _request(arguments: Arguments, now: float) -> Request:
    """Read what was typed.

    Raises:
        UsageError: If there is no time between from and to.
    """
    zone = market_zone(market_of(arguments.symbol))
    since, until = arguments.since, arguments.until
    try:
        start = since.start(zone, now)
        end = min(until.end(zone, now), int(now)) if until else int(now)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if start >= now:
        raise UsageError(f"--from {since.text} is in the future")
    if until and start >= end:
        raise UsageError(f"--from {since.text} is not before --to {until.text}")
    return Request(
        symbol=arguments.symbol,
        interval=arguments.interval.short,
        adjusted=arguments.adjust,
        source=source_of(arguments),
        asked=(since.text, until and until.text),
        start=start,
        end=end,
    )


def _check(arguments: Arguments) -> None:
    """Fail early, before anything is asked.

    Raises:
        ModuleNotFoundError: If a package is missing.
        OutputError: If the output cannot be written there.
        UsageError: If an option means nothing to it.
    """
    output = arguments.output
    check_place(output, force=arguments.force)
    if arguments.numbers and output.suffix != ".parquet":
        raise UsageError(
            f"--numbers is about Parquet: in {output.suffix} they are exact, as sent"
        )
    check(output)


def _span(request: Request) -> str:
    return f"{iso(request.start)} to {iso(request.end)}"


def _tell(sentence: str, code: int = exits.OK) -> int:
    print(f"qos: {sentence}", file=sys.stderr)
    return code
