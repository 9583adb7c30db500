"""Run of ``qos demo``: the client against the simulator, as lines or on the screen.

The view for ``--json`` is ``JsonView``, which ``qos stream`` uses too.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Coroutine
from typing import Any, Protocol

from qos_async import (
    Client,
    Dropped,
    Gap,
    Interrupted,
    Interval,
    Rejected,
    StateChange,
    Subscription,
    Tick,
)
from qos_async._printable import printable
from qos_async.cli.display import IN_UTC, Display
from qos_async.cli.formatting import (
    DecimalPlaces,
    gaps_line,
    iso_time,
    move_line,
    plural,
    tick_line,
)
from qos_async.cli.run_stats import LinkOutage, RunStats, summary_rows
from qos_async.cli.scenario import SYMBOLS, Scenario
from qos_async.cli.tables import is_terminal
from qos_async.cli.watch.command import make_app, run_app
from qos_async.cli.watch.model import Model
from qos_async.models import AnyTick
from qos_async.sim import Simulator

__all__ = ["PlainView", "ScreenView", "View", "play"]

_REFRESH_INTERVAL = 1 / 6
_NOTE_TIME = 2.0
_LABEL = 11
_NEXT = (
    ("next", "qos watch --sim           the screen, with keys"),
    ("", "qos stream --sim US:AAPL  live ticks, or --json"),
    ("", "qos sim -- python bot.py  your own, without a key"),
    ("", "qos login                 live data with your key"),
)


class View(Protocol):
    """Shows a run. Ticks come at any rate, ``refresh`` a few times a second."""

    def on_tick(self, tick: AnyTick) -> None:
        """Show a tick."""
        ...

    def on_gap(self, gap: Gap) -> None:
        """Show a gap."""
        ...

    def on_dropped(self, count: int) -> None:
        """Show how many ticks were dropped because this program was too slow."""
        ...

    def on_state(self, change: StateChange) -> None:
        """Show a new state of the link."""
        ...

    def on_message(self, text: str) -> None:
        """Show what the demo does itself."""
        ...

    def refresh(self) -> None:
        """Write out what is buffered."""
        ...

    def summarize(self, elapsed: float) -> None:
        """Show the summary, after the run."""
        ...


class PlainView:
    """Writes a line for each tick, gap and state, and the summary."""

    def __init__(self, stats: RunStats, display: Display = IN_UTC) -> None:
        self._stats, self._display = stats, display
        self._gaps: list[Gap] = []
        self._places = DecimalPlaces()
        self._recovered = 0

    def on_tick(self, tick: AnyTick) -> None:
        """Write a line."""
        self._write_gaps()
        print(tick_line(tick, self._display, self._places))

    def on_gap(self, gap: Gap) -> None:
        """Collect gaps: those of one channel come together and become one line."""
        if self._gaps and self._gaps[0].topic.channel is not gap.topic.channel:
            self._write_gaps()
        self._gaps.append(gap)

    def on_dropped(self, count: int) -> None:
        """Write a line."""
        self._write("dropped", f"{plural(count, 'tick')}: this program was too slow")

    def on_state(self, change: StateChange) -> None:
        """Write a line."""
        self._write("link", move_line(change))

    def on_message(self, text: str) -> None:
        """Write a line."""
        self._write("demo", text)

    def refresh(self) -> None:
        """Report recovered outages; flush, so that the reader of a pipe is up to date."""
        recovered = _recovered(self._stats)
        for outage in recovered[self._recovered :]:
            self._write_gaps()
            self._write("demo", str(outage))
        self._recovered = len(recovered)
        sys.stdout.flush()

    def summarize(self, elapsed: float) -> None:
        """Write the summary."""
        self._write_gaps()
        print()
        _print_summary(self._stats, elapsed)

    def _write_gaps(self) -> None:
        if self._gaps:
            gaps, self._gaps = self._gaps, []
            self._write("gap", gaps_line(gaps))

    def _write(self, kind: str, text: str) -> None:
        time = iso_time(zone=self._display.zone())
        print(printable(f"{time} {kind:<8} {text}"))


class ScreenView:
    """Shows the run in the screen of ``qos watch``, and the summary after it.

    The screen reads the client itself, so ticks, gaps and states need nothing here, and
    the keys work as in ``qos watch``. Its subscriptions share the topics of the run.
    """

    def __init__(self, scenario: Scenario, stats: RunStats, display: Display) -> None:
        self._scenario, self._stats = scenario, stats
        self._model = Model(SYMBOLS, Interval.MIN_1, display)
        self._model.select(SYMBOLS.index("CF:BTCUSDT"))  # It has the deepest book.
        self._note, self._note_ends_at = "", 0.0
        self._recovered = 0
        self._started_at = time.monotonic()

    async def show(self, client: Client, run: Coroutine[Any, Any, None]) -> None:
        """Show the screen until the run is over, or a key ends both."""
        app = make_app(client, self._model)
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(run)
            task.add_done_callback(lambda _: app.exit())
            await run_app(app)
            task.cancel()

    def on_tick(self, tick: AnyTick) -> None:
        """Do nothing."""

    def on_gap(self, gap: Gap) -> None:
        """Do nothing."""

    def on_dropped(self, count: int) -> None:
        """Do nothing."""

    def on_state(self, change: StateChange) -> None:
        """Do nothing."""

    def on_message(self, text: str) -> None:
        """Add an event, and show it instead of the progress for two seconds."""
        self._note, self._note_ends_at = text, time.monotonic() + _NOTE_TIME
        self._model.event_log.add(f"demo: {text}", time.time())

    def refresh(self) -> None:
        """Update the progress, which stands beside the title of the quotes.

        That of an outage stays until the next.
        """
        recovered = _recovered(self._stats)
        for outage in recovered[self._recovered :]:
            self._model.event_log.add(f"demo: {outage}", time.time())
        self._recovered = len(recovered)
        seconds = self._scenario.seconds
        now = time.monotonic()
        elapsed = min(now - self._started_at, seconds)
        progress = f"link {self._stats.progress}"
        if recovered and len(recovered) == len(self._stats.outages):
            progress = str(recovered[-1])
        text = self._note if now < self._note_ends_at else progress
        self._model.caption = f"demo {elapsed:.0f} of {seconds:g} s, {text}"

    def summarize(self, elapsed: float) -> None:
        """Print the summary: the screen is closed by then."""
        _print_summary(self._stats, elapsed)


def _recovered(stats: RunStats) -> list[LinkOutage]:
    return [outage for outage in stats.outages if outage.recovered_at is not None]


def _print_summary(stats: RunStats, elapsed: float) -> None:
    width = shutil.get_terminal_size().columns if is_terminal() else sys.maxsize
    following = () if stats.violations else _NEXT
    for label, text in (*summary_rows(stats, elapsed), *following):
        head, indent = f"{label:<{_LABEL}}", " " * _LABEL
        lines = textwrap.wrap(
            printable(text), width, initial_indent=head, subsequent_indent=indent
        )
        print("\n".join(lines))


# The run


async def play(scenario: Scenario, stats: RunStats, view: View) -> None:
    """Play the scenario once; ``stats`` has the result."""
    async with Simulator(
        seed=scenario.seed, speed=scenario.speed, plan=scenario.limits
    ) as sim:
        for symbol in SYMBOLS:  # Make their history now, not in the demo's time.
            sim.market.tape(symbol, sim.now)
        client = Client(
            sim.key,
            http_url=sim.http_url,
            stream_url=sim.stream_url,
            limits=scenario.limits,
            timing=scenario.timing,
        )
        try:
            async with client:
                running = _run(client, sim, scenario, stats, view)
                if isinstance(view, ScreenView):
                    await view.show(client, running)
                else:
                    await running
        finally:
            stats.frames_sent = client.stats.frames_sent
            stats.violations = list(sim.violations)


async def _run(
    client: Client, sim: Simulator, scenario: Scenario, stats: RunStats, view: View
) -> None:
    states = client.states()  # Before connecting: the first state counts.
    subscription = client.watch(*scenario.topics)
    try:
        async with asyncio.timeout(scenario.seconds), asyncio.TaskGroup() as tasks:
            tasks.create_task(_read_events(subscription, stats, view))
            tasks.create_task(_read_states(states, stats, view))
            tasks.create_task(_refresh(view))
            tasks.create_task(_cut_link(subscription, sim, scenario, view))
    except TimeoutError:
        pass


async def _read_events(
    subscription: Subscription[AnyTick], stats: RunStats, view: View
) -> None:
    async for event in subscription.events():
        match event:
            case Gap():
                stats.on_gap(event, time.monotonic())
                view.on_gap(event)
            case Dropped(count):
                stats.on_dropped(count)
                view.on_dropped(count)
            case Interrupted() | Rejected():
                pass  # The state of the link is on the screen; no topic is unknown.
            case Tick():
                stats.on_tick(event, time.monotonic())
                view.on_tick(event)


async def _read_states(
    states: AsyncIterator[StateChange], stats: RunStats, view: View
) -> None:
    async for change in states:
        stats.on_state(change, time.monotonic())
        view.on_state(change)


async def _cut_link(
    subscription: Subscription[AnyTick], sim: Simulator, scenario: Scenario, view: View
) -> None:
    async with asyncio.TaskGroup() as tasks:  # At its time, and when all is live.
        tasks.create_task(asyncio.sleep(scenario.outage_at))
        tasks.create_task(subscription.ready())
    view.on_message("cutting the link, to show how it recovers")
    sim.cut()


async def _refresh(view: View) -> None:
    while True:
        view.refresh()
        await asyncio.sleep(_REFRESH_INTERVAL)
