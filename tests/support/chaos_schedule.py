"""Chaos schedules: the faults and user actions of a seed, and its server's options."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, NamedTuple

from qos_async import Limits
from qos_async.sim import Variants

__all__ = [
    "COMMANDS",
    "NOISE",
    "REQUESTS",
    "SYMBOLS",
    "UNKNOWN_SYMBOL",
    "USER_ACTIONS",
    "Step",
    "draw_server",
    "schedule",
]

SYMBOLS = ("CF:BTCUSDT", "CF:ETHUSDT", "US:AAPL", "HK:700", "SH:600519")
UNKNOWN_SYMBOL = "US:NOPE"
CLIENT_FAULT_CODES = (1000, 1008, 3000, 4000)
SERVER_FAULT_CODES = (1001, 1002, 1006, 1011, 1012, 1013)
NOISE = (
    b"\xff\x00{",
    b"",
    b"null",
    b"[]",
    b"[" * 5000,
    b'{"tp":"T"}',
    b'{"tp":"T","c":"CF:BTCUSDT","p":"x","ts":1}',
    b'{"tp":"K","c":"CF:BTCUSDT","kt":1,"ts":[]}',
    b'{"tp":"X","c":"CF:BTCUSDT"}',
    b'{"type":"T","msg":"OK","reqid":1000000}',
    b'{"type":"RS","msg":"Server busy.","reqid":1000000}',
    b'{"type":"XX","msg":"OK"}',
)
COMMANDS = ("T", "S", "D", "K")
REQUESTS = ("RT", "RS", "RD", "RK")
PATHS = ("/trade", "/snapshot", "/depth", "/kline")
USER_ACTIONS = ("subscribe", "unsubscribe", "add_topics", "remove_topics", "fetch")
_ACTIONS = (
    ["cut"] * 4
    + ["cut_after"] * 2
    + ["blackhole"] * 3
    + ["blackhole_one_way", "lag", "lag", "slice", "syn"]
    + ["fail_dns", "pause_server_reads"]
    + ["close"] * 2
    + ["reject_upgrades"] * 2
    + ["mute", "delay_replies", "delay_replies", "drop_replies", "drop_replies"]
    + ["duplicate_replies", "reject", "reject"]
    + ["push_noise", "push_noise", "push_flood", "block", "fail_http"]
    + ["subscribe"] * 4
    + ["unsubscribe"] * 3
    + ["add_topics"] * 3
    + ["remove_topics"] * 3
    + ["fetch"] * 8
)
"""What can happen; each as often as it is listed."""


class Step(NamedTuple):
    """An action at a time, in seconds."""

    at: float
    action: str
    arguments: dict[str, Any]

    def __str__(self) -> str:
        words = ", ".join(f"{name}={value!r}" for name, value in self.arguments.items())
        return f"{self.at:8.3f} {self.action}({words})"


def schedule(rng: random.Random) -> list[Step]:
    """Return a random schedule, within what a client can survive, see ``chaos``."""
    at, until = 10.0, rng.uniform(200.0, 540.0)
    steps: list[Step] = []
    client_faults = key_rejections = 0
    mean_interval = rng.choice([4.0, 10.0, 25.0])
    while at < until:
        action = rng.choice(_ACTIONS)
        arguments = _draw(action, rng)
        if action == "close" and arguments["code"] in CLIENT_FAULT_CODES:
            client_faults += 1
            if client_faults > 4 or (arguments["code"] == 1008 and client_faults > 2):
                arguments["code"] = 1001
        if action == "reject_upgrades" and arguments["status"] in (401, 403):
            key_rejections += 1
            if key_rejections > 1:
                arguments["status"] = 503
        steps.append(Step(round(at, 3), action, arguments))
        at += rng.expovariate(1 / mean_interval)
    return steps


def _draw(action: str, rng: random.Random) -> dict[str, Any]:
    """Return random arguments for an action."""
    duration = round(rng.choice([0.5, 3.0, 12.0, 30.0, 45.0]) * rng.random(), 2)
    types = rng.choice([None, COMMANDS, REQUESTS, ("H",), ("T",), ("RT",)])
    count = rng.randint(1, 4)
    index = rng.randrange(100)
    some = rng.sample([*SYMBOLS, UNKNOWN_SYMBOL], rng.randint(1, 3))
    choice, chance = rng.choice, rng.random
    most = {"slice": 6.0}.get(action, 60.0)
    span = {"duration": min(duration, most)}
    kinds = [COMMANDS, ("T",), REQUESTS, ("H",), PATHS]
    statuses = [401, 403, 404, 429, 500, 503, 503, None]
    words = ["Server busy.", "Rate limit exceeded.", "Unknown code."]
    counted = {"types": types, "count": count}
    edit = {"index": index, "symbols": some}
    draws: dict[str, Callable[[], dict[str, Any]]] = {
        "cut": lambda: {"how": choice(["reset", "end"])},
        "cut_after": lambda: {
            "how": choice(["reset", "end", "blackhole"]),
            "after": rng.randint(0, 400),
            "up": chance() < 0.3,
        },
        "blackhole": lambda: {**span, "new_connections": chance() < 0.5},
        "blackhole_one_way": lambda: {**span, "up": chance() < 0.5},
        "lag": lambda: {
            **span,
            "latency": choice([(0.15, 0.3), (0.5, 1.0), (1.5, 3.0)]),
        },
        "slice": lambda: {**span, "size": choice([1, 7, 50])},
        "syn": lambda: {**span, "how": choice(["drop", "refuse"])},
        "fail_dns": lambda: {**span, "how": choice(["hang", "fail"])},
        "close": lambda: {"code": choice(CLIENT_FAULT_CODES + SERVER_FAULT_CODES)},
        "reject_upgrades": lambda: {**span, "status": choice(statuses)},
        "mute": lambda: {**span, "new_connections": chance() < 0.5},
        "delay_replies": lambda: {
            **counted,
            "seconds": choice([0.5, 2.0, 7.9, 8.1, 12.0]),
        },
        "drop_replies": lambda: counted,
        "duplicate_replies": lambda: counted,
        "reject": lambda: {
            "message": choice(words),
            "types": choice(kinds),
            "count": count,
        },
        "push_noise": lambda: {"frames": [choice(NOISE) for _ in range(count)]},
        "push_flood": lambda: {"frames": choice([70, 300])},
        "block": lambda: {
            "seconds": round(choice([0.3, 2.0, 9.0, 40.0]) * chance(), 2)
        },
        "pause_server_reads": lambda: span,
        "fail_http": lambda: {
            "status": choice([500, 503, 429, None, 502]),
            "count": count,
        },
        "subscribe": lambda: {
            "channel": choice(["trade", "snapshot", "depth", "kline", "mixed"]),
            "symbols": some,
            "buffer": choice(["default", "default", "small", "strict"]),
            "pause": choice([0.0, 0.0, 0.0, 0.7]),
            "enter": chance() < 0.5,
            "final": chance() < 0.3,
        },
        "unsubscribe": lambda: {"index": index},
        "add_topics": lambda: {**edit, "give_up_after": choice([None, 0.5, 3.0])},
        "remove_topics": lambda: edit,
        "fetch": lambda: {
            "kind": choice(["klines", "trades", "snapshots", "depth"]),
            "symbols": some,
            "via": choice(["stream", "stream", "http"]),
            "give_up_after": choice([None, None, 0.2, 2.0]),
        },
    }
    return draws[action]()


def draw_server(rng: random.Random) -> tuple[dict[str, Any], Variants]:
    """Return random options and variants of the simulator."""
    variants = Variants(
        trades_newest_first=rng.random() < 0.3,
        json_numbers=rng.random() < 0.2,
        push_on_subscribe=rng.random() < 0.3,
        unknown_symbol=rng.choice(["refuse", "omit"]),
        second_connection=rng.choice(["refuse", "close_oldest"]),
        too_fast=rng.choice(["error", "drop"]),
        compression=rng.random() < 0.5,
    )
    options = {
        "rate": rng.choice([0.2, 0.5, 1.0, 2.0]),
        "push_interval": 0.25,
        "history": rng.choice([5.0, 100.0]),
        "plan": Limits(symbols=rng.choice([3, 4, 10])),
    }
    return options, variants
