"""Variants: the undocumented behaviour of the real server, as options."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

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
