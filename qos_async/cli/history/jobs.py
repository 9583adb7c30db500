"""The downloads of one file, one for each symbol: planned, run, written, reported."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from functools import partial
from itertools import chain
from typing import Self

from msgspec.structs import replace

from qos_async import Client, Limits
from qos_async.cli import exits
from qos_async.cli.client import open_client, run_async
from qos_async.cli.display import Display
from qos_async.cli.files import OutputError
from qos_async.cli.history.existing import Existing
from qos_async.cli.history.output import write
from qos_async.cli.history.paging import IGNORED, page_back
from qos_async.cli.history.partial import PartialDownload, Request, part_path
from qos_async.cli.history.progress import make_progress
from qos_async.cli.history.report import explain_empty, summarize
from qos_async.cli.options import CommandError, Options, UsageError, time_span
from qos_async.cli.settings import resolve, server_label
from qos_async.cli.streams import print_message
from qos_async.cli.times import iso, local_time
from qos_async.periods import bar_end
from qos_async.symbols import market_of

__all__ = ["SymbolDownload", "run_jobs"]


class SymbolDownload:
    """The download of one symbol.

    Attributes:
        last: The start of the last bar that the file has; None without one.
        part: The pages.
    """

    def __init__(
        self, options: Options, now: float, last: int | None, *, whole: bool
    ) -> None:
        """Open the file of pages.

        Args:
            options: Of the command, with one ``symbol``.
            now: The present.
            last: The start of the last bar that the file has.
            whole: Whether the pages are the whole file, not a part of it.

        Raises:
            UsageError: If there is no time between from and to.
            PartError: If its pages cannot be kept beside the file.
        """
        self.last = last
        request = _request(options, now, last)
        # The service's clock may be another one: the present is a question to it.
        up_to_now = request.end == int(now)
        self._end_at = partial(_end_at, options) if up_to_now else None
        path = part_path(options.output, None if whole else options.symbol)
        anew = options.force or options.update
        self.part = PartialDownload(path, request, anew=anew)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        part = self.part
        if part.count and part.path.exists():
            print_message(
                f"qos: stopped: {part.progress_text()} kept in {part.path}; the same "
                "command resumes there"
            )
        part.__exit__(*exc)

    def begin(self, display: Display) -> None:
        """Print what an earlier run has fetched."""
        part = self.part
        part.display = display
        if part.resumed_from and not part.ended:
            span = f"{iso(part.request.start)} to {iso(part.request.end)}"
            print_message(
                f"qos: resuming {part.path}: {part.progress_text()}, of {span}"
            )

    async def fetch(self, client: Client[str], limits: Limits) -> int:
        """Fetch the missing pages; return the exit code, a failure if there are no bars."""
        with make_progress(self.part, limits) as progress:
            await page_back(client, self.part, progress, end_at=self._end_at)
        if self.part.count or self.last is not None:
            return exits.OK
        known = not (await client.fetch_instruments(self.part.request.symbol)).missing
        print_message(f"qos: {explain_empty(self.part, known=known)}")
        return exits.FAILED


def run_jobs(
    options: Options,
    names: Sequence[str],
    existing: Existing | None,
    now: float,
    display: Display,
) -> int:
    """Download the symbols of one file, and return the exit code.

    Raises:
        CommandError: If something is in the way; the message says what.
    """
    with contextlib.ExitStack() as stack:
        jobs: list[SymbolDownload] = []
        for name in names:
            one = Options(**{**vars(options), "symbol": name})
            last = existing.last.get(name) if existing else None
            if last is not None and not _is_due(one, now, last):
                zone = display.zone(name)
                shown = local_time(last, name, options.interval, zone)
                print_message(f"{options.output}: {name} is complete up to {shown}")
                continue
            whole = len(names) == 1 and not options.update
            jobs.append(
                stack.enter_context(SymbolDownload(one, now, last, whole=whole))
            )
        for job in jobs:
            job.begin(display)
        try:
            return _download(options, jobs, existing)
        except CommandError as error:  # Before the sentence about what is kept.
            return error.report()


def _download(
    options: Options, jobs: Sequence[SymbolDownload], existing: Existing | None
) -> int:
    waiting = [job for job in jobs if not job.part.ended]
    code = run_async(partial(_fetch, options, waiting)) if waiting else exits.OK
    is_stopped = code in (exits.INTERRUPTED, exits.TERMINATED)
    is_lacking = any(job.part.count and not job.part.ended for job in jobs)
    if is_stopped or (code and not options.update and is_lacking):
        return code
    return _finish(options, jobs, existing, code) or code


async def _fetch(options: Options, jobs: Sequence[SymbolDownload]) -> int:
    limits, code = resolve(options).limits, exits.OK
    async with open_client(options, numbers=str) as client:
        for job in jobs:
            code = await job.fetch(client, limits) or code
    return code


def _finish(
    options: Options,
    jobs: Sequence[SymbolDownload],
    existing: Existing | None,
    code: int,
) -> int:
    """Write the complete downloads, and report on them."""
    output = options.output
    done = [job for job in jobs if job.part.ended and job.part.count]
    parts = [job.part for job in done]
    if parts:
        pages = chain.from_iterable(part.pages() for part in parts)
        request = _whole_request([part.request for part in parts], existing)
        try:
            write(output, pages, request, options.numbers, existing)
        except ValueError as error:
            advice = "try --numbers text" if existing is None else "write another file"
            raise OutputError(f"cannot write {output}: {error}: {advice}") from None
    if options.sim and any(job.last is not None for job in done):
        print_message(
            "qos: each run of --sim begins its market anew, at the same prices: "
            f"{output} has a seam where its new bars begin"
        )
    for job in jobs:
        is_unchanged = job.last is not None and not job.part.count and not code
        if job in done or is_unchanged:
            every = options.all_holes
            print_message(*summarize(job.part, output, all_holes=every, after=job.last))
        if job in done:
            job.part.remove()
    ignored = any(part.ended == IGNORED for part in parts)
    return exits.FAILED if ignored else exits.OK


def _whole_request(requests: Sequence[Request], existing: Existing | None) -> Request:
    names = [*(existing.last if existing else ()), *(one.symbol for one in requests)]
    return replace(
        requests[0],
        symbol=",".join(dict.fromkeys(names)),
        start=min(one.start for one in requests),
        end=max(one.end for one in requests),
    )


def _request(options: Options, now: float, last: int | None) -> Request:
    """Return what to fetch.

    Raises:
        UsageError: If there is no time between from and to, or no ``--from``.
    """
    since, until = options.since, options.until
    start: int | None
    if last is None:
        if since is None:
            raise UsageError(
                f"{options.output} has no bars of {options.symbol} yet: add --from, such "
                "as --from 2024-01-01, where they should begin"
            )
        start, end = time_span(options, now)
        assert start is not None, "it is that of --from"
        asked = since.text
    else:
        start, end = _next(options, last), _end_at(options, now)
        asked = iso(start)
    return Request(
        symbol=options.symbol,
        interval=options.interval.short,
        adjusted=options.adjust,
        source=server_label(options),
        asked=(asked, until and until.text),
        start=start,
        end=end,
    )


def _is_due(options: Options, now: float, last: int) -> bool:
    """Return whether a bar after the last one may be over."""
    following = bar_end(
        _next(options, last), options.interval, market_of(options.symbol)
    )
    return following <= _end_at(options, now)


def _next(options: Options, last: int) -> int:
    return bar_end(last, options.interval, market_of(options.symbol))


def _end_at(options: Options, now: float) -> int:
    """Return the requested end at a present, which may be that of the service."""
    if options.since is not None and options.update:
        options = Options(**{**vars(options), "since": None})
    return time_span(options, now)[1]
