"""Commands of clients over the websocket (chapter 5), answered by the hub itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from qos_async._server.parsing import (
    OPERATIONS,
    Rejection,
    Row,
    as_row,
    encode,
    parse_json,
)
from qos_async.enums import Channel
from qos_async.errors import QosError, RejectedError
from qos_async.hub.answers import Answers, ForbiddenError, MustWaitError
from qos_async.hub.link import HubLink
from qos_async.hub.places import NoPlaceError
from qos_async.hub.relay import Relay
from qos_async.hub.tokens import Token
from qos_async.topics import Topic

__all__ = ["CommandHandler"]

_log = logging.getLogger("qos_async.hub")

_CHANNELS = {
    "S": Channel.SNAPSHOT,
    "T": Channel.TRADE,
    "D": Channel.DEPTH,
    "K": Channel.KLINE,
}
_REQUESTS = frozenset(OPERATIONS.values())
_PENDING_MAX = 1000
_GARBAGE_MAX = 20
_TOPICS_MAX = 20_000
_POLICY, _INTERNAL_ERROR = 1008, 1011
_REFUSALS = (Rejection, ForbiddenError, MustWaitError, NoPlaceError)


class CommandHandler:
    """Processes the frames of one client.

    A command takes effect in the order in which it arrived; its reply is sent when the
    service has acknowledged, so replies may be in another order.

    Args:
        link: The client's link.
        token: What it may have; None: everything.
        relay: Has the subscriptions.
        answers: Answers its requests.
    """

    def __init__(
        self, link: HubLink, token: Token | None, relay: Relay, answers: Answers
    ) -> None:
        self._link = link
        self._token = token
        self._relay = relay
        self._answers = answers
        self._asker = link if token is None else link.owner
        self._tasks: set[asyncio.Task[None]] = set()
        self._garbage = 0

    def on_frame(self, link: HubLink, raw: bytes) -> None:
        """Process one frame."""
        if link.ended:
            return
        body = as_row(parse_json(raw))
        if body is None:
            self._garbage += 1
            if self._garbage > _GARBAGE_MAX:
                link.end(_POLICY, "frames that are no JSON objects")
                return
            self._reply({"type": "", "msg": "Parameter error: not an object"})
            return
        kind = str(body.get("type", ""))
        if kind == "H":
            self._reply({"type": "H", "msg": "OK", "time": int(self._answers.now())})
        elif kind in _REQUESTS:
            self._start(self._answer(kind, body))
        elif kind[:1] in _CHANNELS and kind[1:] in ("", "C"):
            self._change(kind, body)
        else:
            self._refuse(kind, body, f"Unknown type: {kind[:20]}")

    async def aclose(self) -> None:
        """End the commands that are still waited for."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _change(self, kind: str, body: Row) -> None:
        try:
            topics = self._topics(_CHANNELS[kind[0]], body)
            if kind[1:]:
                self._relay.unsubscribe(self._link, topics)
                self._acknowledge(kind, body)
                return
            if len(self._link.topics) + len(topics) > _TOPICS_MAX:
                raise Rejection(f"More than {_TOPICS_MAX} topics.")
            added = self._relay.reserve(self._link, topics)
        except _REFUSALS as exc:
            self._refuse(kind, body, str(exc))
            return
        self._start(self._subscribe(kind, body, topics, added))

    async def _subscribe(
        self, kind: str, body: Row, topics: list[Topic], added: list[Topic]
    ) -> None:
        try:
            await self._relay.subscribe(self._link, topics, added)
        except QosError as exc:
            self._refuse(kind, body, _message(exc))
            return
        state = self._relay.attach(self._link, topics)
        self._acknowledge(kind, body)
        for frame in state:
            self._link.send(frame)

    async def _answer(self, kind: str, body: Row) -> None:
        try:
            data = await self._answers.data(self._asker, self._token, kind, body)
        except _REFUSALS as exc:
            self._refuse(kind, body, str(exc))
        except QosError as exc:
            self._refuse(kind, body, _message(exc))
        else:
            head = encode({"type": kind, "msg": "OK", **_echo(body)})
            self._link.send(b'%b,"data":%b}' % (head[:-1], data))

    def _topics(self, channel: Channel, body: Row) -> list[Topic]:
        parser = self._answers.parser
        symbols = parser.symbols(body.get("codes"))
        interval = None
        if channel is Channel.KLINE:
            interval = parser.interval(body.get("kt"))
        refusal = self._token and self._token.refusal(symbols, channel)
        if refusal:
            raise ForbiddenError(refusal)
        return [Topic(channel, symbol, interval) for symbol in symbols]

    def _acknowledge(self, kind: str, body: Row) -> None:
        now = int(self._answers.now())
        self._reply({"type": kind, "msg": "OK", "time": now, **_echo(body)})

    def _refuse(self, kind: str, body: Row, message: str) -> None:
        now = int(self._answers.now())
        self._reply({"type": kind, "msg": message, "time": now, **_echo(body)})

    def _reply(self, reply: Row) -> None:
        self._link.send(encode(reply))

    def _start(self, work: Any) -> None:
        if len(self._tasks) >= _PENDING_MAX:
            work.close()
            self._link.end(_POLICY, f"more than {_PENDING_MAX} commands at once")
            return
        task = asyncio.create_task(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception:  # noqa: BLE001 - else the client would wait for ever
            _log.exception("this is a bug in qos_async; please report it")
            self._link.end(_INTERNAL_ERROR, "internal error")


def _echo(body: Row) -> Row:
    return {"reqid": body["reqid"]} if "reqid" in body else {}


def _message(error: QosError) -> str:
    return error.message if isinstance(error, RejectedError) else str(error)
