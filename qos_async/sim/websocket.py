"""Websocket handler: the handshake, and the server side of the stream protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from aiohttp import web

from qos_async._server.parsing import (
    Rejection,
    as_row,
    encode,
    find_key,
    json_response,
    parse_json,
)
from qos_async.config import Limits
from qos_async.sim.connection import SimulatedConnection
from qos_async.sim.faults import Faults
from qos_async.sim.http import canned_response
from qos_async.sim.log import ReceivedFrame, ReceivedRequest, ServerLog
from qos_async.sim.requests import RequestHandler, UsageMeter
from qos_async.sim.source import PushSource, Row, WireTopic
from qos_async.sim.variants import Variants

__all__ = ["Handshake", "WebSocketHandler"]

_CHANNELS = frozenset("STDK")
_REQUESTS = frozenset({"RI", "RS", "RD", "RT", "RK", "RH"})
_REPLACED = 1000  # Close code of a link that a newer one replaces.


class WebSocketHandler:
    """Serves every link of one server: replies to commands, pushes updates.

    Args:
        pushes: The data to push.
        requests: Parses requests and produces their data.
        plan: The limits to enforce.
        variants: The choices where the real server's behaviour is unknown.
        log: Receives frames, violations and counts of pushes.
        faults: The faults in force.
        now: Returns the market's time, in epoch seconds.

    Attributes:
        links: The links, oldest first.
        meter: Counts the frames of all links.
    """

    def __init__(
        self,
        pushes: PushSource,
        requests: RequestHandler,
        plan: Limits,
        variants: Variants,
        log: ServerLog,
        *,
        faults: Faults,
        now: Callable[[], float],
    ) -> None:
        self.links: list[SimulatedConnection] = []
        self.meter = UsageMeter(plan)
        self._pushes = pushes
        self._requests = requests
        self._plan = plan
        self._variants = variants
        self._log = log
        self._faults = faults
        self._now = now
        self._subscriber_cache: (
            dict[str, dict[WireTopic, list[SimulatedConnection]]] | None
        ) = None

    def push_pending(self) -> float:
        """Push the updates since the previous call; return the market's time."""
        now = self._now()
        for symbol, subscribers in self._subscribers(now).items():
            for topic, row in self._pushes.updates(symbol, subscribers, now):
                self._push(topic, row, subscribers[topic])
        return now

    def on_disconnect(self, link: SimulatedConnection) -> None:
        """Remove a link that is closed."""
        self.links.remove(link)
        self._subscriber_cache = None

    def on_frame(self, link: SimulatedConnection, raw: bytes, at: float) -> None:
        """Process one frame that arrived ``at`` seconds of the loop's clock."""
        content = parse_json(raw)
        body = as_row(content)
        kind = str(body.get("type", "")) if body else ""
        self._log.frames.append(ReceivedFrame(at, link.number, kind, content))
        gap = self.meter.count_frame(at)
        if gap is not None and not self._allows_early_frame(
            link, kind, body or {}, gap
        ):
            return
        if body is None:
            self._log.violations.append(f"link {link.number}: not an object: {raw!r}")
            self._reply(link, kind, {"msg": "Parameter error: not an object"})
            return
        if kind == "H":
            link.heartbeat_at = at
        else:
            self._check_reqid(link, body)
        now = self.push_pending()  # Every push before the reply is older than it.
        added, reply = self._handle(link, kind, body, now)
        self._subscribers(now)  # New topics get what is traded from here on.
        self._reply(link, kind, reply)
        if self._variants.push_on_subscribe:
            self._push_current(link, added, now)

    def check_heartbeats(self, at: float, limit: float) -> None:
        """Record links without a heartbeat for ``limit`` seconds; close some variants'."""
        for link in self.links:
            if at - link.heartbeat_at > limit:
                link.heartbeat_at = at
                self._log.violations.append(
                    f"link {link.number}: no heartbeat for {limit:g} s"
                )
                if self._variants.no_heartbeat == "close":
                    link.close_soon(1001, "no heartbeat")

    def _allows_early_frame(
        self, link: SimulatedConnection, kind: str, body: Row, gap: float
    ) -> bool:
        """Return whether an early frame is to be processed; if not, reply or close."""
        self._log.violations.append(
            f"link {link.number}: {kind or 'a frame'} arrived {gap:.3f} s after the "
            f"previous frame, the plan requires {self._plan.command_interval:g} s"
        )
        match self._variants.too_fast:
            case "ignore":
                return True
            case "error":
                text = "Request too frequent: at least 1 second between two."
                reply = self._rejection_reply(kind, body, text, self._now())
                self._reply(link, kind, reply)
            case "close":
                link.close_soon(self._variants.too_fast_code, "too fast")
            case "drop":
                pass
        return False

    def _check_reqid(self, link: SimulatedConnection, body: Row) -> None:
        reqid = body.get("reqid")
        if type(reqid) is not int or reqid == 0:
            error = "no reqid" if reqid is None else f"reqid {reqid!r}"
        elif reqid in link.reqids:
            error = f"reqid {reqid} a second time"
        else:
            link.reqids.add(reqid)
            return
        self._log.violations.append(f"link {link.number}: {error} in {body}")

    def _handle(
        self, link: SimulatedConnection, kind: str, body: Row, now: float
    ) -> tuple[list[WireTopic], Row]:
        """Process a command or request; return the topics it added, and the reply."""
        echo = {"reqid": body["reqid"]} if "reqid" in body else {}
        ok = {"type": kind, "msg": "OK"}
        try:
            message = self._faults.rejection(kind)
            if message is not None:
                raise Rejection(message)  # noqa: TRY301
            if kind == "H":
                return [], {**ok, "time": int(now)}
            if kind in _REQUESTS:
                rows = self._requests.handle(kind, body, now)
                return [], {**ok, **echo, "data": rows}
            added = self._change_subscription(link, kind, body)
        except Rejection as exc:
            return [], self._rejection_reply(kind, body, str(exc), now)
        return added, {**ok, "time": int(now), **echo}

    def _rejection_reply(self, kind: str, body: Row, message: str, now: float) -> Row:
        reply: Row = {"type": kind, "msg": message, "time": int(now)}
        if "reqid" in body and self._variants.reqid_on_errors:
            reply["reqid"] = body["reqid"]
        return reply

    def _change_subscription(
        self, link: SimulatedConnection, kind: str, body: Row
    ) -> list[WireTopic]:
        letter = kind[:1]
        if letter not in _CHANNELS or kind[1:] not in ("", "C"):
            self._log.violations.append(f"link {link.number}: unknown type {kind!r}")
            raise Rejection(f"Unknown type: {kind}")
        kt = None
        if letter == "K":
            kt = int(self._requests.parser.interval(body.get("kt")))
        symbols = self._requests.parse_symbols(body.get("codes"))
        topics = [WireTopic(letter, symbol, kt) for symbol in symbols]
        self._subscriber_cache = None
        if kind[1:]:
            for topic in topics:
                link.topics.pop(topic, None)
            return []
        return self._add_topics(link, topics)

    def _add_topics(
        self, link: SimulatedConnection, topics: list[WireTopic]
    ) -> list[WireTopic]:
        self._requests.check_allowed([topic.symbol for topic in topics])
        repeated = [topic.symbol for topic in topics if topic in link.topics]
        if repeated and self._variants.subscribed_twice == "error":
            raise Rejection(f"Already subscribed: {','.join(repeated)}")
        # The plan counts distinct symbols of a link, not topics.
        symbols = {topic.symbol for topic in link.topics}
        extra = [topic.symbol for topic in topics if topic.symbol not in symbols]
        symbols |= set(self._requests.within_limit(extra, len(symbols) + len(extra)))
        added = [
            topic
            for topic in topics
            if topic.symbol in symbols and topic not in link.topics
        ]
        link.topics.update(dict.fromkeys(added))
        return added

    def _subscribers(
        self, now: float
    ) -> dict[str, dict[WireTopic, list[SimulatedConnection]]]:
        """Return the links of each topic, by symbol; computed after each change."""
        if self._subscriber_cache is None:
            self._subscriber_cache = {}
            for link in self.links:
                for topic in link.topics:
                    by_topic = self._subscriber_cache.setdefault(topic.symbol, {})
                    by_topic.setdefault(topic, []).append(link)
            self._pushes.follow(self._subscriber_cache, now)
        return self._subscriber_cache

    def _push(
        self, topic: WireTopic, row: Row, links: list[SimulatedConnection]
    ) -> None:
        if topic.letter == "T":
            row = self._requests.with_number_type([row])[0]
        frame = encode({"tp": topic.letter, **row})
        self._log.pushed[topic.letter] += len(links)
        for link in links:
            link.send(frame)

    def _push_current(
        self, link: SimulatedConnection, topics: Iterable[WireTopic], now: float
    ) -> None:
        for topic in topics:
            if topic.letter != "T":
                for row in self._pushes.current(topic, now):
                    self._push(topic, row, [link])

    def _reply(self, link: SimulatedConnection, kind: str, reply: Row) -> None:
        self._faults.send_reply(link, kind, encode(reply))


