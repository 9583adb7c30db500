"""A long time of the same: ``pytest -m soak``, for ``QOS_SOAK_SECONDS`` (60).

In 600 seconds all is done in full, on most machines; then the figures are written to
``benchmarks/results/soak.json``. In less time there is as much of each as fits in.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import faulthandler
import json
import logging
import os
import platform
import sys
from collections.abc import Callable, Coroutine, Generator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import pytest

import qos_async
from qos_async.testing.virtual import VirtualLoop, simulate
from tests.support import soak_loads as loads
from tests.support.soak_meter import Report

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(0),
    pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc"),
]

SECONDS = float(os.environ.get("QOS_SOAK_SECONDS", "60"))
RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "soak.json"

Load = Callable[[], Coroutine[Any, Any, Report]]


@pytest.fixture(scope="module")
def reports() -> Generator[dict[str, Report]]:
    """Collect what the loads came to; write it down if all were done in full."""
    found: dict[str, Report] = {}
    yield found
    if len(found) == 4 and all(report.is_complete for report in found.values()):
        RESULTS.parent.mkdir(exist_ok=True)
        text = json.dumps(_figures(found), indent=2)
        RESULTS.write_text(text + "\n", encoding="utf-8")


@pytest.fixture(autouse=True)
def quiet() -> Generator[None]:
    """Log nothing: pytest would keep the records. Minutes are not too long here."""
    faulthandler.cancel_dump_traceback_later()
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.fault("U17", "U20", "I11", "I16")
def test_ten_thousand_reconnects_leave_nothing_behind(reports):
    reports["reconnects"] = _in_virtual_time(
        lambda: loads.reconnects(10_000, 0.15 * SECONDS)
    )


@pytest.mark.fault("U18", "I16")
def test_subscriptions_to_ten_thousand_symbols_leave_nothing_behind(reports):
    reports["readers"] = _in_virtual_time(
        lambda: loads.churn(symbols=10_000, readers=10_000, seconds=0.15 * SECONDS)
    )


@pytest.mark.fault("T12", "U11", "U17", "I8", "I16")
def test_days_with_two_outages_an_hour_lose_nothing_silently(reports):
    reports["days"] = simulate(lambda: loads.days(7 * 24, 0.3 * SECONDS), horizon=1e9)


@pytest.mark.fault("U16", "I7", "I9", "I16")
def test_ten_million_ticks_through_a_socket_leave_nothing_behind(reports):
    with asyncio.Runner(debug=False) as runner:
        reports["ticks"] = runner.run(loads.firehose(10_000_000, 0.4 * SECONDS))


def _in_virtual_time(load: Load) -> Report:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(load())


def _figures(reports: dict[str, Report]) -> dict[str, Any]:
    machine = {
        "cores": os.cpu_count(),
        "architecture": platform.machine(),
        "system": platform.system(),
    }
    packages = {"qos-async": qos_async.__version__}
    packages |= {name: version(name) for name in ("aiohttp", "anyio", "msgspec")}
    return {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "seconds": round(sum(report.seconds for report in reports.values())),
        "python": platform.python_version(),
        "packages": packages,
        "machine": machine,
        **{name: msgspec.to_builtins(report) for name, report in reports.items()},
    }
