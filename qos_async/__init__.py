"""An asyncio client for QOS (Quote Ocean System) market data.

>>> from qos_async import Client
>>> async with Client() as client:
...     async for trade in client.watch_trades("US:AAPL"):
...         print(trade)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qos_async._version import __version__

if TYPE_CHECKING:
    from qos_async._core.buffers import DropOldest, Latest, Strict
    from qos_async._core.notices import Dropped, Gap, GapStatus, Interrupted, Rejected
    from qos_async._io.history import HistoryPages
    from qos_async._io.iterators import Batches
    from qos_async._io.shared_quota import SharedQuota
    from qos_async._io.states import StateChange
    from qos_async._io.subscription import Subscription
    from qos_async.client import Client
    from qos_async.config import Limits, Timing
    from qos_async.enums import (
        Adjustment,
        Channel,
        Interval,
        LinkState,
        Market,
        Session,
        Side,
        TradingStatus,
    )
    from qos_async.errors import (
        AuthenticationError,
        ClosedError,
        ConnectError,
        DecodeError,
        LaggedError,
        LimitError,
        QosError,
        RejectedError,
        RequestError,
        RequestTimeoutError,
        TransportError,
    )
    from qos_async.markets.staleness import Stale
    from qos_async.models import (
        Depth,
        Instrument,
        Kline,
        PriceLevel,
        Product,
        SessionQuote,
        Snapshot,
        Tick,
        Trade,
        TradingDay,
    )
    from qos_async.recordings.files import RecordingError
    from qos_async.recordings.follow_client import follow
    from qos_async.recordings.recorder import Recorder
    from qos_async.recordings.replay_client import replay
    from qos_async.results import Result
    from qos_async.stats import Stats, SubscriptionStats
    from qos_async.topics import Topic

__all__ = [
    "Adjustment",
    "AuthenticationError",
    "Batches",
    "Channel",
    "Client",
    "ClosedError",
    "ConnectError",
    "DecodeError",
    "Depth",
    "DropOldest",
    "Dropped",
    "Gap",
    "GapStatus",
    "HistoryPages",
    "Instrument",
    "Interrupted",
    "Interval",
    "Kline",
    "LaggedError",
    "Latest",
    "LimitError",
    "Limits",
    "LinkState",
    "Market",
    "PriceLevel",
    "Product",
    "QosError",
    "Recorder",
    "RecordingError",
    "Rejected",
    "RejectedError",
    "RequestError",
    "RequestTimeoutError",
    "Result",
    "Session",
    "SessionQuote",
    "SharedQuota",
    "Side",
    "Snapshot",
    "Stale",
    "StateChange",
    "Stats",
    "Strict",
    "Subscription",
    "SubscriptionStats",
    "Tick",
    "Timing",
    "Topic",
    "Trade",
    "TradingDay",
    "TradingStatus",
    "TransportError",
    "__version__",
    "follow",
    "replay",
]

_LAZY = {
    "qos_async._core.buffers": ["DropOldest", "Latest", "Strict"],
    "qos_async._core.notices": [
        "Dropped",
        "Gap",
        "GapStatus",
        "Interrupted",
        "Rejected",
    ],
    "qos_async.markets.staleness": ["Stale"],
    "qos_async.topics": ["Topic"],
    "qos_async._io.iterators": ["Batches"],
    "qos_async._io.history": ["HistoryPages"],
    "qos_async._io.shared_quota": ["SharedQuota"],
    "qos_async._io.states": ["StateChange"],
    "qos_async._io.subscription": ["Subscription"],
    "qos_async.client": ["Client"],
    "qos_async.config": ["Limits", "Timing"],
    "qos_async.enums": [
        "Adjustment",
        "Channel",
        "Interval",
        "LinkState",
        "Market",
        "Session",
        "Side",
        "TradingStatus",
    ],
    "qos_async.errors": [
        "AuthenticationError",
        "ClosedError",
        "ConnectError",
        "DecodeError",
        "LaggedError",
        "LimitError",
        "QosError",
        "RejectedError",
        "RequestError",
        "RequestTimeoutError",
        "TransportError",
    ],
    "qos_async.models": [
        "Depth",
        "Instrument",
        "Kline",
        "PriceLevel",
        "Product",
        "SessionQuote",
        "Snapshot",
        "Tick",
        "Trade",
        "TradingDay",
    ],
    "qos_async.recordings.files": ["RecordingError"],
    "qos_async.recordings.recorder": ["Recorder"],
    "qos_async.recordings.follow_client": ["follow"],
    "qos_async.recordings.replay_client": ["replay"],
    "qos_async.results": ["Result"],
    "qos_async.stats": ["Stats", "SubscriptionStats"],
}
_MODULES = {name: module for module, names in _LAZY.items() for name in names}


def __getattr__(name: str) -> Any:
    # Imported lazily (PEP 562), so that aiohttp is not loaded before it is needed: the
    # pytest plugin, for one, is loaded in every test run of every user.
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from qos_async._lazy import import_attribute  # noqa: PLC0415 - for the same reason

    value = globals()[name] = import_attribute(module, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