class Handshake:
    """Serves ``GET /ws``: authentication and the limit of connections.

    Args:
        handler: Serves the links that are accepted.
        plan: The limits to enforce.
        variants: The choices where the real server's behaviour is unknown.
        log: Receives requests and violations.
        faults: The faults in force.
        key_error: Returns the message with which a key is rejected, or None.
    """

    def __init__(
        self,
        handler: WebSocketHandler,
        plan: Limits,
        variants: Variants,
        log: ServerLog,
        *,
        faults: Faults,
        key_error: Callable[[str | None], str | None],
    ) -> None:
        self._handler = handler
        self._plan = plan
        self._variants = variants
        self._log = log
        self._faults = faults
        self._key_error = key_error
        self._opened = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Process one upgrade, and then the link until it is closed."""
        key, key_in = find_key(request)
        at = asyncio.get_running_loop().time()
        self._log.requests.append(ReceivedRequest(at, request.path, None, key_in))
        await self._faults.unmuted.wait()
        canned = self._faults.upgrade_response()
        if canned is not None:
            return canned_response(request, canned)
        key_error = self._key_error(key)
        if key_error is not None and self._variants.bad_key != "message":
            status = int(self._variants.bad_key)
            return json_response({"msg": key_error}, status=status)
        if key_error is None and not self._make_room():
            status = self._variants.second_connection_status
            return json_response({"msg": "Too many connections."}, status=status)
        return await self._serve(request, key_error)

    async def _serve(
        self, request: web.Request, key_error: str | None
    ) -> web.StreamResponse:
        self._opened += 1
        compress = self._variants.compression
        link = SimulatedConnection(self._opened, request, compress=compress)
        if key_error is not None:
            link.send(encode({"msg": key_error}))
            link.close_soon(1008)
            await link.run(_ignore)
            return link.ws
        self._handler.links.append(link)
        try:
            await link.run(self._on_frame)
        finally:
            self._handler.on_disconnect(link)
        return link.ws

    def _on_frame(self, link: SimulatedConnection, raw: bytes) -> None:
        self._handler.on_frame(link, raw, asyncio.get_running_loop().time())

    def _make_room(self) -> bool:
        """Return whether one more link is within the plan, or the variant allows it."""
        links = [link for link in self._handler.links if link.open]
        excess = len(links) + 1 - self._plan.connections
        if excess <= 0:
            return True
        self._log.violations.append(
            f"{len(links) + 1} connections, the plan has {self._plan.connections}"
        )
        if self._variants.second_connection == "close_oldest":
            for link in links[:excess]:
                link.close_soon(_REPLACED, "replaced by a new connection")
        return self._variants.second_connection != "refuse"


def _ignore(link: SimulatedConnection, raw: bytes) -> None:
    """Discard the frames of a link whose key was rejected."""
