"""Pytest plugin: a test that needs a package without a wheel for this Python is skipped.

Free-threaded builds and new Pythons lack some packages of the extras for a while.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator
from importlib.util import find_spec
from typing import Any

import pytest

_OPTIONAL = (
    "duckdb",
    "exchange_calendars",
    "fastapi",
    "matplotlib",
    "nats",
    "nkeys",
    "pandas",
    "plotly",
    "polars",
    "pyarrow",
)
_MISSING = frozenset(
    name for name in _OPTIONAL if name not in sys.modules and find_spec(name) is None
)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Report the failed import of a package that is not installed as a skip."""
    report = yield
    error = call.excinfo.value if call.excinfo else None
    missing = {_package(one) for one in _chain(error)} & _MISSING
    if report.failed and missing:
        file, line, _ = item.location
        reason = f"not installed: {', '.join(sorted(missing))}"
        report.outcome = "skipped"
        report.longrepr = (file, line or 0, f"Skipped: {reason}")
    return report


def _package(error: BaseException) -> str:
    name = error.name if isinstance(error, ModuleNotFoundError) else None
    return (name or "").partition(".")[0]


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        if isinstance(error, BaseExceptionGroup):
            for one in error.exceptions:
                yield from _chain(one)
        error = error.__cause__ or error.__context__
