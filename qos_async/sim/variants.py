"""Variants: the undocumented behaviour of the real server, as options."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self, get_args, get_type_hints

import msgspec
from msgspec import Struct
from msgspec.structs import force_setattr

from qos_async._validation import check_whole

__all__ = ["Variants"]


class Variants(Struct, frozen=True, kw_only=True):
    """How the simulator behaves where the protocol is undocumented.

    Attributes:
        bad_key: A websocket upgrade with a wrong key is rejected with this status, or
            accepted, answered with an error ``msg`` and closed with 1008.
        too_fast: A frame too soon after the previous one is processed, answered with
            an error, dropped without a reply, or the link is closed.
        too_fast_code: The close code in the last case.
        too_many_symbols: Reject the whole command, or accept as many as fit.
        second_connection: Reject the new link with ``second_connection_status``,
            close the oldest one, or accept both.
        second_connection_status: HTTP status of that rejection.
        unknown_symbol: Reject the whole command, or leave the symbol out silently.
        subscribed_twice: Acknowledge again, or reject.
        no_heartbeat: Close the link with 1001, or only record the violation.
        reqid_on_errors: Whether rejections echo ``reqid``.
        push_on_subscribe: Push the current snapshot, depth or kline right after the
            acknowledgement; otherwise only on change. Trades are never repeated.
        json_numbers: Trades have ``p`` and ``v`` as JSON numbers (samples of 2024).
        history_ignores_end: ``/history`` and RH reply as if ``e`` were now
            (recorded in 2024).
        trades_newest_first: The order of the rows of one symbol in RT.
        errors_as_200: HTTP errors have status 200 and are recognised by ``msg`` only.
        compression: Accept permessage-deflate where the client offers it.

    Raises:
        ValueError: For a value that is not one of these.
    """

    bad_key: Literal["400", "401", "403", "message"] = "401"
    too_fast: Literal["ignore", "error", "drop", "close"] = "error"
    too_fast_code: int = 1008
    too_many_symbols: Literal["refuse", "cut"] = "refuse"
    second_connection: Literal["refuse", "close_oldest", "accept"] = "refuse"
    second_connection_status: int = 429
    unknown_symbol: Literal["refuse", "omit"] = "omit"
    subscribed_twice: Literal["ok", "error"] = "ok"
    no_heartbeat: Literal["close", "ignore"] = "close"
    reqid_on_errors: bool = True
    push_on_subscribe: bool = False
    json_numbers: bool = False
    history_ignores_end: bool = False
    trades_newest_first: bool = False
    errors_as_200: bool = False
    compression: bool = True

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self)).items():
            value: Any = getattr(self, name)
            if hint is int:
                least, most = _CODES[name]
                found = check_whole(name, value, least=least, most=most)
                force_setattr(self, name, found)
                continue
            allowed = (True, False) if hint is bool else get_args(hint)
            if not any(value is one or _is_same_text(value, one) for one in allowed):
                choices = ", ".join(map(repr, allowed))
                raise ValueError(f"{name} must be one of {choices}, not {value!r}")

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Return the variants of a report of ``qos doctor --deep --json``.

        What the report does not know, its nulls, keeps its default.

        Args:
            path: The report, or the bundle beside it.

        Raises:
            ValueError: If the file is no such report, or names unknown variants.
            OSError: If it cannot be read.
        """
        try:
            report = msgspec.json.decode(Path(path).read_bytes(), type=_Report)
            known = {
                name: one for name, one in report.variants.items() if one is not None
            }
            if unknown := known.keys() - {*cls.__struct_fields__}:
                raise ValueError(
                    f"{path} names variants that this version does not have: "
                    f"{', '.join(sorted(unknown))}"
                )
            return msgspec.convert(known, cls)
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            raise ValueError(
                f"{path} is not a report of qos doctor --deep --json: {exc}"
            ) from None


_CODES = {"too_fast_code": (1000, 4999), "second_connection_status": (400, 599)}
"""The range of each number."""


def _is_same_text(value: object, allowed: object) -> bool:
    return isinstance(value, str) and value == allowed


class _Report(Struct):
    """What is read of a report."""

    variants: dict[str, Any]
