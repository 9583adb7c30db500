"""Switches: how each variant of the simulator shows in the log of a survey."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from qos_async.survey.exchanges import Event, Row
from qos_async.survey.log import (
    Found,
    Log,
    bars_of,
    is_error,
    message,
    not_seen,
    rows_of,
)
from qos_async.survey.questions import LIVE, UNKNOWN

__all__ = ["EFFECTS", "SWITCHES"]

_ON_SUBSCRIBE = 0.3
"""Seconds after the acknowledgement; pushes on change come at any time."""
_TRADES = ("http trade", "trade")


def _bad_key(log: Log) -> Found:
    refused = log.first("wrong key", "refused")
    if refused is not None and refused.code is not None:
        value = str(refused.code)
        known = value if value in ("400", "401", "403") else None
        return known, f"the upgrade was refused with HTTP {value}"
    reply = log.reply("wrong key")
    if is_error(reply):
        closed = log.first("wrong key", "closed")
        end = "stays open" if closed is None else f"is closed with {closed.code}"
        return "message", f"the link opens, says {message(reply)} and {end}"
    return not_seen(log, "wrong key")


def _too_fast(log: Log) -> Found:
    sent = log.of("too fast", "sent")
    if not sent:
        return not_seen(log, "too fast", beyond_plan=True)
    rows = [one.row for one in log.of("too fast", "received")]
    replies = [row for row in rows if "tp" not in row]
    closed = log.first("too fast", "closed")
    errors = [row for row in replies if is_error(row)]
    if closed is not None:
        return "close", f"the link was closed with {closed.code}"
    if errors:
        return "error", f"answered with {message(errors[0])}"
    if len(replies) >= len(sent):
        return "ignore", "both frames were answered"
    return "drop", "the second frame was not answered"


def _too_fast_code(log: Log) -> Found:
    value, detail = _too_fast(log)
    closed = log.first("too fast", "closed")
    if value != "close" or closed is None or closed.code is None:
        return None, "the link was not closed" if value else detail
    return closed.code, detail


def _too_many_symbols(log: Log) -> Found:
    reply = log.reply("too many symbols")
    if not reply:
        return not_seen(log, "too many symbols", beyond_plan=True)
    if is_error(reply):
        return "refuse", f"answered with {message(reply)}"
    sent = log.first("too many symbols", "sent")
    asked = sum(entry.count(",") + 1 for entry in sent.row["codes"]) if sent else 0
    count = len({row.get("c") for row in rows_of(reply)})
    detail = f"{count} of {asked} symbols were answered"
    return ("cut", detail) if count < asked else (None, f"{detail}: the plan has them")


def _second_connection(log: Log) -> Found:
    step = "second connection"
    refused = log.first(step, "refused")
    if refused is not None and refused.code is not None:
        return "refuse", f"refused with HTTP {refused.code}"
    opened = log.first(step, "opened")
    if opened is None:
        return not_seen(log, step, beyond_plan=True)
    closed = log.first(step, "closed")
    if closed is None:
        return "accept", "both links were open"
    if closed.link == opened.link:
        return None, f"the new link was opened and closed with {closed.code}"
    return "close_oldest", f"the older link was closed with {closed.code}"


def _second_connection_status(log: Log) -> Found:
    refused = log.first("second connection", "refused")
    if refused is None or refused.code is None:
        value, detail = _second_connection(log)
        return None, "it was not refused" if value else detail
    return refused.code, f"refused with HTTP {refused.code}"


def _unknown_symbol(log: Log) -> Found:
    reply = log.reply("unknown symbol")
    if is_error(reply):
        return "refuse", f"answered with {message(reply)}"
    symbols = {row.get("c") for row in rows_of(reply)}
    if not symbols:
        return not_seen(log, "unknown symbol")
    if UNKNOWN in symbols:
        return None, f"{UNKNOWN} was answered: there is such a symbol, or an empty row"
    return "omit", f"{UNKNOWN} was left out without a word"


def _subscribed_twice(log: Log) -> Found:
    reply = log.reply("subscribe again")
    if not reply:
        return not_seen(log, "subscribe again")
    if is_error(reply):
        return "error", f"answered with {message(reply)}"
    return "ok", "acknowledged again"


def _no_heartbeat(log: Log) -> Found:
    opened = log.first("no heartbeat", "opened")
    if opened is None:
        return not_seen(log, "no heartbeat", beyond_plan=True)
    closed = log.first("no heartbeat", "closed")
    if closed is None:
        return "ignore", "the link stayed open"
    after = closed.at - opened.at
    return "close", f"the link was closed with {closed.code} after {after:.0f} s"


def _errors(log: Log) -> list[Row]:
    steps = ("unknown interval", "unknown symbol", "subscribe again")
    return [row for step in steps if is_error(row := log.reply(step))]


def _reqid_on_errors(log: Log) -> Found:
    errors = _errors(log)
    if not errors:
        return None, "nothing was refused"
    echoed = ["reqid" in row for row in errors]
    text = f"an error was {message(errors[0])}"
    if all(echoed):
        return True, f"{text}, with reqid"
    return (None if any(echoed) else False), f"{text}, without reqid"


def _first_push_delays(log: Log) -> dict[str, float]:
    """Return the seconds from the acknowledgement to the first push of each topic."""
    delays: dict[str, float] = {}
    for letter in "SDK":
        step = f"subscribe {letter}"
        reply = log.reply(step)
        acks = [one.at for one in log.of(step, "received") if one.row == reply]
        if not reply or is_error(reply):
            continue
        symbols = {
            *LIVE,
            *(str(row.get("c")) for row in rows_of(log.reply("snapshot"))),
        }
        for symbol in symbols:
            times = [at for at, row in log.pushes(letter) if row.get("c") == symbol]
            first = min((at for at in times if at >= acks[0]), default=float("inf"))
            delays[f"{letter} {symbol}"] = first - acks[0]
    return delays


def _push_on_subscribe(log: Log) -> Found:
    delays = _first_push_delays(log)
    if not delays:
        return None, "no subscription was acknowledged"
    late = [topic for topic, delay in delays.items() if delay > _ON_SUBSCRIBE]
    if not late:
        return True, f"each of {len(delays)} topics was pushed at once"
    return False, f"{len(late)} of {len(delays)} topics were not pushed at once"


def _trade_rows(log: Log) -> list[Row]:
    rows = [row for step in _TRADES for row in rows_of(log.reply(step))]
    return [*rows, *(row for _, row in log.pushes("T"))]


def _json_numbers(log: Log) -> Found:
    kinds: set[type[Any]] = {
        type(row[name]) for row in _trade_rows(log) for name in "pv" if name in row
    }
    if not kinds:
        return None, "no trade was received"
    if kinds == {str}:
        return False, "prices and sizes of trades are texts"
    if str in kinds:
        return None, "prices and sizes of trades are texts and numbers"
    return True, "prices and sizes of trades are numbers"


def _history_ignores_end(log: Log) -> Found:
    values: list[bool] = []
    for step in ("http history", "history"):
        sent = log.first(step, "sent")
        bars = bars_of(log.reply(step))
        if sent is None or not bars:
            continue
        end = sent.row or Event(0, "", 0, "sent", sent.text.split(" ", 2)[-1]).row
        asked = end["kline_reqs"][0]["e"]
        values.append(max(bar["ts"] for bar in bars) > asked)
    if not values:
        return None, "no history was received"
    if len(set(values)) > 1:
        return None, "HTTP and websocket differ"
    kept = "is ignored" if values[0] else "is kept"
    return values[0], f"the end of a request for history {kept}"


def _trades_newest_first(log: Log) -> Found:
    orders: set[bool] = set()
    for step in _TRADES:
        by_symbol: dict[str, list[int]] = {}
        for row in rows_of(log.reply(step)):
            by_symbol.setdefault(str(row.get("c")), []).append(row.get("ts", 0))
        for times in by_symbol.values():
            if times == sorted(times) and times[0] < times[-1]:
                orders.add(False)
            elif times == sorted(times, reverse=True) and times[0] > times[-1]:
                orders.add(True)
    if len(orders) != 1:
        return None, "the trades have no order" if orders else "too few trades"
    newest_first = orders.pop()
    return newest_first, f"trades come {'newest' if newest_first else 'oldest'} first"


def _errors_as_200(log: Log) -> Found:
    steps = ("http wrong key", "http unknown interval")
    received = [one for step in steps for one in log.of(step, "received")]
    errors = [one for one in received if is_error(one.row)]
    if not errors:
        return None, "nothing was refused over HTTP"
    statuses = sorted({one.code or 0 for one in errors})
    shown = ", ".join(map(str, statuses))
    as_200 = {status == HTTPStatus.OK for status in statuses}
    value = as_200.pop() if len(as_200) == 1 else None
    return value, f"errors have HTTP status {shown}, such as {message(errors[0].row)}"


def _compression(log: Log) -> Found:
    opened = log.first("connect", "opened")
    if opened is None:
        return not_seen(log, "connect")
    compressed = bool(opened.text)
    return compressed, "accepted" if compressed else "offered, and not accepted"


SWITCHES: dict[str, Callable[[Log], Found]] = {
    "bad_key": _bad_key,
    "too_fast": _too_fast,
    "too_fast_code": _too_fast_code,
    "too_many_symbols": _too_many_symbols,
    "second_connection": _second_connection,
    "second_connection_status": _second_connection_status,
    "unknown_symbol": _unknown_symbol,
    "subscribed_twice": _subscribed_twice,
    "no_heartbeat": _no_heartbeat,
    "reqid_on_errors": _reqid_on_errors,
    "push_on_subscribe": _push_on_subscribe,
    "json_numbers": _json_numbers,
    "history_ignores_end": _history_ignores_end,
    "trades_newest_first": _trades_newest_first,
    "errors_as_200": _errors_as_200,
    "compression": _compression,
}

EFFECTS = {
    "bad_key": "each form is recognised: AuthenticationError",
    "too_fast": "the client keeps the pace; a refusal for it is waited out",
    "too_fast_code": "none: any code is followed by a new link after a pause",
    "too_many_symbols": "symbols that were cut off are in Result.missing, and a "
    "subscription to them stays silent",
    "second_connection": "another program with this key takes the link away: the client "
    "ends with LimitError if that goes on",
    "second_connection_status": "any status is waited out as a taken connection",
    "unknown_symbol": "one wrong symbol rejects the whole request: RejectedError names it",
    "subscribed_twice": "none: the client subscribes each topic once",
    "no_heartbeat": "none: the client sends one every 15 s",
    "reqid_on_errors": "a refusal is matched to the oldest frame without a reply",
    "push_on_subscribe": "the first tick of a subscription may be older than it",
    "json_numbers": "numbers are taken exactly as they are written",
    "history_ignores_end": "iter_history() has one page and .end_ignored is True",
    "trades_newest_first": "none: fetched trades are sorted by time",
    "errors_as_200": "none: replies are judged by their msg",
    "compression": "none: frames are larger on the wire",
}
