"""The stream's side of the counter: commands in, answers and pushes out."""

from __future__ import annotations

from collections.abc import Callable

from qos_async.config import Limits
from qos_async.sim.instruments import Row
from qos_async.sim.link import ServerConnection
from qos_async.sim.log import ReceivedFrame, ServerLog, WireTopic
from qos_async.sim.plan import UsageMeter
from qos_async.sim.questions import Rejection, RequestHandler
from qos_async.sim.reading import as_row, encode, parse_json
from qos_async.sim.source import PushSource
from qos_async.sim.variants import Variants

__all__ = ["WebSocketHandler"]

_CHANNELS = frozenset("STDK")
_REQUESTS = frozenset({"RI", "RS", "RD", "RT", "RK", "RH"})


class WebSocketHandler:
    """Serves every link of one simulator.

    Args:
        feed: What there is to push.
        asker: Answers questions.
        plan: What is allowed.
        variants: How the unknown is played.
        log: Where everything is noted.
        now: The market's clock, in epoch seconds.
        refusal: Gives the words in which a command of some type is refused for no
            reason of its own (a fault, an expired key), or None.
        deliver: Takes an answer on its way, which faults may delay or lose.
    """

    def __init__(
        self,
        feed: PushSource,
        asker: RequestHandler,
        plan: Limits,
        variants: Variants,
        log: ServerLog,
        *,
        now: Callable[[], float],
        refusal: Callable[[str], str | None],
        deliver: Callable[[ServerConnection, str, bytes], None],
    ) -> None:
        self.links: list[ServerConnection] = []
        self.meter = UsageMeter(plan)
        self._pushes = feed
        self._requests = asker
        self._plan = plan
        self._variants = variants
        self._log = log
        self._now = now
        self._refusal = refusal
        self._deliver = deliver
        self._subscriber_cache: (
            dict[str, dict[WireTopic, list[ServerConnection]]] | None
        ) = None

    def push_pending(self) -> float:
        """Push what was traded since the last beat; give the market's time."""
        now = self._now()
        for symbol, watchers in self._subscribers(now).items():
            for watch, row in self._pushes.updates(symbol, watchers, now):
                self._push(watch, row, watchers[watch])
        return now

    def on_disconnect(self, link: ServerConnection) -> None:
        """Forget a link that is gone."""
        self.links.remove(link)
        self._subscriber_cache = None

    def on_frame(self, link: ServerConnection, raw: bytes, at: float) -> None:
        """Take one frame that arrived ``at`` seconds of the loop's clock."""
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
        now = (
            self.push_pending()
        )  # So that every push before the answer is older than it.
        fresh, answer = self._handle(link, kind, body, now)
        self._subscribers(now)  # What is traded from here on is news to new watchers.
        self._reply(link, kind, answer)
        if self._variants.push_on_subscribe:
            self._push_current(link, fresh, now)

    def check_heartbeats(self, at: float, limit: float) -> None:
        """Note, and by the variant close, links without a heartbeat for too long."""
        for link in self.links:
            if at - link.heartbeat_at > limit:
                link.heartbeat_at = at
                self._log.violations.append(
                    f"link {link.number}: no heartbeat for {limit:g} s"
                )
                if self._variants.no_heartbeat == "close":
                    link.close_soon(1001, "no heartbeat")

    def _allows_early_frame(
        self, link: ServerConnection, kind: str, body: Row, gap: float
    ) -> bool:
        """Say whether a frame that came too soon is obeyed all the same."""
        self._log.violations.append(
            f"link {link.number}: {kind or 'a frame'} came {gap:.3f} s after the one "
            f"before, the plan asks for {self._plan.command_interval:g} s"
        )
        match self._variants.too_fast:
            case "ignore":
                return True
            case "error":
                no = "Request too frequent: at least 1 second between two."
                self._reply(
                    link, kind, self._rejection_reply(kind, body, no, self._now())
                )
            case "close":
                link.close_soon(self._variants.too_fast_code, "too fast")
            case "drop":
                pass
        return False

    def _check_reqid(self, link: ServerConnection, body: Row) -> None:
        reqid = body.get("reqid")
        if type(reqid) is not int or reqid == 0:
            wrong = "no reqid" if reqid is None else f"reqid {reqid!r}"
        elif reqid in link.reqids:
            wrong = f"reqid {reqid} a second time"
        else:
            link.reqids.add(reqid)
            return
        self._log.violations.append(f"link {link.number}: {wrong} in {body}")

    def _handle(
        self, link: ServerConnection, kind: str, body: Row, now: float
    ) -> tuple[list[WireTopic], Row]:
        """Obey; give the topics that are new, and what to say."""
        echo = {"reqid": body["reqid"]} if "reqid" in body else {}
        yes = {"type": kind, "msg": "OK"}
        try:
            no = self._refusal(kind)
            if no is not None:
                raise Rejection(no)  # noqa: TRY301
            if kind == "H":
                return [], {**yes, "time": int(now)}
            if kind in _REQUESTS:
                rows = self._requests.handle(kind, body, now)
                return [], {**yes, **echo, "data": rows}
            fresh = self._subscribe(link, kind, body)
        except Rejection as exc:
            return [], self._rejection_reply(kind, body, str(exc), now)
        return fresh, {**yes, "time": int(now), **echo}

    def _rejection_reply(self, kind: str, body: Row, message: str, now: float) -> Row:
        answer: Row = {"type": kind, "msg": message, "time": int(now)}
        if "reqid" in body and self._variants.reqid_on_errors:
            answer["reqid"] = body["reqid"]
        return answer

    def _subscribe(
        self, link: ServerConnection, kind: str, body: Row
    ) -> list[WireTopic]:
        letter = kind[:1]
        if letter not in _CHANNELS or kind[1:] not in ("", "C"):
            self._log.violations.append(f"link {link.number}: unknown type {kind!r}")
            raise Rejection(f"Unknown type: {kind}")
        kt = (
            int(self._requests.parse_interval(body.get("kt")))
            if letter == "K"
            else None
        )
        symbols = self._requests.parse_symbols(body.get("codes"))
        watches = [WireTopic(letter, symbol, kt) for symbol in symbols]
        self._subscriber_cache = None
        if kind[1:]:
            for watch in watches:
                link.topics.pop(watch, None)
            return []
        return self._add_topics(link, watches)

    def _add_topics(
        self, link: ServerConnection, watches: list[WireTopic]
    ) -> list[WireTopic]:
        self._requests.check_allowed([watch.symbol for watch in watches])
        again = [watch.symbol for watch in watches if watch in link.topics]
        if again and self._variants.subscribed_twice == "error":
            raise Rejection(f"Already subscribed: {','.join(again)}")
        held = {watch.symbol for watch in link.topics}
        extra = [one.symbol for one in watches if one.symbol not in held]
        held |= set(self._requests.within_limit(extra, len(held) + len(extra)))
        fresh = [
            watch
            for watch in watches
            if watch.symbol in held and watch not in link.topics
        ]
        link.topics.update(dict.fromkeys(fresh))
        return fresh

    def _subscribers(
        self, now: float
    ) -> dict[str, dict[WireTopic, list[ServerConnection]]]:
        if self._subscriber_cache is None:
            self._subscriber_cache = {}
            for link in self.links:
                for watch in link.topics:
                    watchers = self._subscriber_cache.setdefault(watch.symbol, {})
                    watchers.setdefault(watch, []).append(link)
            self._pushes.follow(self._subscriber_cache, now)
        return self._subscriber_cache

    def _push(self, watch: WireTopic, row: Row, links: list[ServerConnection]) -> None:
        if watch.letter == "T":
            row = self._requests.with_number_type([row])[0]
        frame = encode({"tp": watch.letter, **row})
        self._log.pushed[watch.letter] += len(links)
        for link in links:
            link.send(frame)

    def _push_current(
        self, link: ServerConnection, fresh: list[WireTopic], now: float
    ) -> None:
        for watch in fresh:
            if watch.letter != "T":
                for row in self._pushes.current(watch, now):
                    self._push(watch, row, [link])

    def _reply(self, link: ServerConnection, kind: str, answer: Row) -> None:
        self._deliver(link, kind, encode(answer))
