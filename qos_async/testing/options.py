"""Options of ``@pytest.mark.qos(...)``: their names, their types, their errors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pytest

__all__ = ["MarkOptions", "parse_mark"]

SIMULATOR = (
    "seed",
    "speed",
    "plan",
    "faults",
    "variants",
    "start",
    "history",
    "rate",
    "push_interval",
    "heartbeat_limit",
    "open_universe",
    "oldest_bars",
    "market_hours",
)
CLIENT = (
    "numbers",
    "key_in",
    "limits",
    "timing",
    "recover",
    "recorder",
    "quota",
)
TIME = ("virtual", "horizon")
RESERVED = {
    "key": "the simulator has one, qos_simulator.key",
    "host": "the simulator is on the loopback",
    "port": "the simulator takes a free one",
    "http_url": "qos_client is connected to qos_simulator",
    "stream_url": "qos_client is connected to qos_simulator",
}
"""Options that the fixtures set themselves, and why a mark may not."""

_DAY = 86_400.0


class MarkOptions(NamedTuple):
    """The options of one test.

    Attributes:
        simulator: Keyword arguments of ``Simulator``.
        client: Keyword arguments of ``Client``.
        virtual: Whether the test runs in virtual time, with a network in memory.
        horizon: Virtual seconds after which such a test fails.
    """

    simulator: Mapping[str, Any]
    client: Mapping[str, Any]
    virtual: bool
    horizon: float


def parse_mark(item: pytest.Item) -> MarkOptions:
    """Return the options of a test; the mark that is closest to it wins.

    Raises:
        pytest.fail.Exception: For an option that does not exist, or a wrong value; the
            message shows what to write instead.
    """
    given: dict[str, Any] = {}
    for mark in reversed(list(item.iter_markers("qos"))):
        options = _current_names(mark.kwargs)
        for error in _errors(mark.args, options):
            pytest.fail(f"pytest.mark.qos {error}", pytrace=False)
        given |= options
    return MarkOptions(
        simulator={name: given[name] for name in SIMULATOR if name in given},
        client={name: given[name] for name in CLIENT if name in given},
        virtual=given.get("virtual", False),
        horizon=given.get("horizon", _DAY),
    )


def _errors(args: Sequence[Any], given: Mapping[str, Any]) -> Iterator[str]:
    if args:
        yield f"takes options by name, as in seed=7, not {args[0]!r}"
    for name in given:
        if name in RESERVED:
            yield f"does not take {name}: {RESERVED[name]}"
        elif name not in (*SIMULATOR, *CLIENT, *TIME):
            yield f"has no option {name!r}{_suggestion(name)}"
    virtual, horizon = (given.get(name) for name in TIME)
    if virtual is not None and not isinstance(virtual, bool):
        yield f"takes virtual=True or virtual=False, not {virtual!r}"
    if horizon is not None and not _is_duration(horizon):
        yield f"takes horizon as a number of seconds above 0, not {horizon!r}"
    for name, (fits, what) in _TYPES.items():
        if name in given and not fits(given[name]):
            yield f"takes {name} as {what}, not {given[name]!r}"


def _current_names(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a mark with renamed ones under their new names."""
    if "beat" not in given:
        return dict(given)
    from qos_async._deprecation import warn_renamed  # noqa: PLC0415 - see _suggestion

    warn_renamed("pytest.mark.qos(beat=)", "pytest.mark.qos(push_interval=)")
    return {"push_interval" if name == "beat" else name: given[name] for name in given}


def _suggestion(name: str) -> str:
    import difflib  # noqa: PLC0415 - every pytest run imports this module

    known = sorted((*SIMULATOR, *CLIENT, *TIME))
    close = difflib.get_close_matches(name, known, 1)
    return f": did you mean {close[0]}?" if close else f"; it takes {', '.join(known)}"


def _number(value: object) -> float | None:
    from qos_async._validation import as_number  # noqa: PLC0415 - see _suggestion

    return as_number(value)


def _whole(value: object) -> int | None:
    from qos_async._validation import as_whole  # noqa: PLC0415 - see _suggestion

    return as_whole(value)


def _is_duration(value: object) -> bool:
    number = _number(value)
    return number is not None and number > 0


def _is_whole(value: object) -> bool:
    return _whole(value) is not None


def _is_timestamp(value: object) -> bool:
    number = _number(value)
    return value is None or (number is not None and 0 <= number < _FAR)


def _are_variants(value: object) -> bool:
    from qos_async.sim import Variants  # noqa: PLC0415 - see _suggestion

    return value is None or isinstance(value, Variants)


_FAR = 10_000_000_000
"""Epoch seconds from here on are probably milliseconds."""

_SECONDS = (_is_duration, "a number of seconds above 0")

# Options that the simulator does not check itself.
_TYPES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "seed": (_is_whole, "a whole number, as in seed=7"),
    "faults": (
        lambda value: isinstance(value, Iterable),
        "a list of faults, as in faults=[Cut(after=1.0)]",
    ),
    "variants": (_are_variants, "Variants(...) or None"),
    "start": (_is_timestamp, "epoch seconds or None, as in start=1_741_958_430"),
    "push_interval": _SECONDS,
    "heartbeat_limit": _SECONDS,
    "open_universe": (lambda value: isinstance(value, bool), "True or False"),
    "oldest_bars": (
        lambda value: (_whole(value) or 0) >= 0 and _is_whole(value),
        "a whole number from 0",
    ),
}
