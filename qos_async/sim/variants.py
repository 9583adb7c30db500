"""What nobody knows about the server, as switches."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

__all__ = ["Variants"]


class Variants(Struct, frozen=True, kw_only=True):
    """How the simulator plays what the notes on the protocol list as unknown.

    Attributes:
        bad_key: A websocket upgrade with a wrong key: refused with that status, or
            accepted, answered with an error ``msg`` and closed with 1008.
        too_fast: A frame too close to the one before: obeyed all the same, answered
            with an error, dropped without a word, or the link closed.
        too_fast_code: The close code for that.
        too_many_symbols: Refuse the whole command, or take what still fits.
        second_connection: Refuse the new link with ``second_connection_status``,
            close the oldest one, or let both live.
        second_connection_status: HTTP status of that refusal.
        unknown_symbol: Refuse the whole command, or leave the symbol out silently.
        subscribed_twice: Say OK again, or refuse.
        no_heartbeat: Close the link with 1001, or only take note.
        reqid_on_errors: Whether refusals echo ``reqid``.
        push_on_subscribe: Push the current snapshot, depth or kline right after the
            yes; otherwise only on change. Trades are never repeated.
        json_numbers: Trades carry ``p`` and ``v`` as JSON numbers (samples of 2024).
        history_ignores_end: ``/history`` and RH answer as if ``e`` were now
            (recorded in 2024).
        trades_newest_first: The order of the rows of one symbol in RT.
        errors_as_200: HTTP errors come with status 200, told by ``msg`` alone.
        compression: Agree to permessage-deflate where the client offers it.
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
