"""Wire frames, against every sample and every known variation."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qos_async._core.events import Unreadable
from qos_async._core.queries import Queries, Query
from qos_async._core.wire import (
    HEARTBEAT,
    OPERATIONS,
    FrameDecoder,
    Reply,
    Unknown,
    change_frame,
    request_frame,
)
from qos_async._printable import printable
from qos_async.enums import Channel, Interval, Session, Side, TradingStatus
from qos_async.errors import DecodeError
from qos_async.models import CHANNELS, Depth, Kline, Snapshot, Trade
from qos_async.topics import Topic
from tests.support.wire_frames import (
    PUSHES,
    SAMPLES,
    ack,
    encoded,
    new_protocol,
    sample,
    trades,
)

NUMBERS: list[type[Any]] = [Decimal, float, str]
KINDS: dict[str, type[Any]] = {"S": Snapshot, "T": Trade, "D": Depth, "K": Kline}
PRICES = {
    "S": ["lp", "yp", "o", "h", "l", "v", "t"],
    "T": ["p", "v"],
    "K": ["o", "h", "l", "cl", "v"],
}
REQUIRED = {
    "S": ["c"],
    "T": ["c", "p"],
    "D": ["c"],
    "K": ["c", "o", "h", "l", "cl", "kt"],
}


def read(message: Any, numbers: type[Any] = Decimal) -> Any:
    data = message if isinstance(message, bytes) else encoded(message)
    return FrameDecoder(numbers).read(data)


def field_of(kind: str, letter: str) -> str:
    renamed = {f.encode_name: f.name for f in _fields(KINDS[kind])}
    return str(renamed[letter])


def _fields(kind: type[Any]) -> Any:
    return msgspec.structs.fields(kind)


# The document's samples


def test_all_samples_of_the_document_are_present():
    names = {path.name for path in SAMPLES.glob("*.json")}
    assert len(names) == 50


@pytest.mark.fault("P19")
@pytest.mark.parametrize("numbers", NUMBERS)
@pytest.mark.parametrize(
    "path", sorted(SAMPLES.glob("ws-*.json")), ids=lambda path: path.stem
)
def test_every_websocket_sample_decodes_to_its_kind(path: Path, numbers: type[Any]):
    message = read(path.read_bytes(), numbers)
    plain = sample(path.stem)
    if path.stem.endswith(".push"):
        assert type(message) is KINDS[plain["tp"]]
        assert message.symbol == plain["c"]
        assert message.timestamp == plain["ts"]
        assert message.topic.symbol == plain["c"]
    else:
        assert isinstance(message, Reply)
        assert message.type in OPERATIONS
        assert message.ok == (not path.stem.endswith(("subscribe", "request")))
        assert message.reqid == plain.get("reqid")


@pytest.mark.parametrize(
    "path", sorted(SAMPLES.glob("http-*.response.json")), ids=lambda path: path.stem
)
def test_every_http_sample_is_ok_with_data(path: Path):
    reply = read(path.read_bytes())
    assert isinstance(reply, Reply)
    assert reply.ok
    assert json.loads(bytes(reply.data)) == json.loads(path.read_text())["data"]


@pytest.mark.parametrize("numbers", NUMBERS)
def test_a_push_keeps_each_digit_of_the_sample(numbers: type[Any]):
    kline = read(sample("ws-kline.push"), numbers)
    assert kline.open == numbers("81085.50")
    assert kline.volume == numbers("103162.630")
    assert kline.interval is Interval.DAY
    if numbers is not float:
        assert str(kline.open) == "81085.50"
        assert str(kline.volume) == "103162.630"


def test_a_command_decodes_as_a_reply_that_is_not_ok():
    assert not read(sample("ws-trade.subscribe")).ok


# Outbound frames


@pytest.mark.parametrize("channel", Channel)
@pytest.mark.parametrize("add", [True, False])
def test_change_frames_equal_the_documents_samples(channel: Channel, add: bool):  # noqa: FBT001
    verb = "subscribe" if add else "unsubscribe"
    expected = sample(f"ws-{channel}.{verb}")
    symbols = [
        f"{entry.partition(':')[0]}:{code}"
        for entry in expected["codes"]
        for code in entry.partition(":")[2].split(",")
    ]
    interval = Interval(expected["kt"]) if "kt" in expected else None
    frame = change_frame(channel, symbols, add=add, reqid=1, interval=interval)
    assert json.loads(frame) == expected


STREAMED = ["RS", "RD", "RT", "RK", "RH", "RI"]


@pytest.mark.parametrize("operation", STREAMED)
def test_request_frames_equal_the_documents_samples(operation: str):
    (path,) = SAMPLES.glob(f"ws-{operation}-*.request.json")
    expected = json.loads(path.read_text())
    body = {k: v for k, v in expected.items() if k not in {"type", "reqid"}}
    query: Query[Any] = Query("/", operation, body, (), lambda data, unread: data)
    frame = request_frame(query.operation, query.body, reqid=expected["reqid"])
    assert json.loads(frame) == expected


def test_the_heartbeat_equals_the_documents_sample():
    assert json.loads(HEARTBEAT) == sample("ws-heartbeat.request")


# Prices as numbers or text


@pytest.mark.parametrize("numbers", NUMBERS)
@pytest.mark.parametrize(
    ("kind", "letter"),
    [(k, letter) for k, letters in PRICES.items() for letter in letters],
)
@pytest.mark.parametrize(
    "written", ["246.390", "100", "0", "-1.5", "1e3", "0.00000001"]
)
def test_a_price_is_the_same_as_a_number_and_as_text(
    kind: str, letter: str, written: str, numbers: type[Any]
):
    as_text = encoded(PUSHES[kind] | {letter: written})
    as_number = as_text.replace(
        f'"{letter}": "{written}"'.encode(), f'"{letter}": {written}'.encode()
    )
    assert as_text != as_number
    for data in (as_text, as_number):
        value = getattr(read(data, numbers), field_of(kind, letter))
        assert type(value) is numbers
        assert value == numbers(written)
        if numbers is not float:
            assert Decimal(value).as_tuple() == Decimal(written).as_tuple()


@pytest.mark.parametrize("numbers", NUMBERS)
def test_a_level_is_the_same_as_a_number_and_as_text(numbers: type[Any]):
    data = b'{"tp":"D","c":"US:A","b":[{"p":246.390,"v":"1"},{"p":"246.38","v":2}]}'
    depth = read(data, numbers)
    assert next(str(level.price) for level in depth.bids) == str(numbers("246.390"))
    assert [float(level.size) for level in depth.bids] == [1.0, 2.0]
    assert {type(n) for lv in depth.bids for n in (lv.price, lv.size)} == {numbers}


def test_a_number_keeps_its_digits_where_a_float_could_not():
    data = b'{"tp":"T","c":"US:A","p":147479220.1710000038123456789,"v":10}'
    assert str(read(data).price) == "147479220.1710000038123456789"
    assert read(data, str).price == "147479220.1710000038123456789"


@pytest.mark.parametrize("numbers", NUMBERS)
def test_numbers_in_us_session_blocks_may_be_text_too(numbers: type[Any]):
    quote = {"lp": 1.50, "h": "2", "l": None, "ts": None, "new": {"a": []}}
    found = read(PUSHES["S"] | {"pq": quote, "aq": {}, "nq": None}, numbers)
    assert found.pre_market.last_price == numbers("1.5")
    assert found.pre_market.high == numbers("2")
    assert found.pre_market.low is None
    assert found.pre_market.timestamp == 0
    assert found.post_market.last_price is None
    assert found.overnight is None


@pytest.mark.parametrize("numbers", NUMBERS)
@pytest.mark.parametrize("kind", PUSHES)
def test_a_timestamp_may_be_text(kind: str, numbers: type[Any]):
    assert read(PUSHES[kind] | {"ts": "1741960243"}, numbers).timestamp == 1741960243


# Missing, null, unknown and reordered fields


@pytest.mark.fault("P19")
@pytest.mark.parametrize("numbers", NUMBERS)
@pytest.mark.parametrize(
    ("kind", "letter"),
    [
        (kind, letter)
        for kind, push in PUSHES.items()
        for letter in push
        if letter not in {"tp", *REQUIRED[kind]}
    ],
)
def test_a_missing_or_null_field_decodes_to_its_default(
    kind: str, letter: str, numbers: type[Any]
):
    push = PUSHES[kind]
    absent = read({k: v for k, v in push.items() if k != letter}, numbers)
    null = read(push | {letter: None}, numbers)
    assert absent == null
    default = {"ts": 0, "s": TradingStatus.UNKNOWN, "d": Side.UNKNOWN, "b": (), "a": ()}
    assert getattr(absent, field_of(kind, letter)) == default.get(letter)
    whole = read(push, numbers)
    for other in push.keys() - {"tp", letter}:
        name = field_of(kind, other)
        assert getattr(absent, name) == getattr(whole, name)


@pytest.mark.fault("P19")
@pytest.mark.parametrize(
    ("kind", "letter"),
    [(kind, letter) for kind, letters in REQUIRED.items() for letter in letters],
)
@pytest.mark.parametrize("how", ["missing", "null"])
def test_a_push_without_a_symbol_raises(kind: str, letter: str, how: str):
    push = dict(PUSHES[kind])
    if how == "null":
        push[letter] = None
    else:
        del push[letter]
    with pytest.raises(DecodeError):
        read(push)


@pytest.mark.fault("P19")
@pytest.mark.parametrize("numbers", NUMBERS)
@pytest.mark.parametrize("kind", PUSHES)
def test_unknown_fields_are_skipped(kind: str, numbers: type[Any]):
    news: Any = {
        "new": [{"deep": [1.5, None, "x"]}],
        "type": kind,
        "reqid": 3,
        "msg": 1,
    }
    assert read(news | PUSHES[kind], numbers) == read(PUSHES[kind], numbers)


@pytest.mark.parametrize("kind", PUSHES)
@given(data=st.data())
def test_the_order_of_keys_does_not_matter(kind: str, data: st.DataObject):
    keys = data.draw(st.permutations(list(PUSHES[kind])))
    assert read({key: PUSHES[kind][key] for key in keys}) == read(PUSHES[kind])


@pytest.mark.parametrize("kind", PUSHES)
def test_whitespace_does_not_matter(kind: str):
    data = b" \r\n\t" + json.dumps(PUSHES[kind], indent=4).encode() + b"\n "
    assert read(data) == read(PUSHES[kind])


ENUMS = [
    ("S", "s", "status", TradingStatus.UNKNOWN),
    ("S", "tt", "session", Session.UNKNOWN),
    ("T", "d", "side", Side.UNKNOWN),
    ("K", "kt", "interval", Interval.UNKNOWN),
]


@pytest.mark.fault("P19")
@pytest.mark.parametrize(("kind", "letter", "name", "unknown"), ENUMS)
@pytest.mark.parametrize("value", [7, -7, 99999, "7"], ids=repr)
def test_an_unknown_enumeration_value_decodes_to_unknown(
    kind: str, letter: str, name: str, unknown: Any, value: Any
):
    for numbers in NUMBERS:
        assert getattr(read(PUSHES[kind] | {letter: value}, numbers), name) is unknown


@pytest.mark.parametrize(("kind", "letter", "name", "unknown"), ENUMS[:3])
@pytest.mark.parametrize(
    "value", ["junk", "", "1.0", 1.5, True, [], {}, [1], "-", "--1"], ids=repr
)
def test_junk_in_an_enumeration_does_not_lose_the_push(
    kind: str, letter: str, name: str, unknown: Any, value: Any
):
    for numbers in NUMBERS:
        tick = read(PUSHES[kind] | {letter: value}, numbers)
        assert getattr(tick, name) in {unknown, None}


@pytest.mark.parametrize(("kind", "letter", "name", "unknown"), ENUMS[:3])
@pytest.mark.parametrize("value", ["007", "٣", "9" * 30])
def test_junk_made_of_digits_does_not_lose_the_push(
    kind: str, letter: str, name: str, unknown: Any, value: str
):
    tick = read(PUSHES[kind] | {letter: value})
    assert getattr(tick, name) in {unknown, None}


def test_an_enormous_number_in_an_enumeration_loses_no_push_in_any_number_type():
    for numbers in NUMBERS:
        tick = read(PUSHES["S"] | {"s": 10**30}, numbers)
        assert tick.status is TradingStatus.UNKNOWN


@pytest.mark.parametrize(("value", "status"), [("0", 0), ("1", 1), (1, 1)], ids=repr)
def test_the_status_may_be_text(value: Any, status: int):
    assert read(PUSHES["S"] | {"s": value}).status == status


# Pushes and replies


@pytest.mark.fault("P20")
@pytest.mark.parametrize("kind", PUSHES)
def test_tp_decides_over_type(kind: str):
    for push in (
        {"type": "S"} | PUSHES[kind],
        PUSHES[kind] | {"type": "H", "msg": "OK"},
    ):
        assert type(read(push)) is KINDS[kind]


@pytest.mark.fault("P20")
@pytest.mark.parametrize("extra", [{}, {"tp": None}])
def test_a_frame_without_tp_is_a_reply(extra: Any):
    reply = read({"type": "S", "msg": "OK", "reqid": 5} | extra)
    assert (reply.type, reply.ok, reply.reqid) == ("S", True, 5)


@pytest.mark.fault("P19")
@pytest.mark.parametrize("tp", ["X", "KK", "H"])
def test_a_push_of_an_unknown_kind_decodes_to_unknown(tp: str):
    assert read(PUSHES["S"] | {"tp": tp}) == Unknown(tp)


@pytest.mark.fault("P12", "P20")
@pytest.mark.parametrize("kind", PUSHES)
@pytest.mark.parametrize("garbled", ["lost", "renamed", "type", None, "", " ", "case"])
def test_a_push_with_a_garbled_tp_raises(kind: str, garbled: str | None):
    rest = {name: value for name, value in PUSHES[kind].items() if name != "tp"}
    changed: dict[str | None, dict[str, Any]] = {
        "lost": {},
        "renamed": {"tq": kind},
        "type": {"type": kind},
        "case": {"tp": kind.lower()},
    }
    with pytest.raises(DecodeError):
        read(rest | changed.get(garbled, {"tp": garbled}))


@pytest.mark.fault("P12")
@pytest.mark.parametrize("plain", [{}, {"hello": 1}, {"type": 5}, {"time": 1}])
def test_an_object_that_is_neither_push_nor_reply_raises(plain: dict[str, Any]):
    with pytest.raises(DecodeError, match="neither a push nor a reply"):
        read(plain)


@pytest.mark.fault("P20")
@pytest.mark.parametrize(
    "some", [{"type": "S"}, {"msg": "OK"}, {"msg": 5}, {"reqid": 3}]
)
def test_a_reply_may_have_few_fields(some: dict[str, Any]):
    assert isinstance(read(some), Reply)


@pytest.mark.fault("P12", "P18")
@pytest.mark.parametrize("numbers", NUMBERS)
@pytest.mark.parametrize("kind", PUSHES)
@pytest.mark.parametrize(
    "ts", [-(10**10), -(10**18), 10**11, 1700000000000, 10**18, 2**63, 10**30], ids=repr
)
def test_an_absurd_timestamp_raises(ts: Any, kind: str, numbers: type[Any]):
    with pytest.raises(DecodeError):
        read(PUSHES[kind] | {"ts": ts}, numbers)
    with pytest.raises(DecodeError):
        read(PUSHES["S"] | {"pq": {"ts": ts}}, numbers)


@pytest.mark.fault("P18")
@pytest.mark.parametrize("ts", [-(10**10) + 1, -1, 0, 10**11 - 1])
@pytest.mark.parametrize("interval", Interval)
def test_any_decoded_timestamp_has_a_time(ts: int, interval: Interval):
    bar = read(PUSHES["K"] | {"ts": ts, "kt": int(interval)})
    assert bar.time.timestamp() == ts
    assert bar.end >= bar.time


@pytest.mark.parametrize("tp", [1, [], {}, True])
def test_a_tp_that_is_not_text_raises(tp: Any):
    with pytest.raises(DecodeError):
        read(PUSHES["S"] | {"tp": tp})


# Replies


@pytest.mark.parametrize("msg", ["ok", "OK ", "", "Ok", "OK!", "Key expired."])
def test_only_ok_is_a_success(msg: str):
    assert not read({"type": "S", "msg": msg}).ok


@pytest.mark.parametrize("field", ["type", "msg", "reqid", "time"])
def test_any_field_of_a_reply_may_be_missing_or_null(field: str):
    whole = {"type": "S", "msg": "OK", "reqid": 1, "time": 2}
    absent = read({k: v for k, v in whole.items() if k != field})
    null = read(whole | {field: None})
    for name in ("type", "msg", "reqid"):
        assert getattr(absent, name) == getattr(null, name)
        assert name == field or getattr(absent, name) == whole[name]


def test_a_reply_without_data_has_none():
    for extra in ({}, {"data": None}):
        assert bytes(read({"type": "RS", "msg": "OK"} | extra).data) == b"null"


@pytest.mark.parametrize("field", ["type", "msg", "time"])
@pytest.mark.parametrize("junk", [None, 5, 1.5, {}, [], True], ids=repr)
def test_a_reply_with_junk_in_it_keeps_the_rest(field: str, junk: Any):
    whole = {"type": "RS", "msg": "no", "reqid": 1, "data": [{"lp": 1.50}]}
    reply = read(whole | {field: junk})
    assert json.loads(bytes(reply.data)) == [{"lp": 1.5}]
    assert reply.reqid == 1
    assert not reply.ok


@pytest.mark.parametrize("time", [1741960243.5, "now", {}, "1741960243.123"], ids=repr)
def test_a_malformed_time_does_not_lose_the_reply(time: Any):
    assert read({"type": "S", "msg": "OK", "reqid": 1, "time": time}).ok


@pytest.mark.fault("P5")
@pytest.mark.parametrize("reqid", ["junk", "1.5", True, {}, [], ""], ids=repr)
def test_a_junk_reqid_matches_no_request(reqid: Any):
    protocol = new_protocol()
    protocol.registry.want(trades("US:AAPL"))
    frame = protocol.poll(0.0)
    protocol.receive(ack(frame, reqid=reqid), 1.0)
    assert protocol.registry.held == frozenset()


@pytest.mark.parametrize("reqid", ["1", 1.0], ids=repr)
def test_a_reqid_may_be_text(reqid: Any):
    assert read({"type": "S", "msg": "OK", "reqid": reqid}).reqid == 1


@pytest.mark.fault("P5")
def test_a_reqid_of_zero_counts_as_absent():
    # The zero value of a Go server; else the reply to a heartbeat would match nothing.
    assert read({"type": "H", "msg": "OK", "reqid": 0}).reqid is None


@pytest.mark.parametrize("reqid", [-1, 2**62, 10**25])
def test_any_number_may_be_a_reqid(reqid: int):
    assert read({"type": "S", "msg": "OK", "reqid": reqid}).reqid == reqid


def test_the_data_of_a_reply_is_decoded_by_its_query():
    reply = read(sample("ws-RK-kline.response"))
    (query,) = Queries(Decimal, chunk=10).klines(
        ["CF:BTCUSDT", "CF:ETHUSDT"], interval="1d", count=2
    )
    bars = query.read(bytes(reply.data))
    assert [str(bar.close) for bar in bars["CF:ETHUSDT"]] == ["1910.79", "1928.35"]


# Garbage

DEEP = b"[" * 100_000
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
mutations = st.builds(
    lambda kind, letter, value: encoded(PUSHES[kind] | {letter: value}),
    st.sampled_from(sorted(PUSHES)),
    st.sampled_from(
        [
            "tp",
            "c",
            "lp",
            "p",
            "v",
            "b",
            "a",
            "ts",
            "s",
            "tt",
            "d",
            "kt",
            "o",
            "cl",
            "pq",
            "type",
            "msg",
            "reqid",
        ]
    ),
    plain,
)
replies = st.builds(
    lambda letter, value: encoded(
        {"type": "T", "msg": "OK", "reqid": 1, letter: value}
    ),
    st.sampled_from(["type", "msg", "reqid", "time", "data", "tp"]),
    plain,
)


@st.composite
def torn(draw: st.DrawFn) -> bytes:
    whole = encoded(PUSHES[draw(st.sampled_from(sorted(PUSHES)))])
    cut = draw(st.integers(0, len(whole)))
    return (
        whole[:cut]
        + draw(st.binary(max_size=4))
        + whole[cut + draw(st.integers(0, 3)) :]
    )


@pytest.mark.fault("P12", "P13", "P17", "P18")
@given(st.one_of(st.binary(), torn(), mutations, replies, plain.map(encoded)))
@example(b"")
@example(b"null")
@example(b"[]")
@example(b"{}")
@example(b"7")
@example(b"\xef\xbb\xbf{}")
@example('{"tp":"S"}'.encode("utf-16"))
@example(DEEP)
@example(b'{"tp":' + DEEP)
@example(b'{"tp":"T","c":"US:A","p":1,"new":' + DEEP)
@example(b'{"type":"S","data":' + DEEP)
@example(b'{"tp":"T","c":"US:A","p":' + b"9" * 5000 + b"}")
@example(b'{"tp":"T","c":"US:A","p":1e99999999999999999999}')
@example(b'{"tp":"T","c":"US:A","p":"1e99999999999999999999"}')
@example(b'{"tp":"T","c":"US:A","p":1,"ts":' + b"9" * 5000 + b"}")
@example(b'{"tp":"T","c":"US:A","p":1,"ts":1e400}')
@example(b'{"tp":"T","c":"\xff","p":1}')
@example(b'{"type":"S","msg":"OK","reqid":1e400}')
@example(b'{"type":1e400,"msg":"OK","reqid":1}')
@example(b'{"type":"S","msg":' + b"9" * 5000 + b"}")
@example(b'{"type":"S","msg":' + DEEP)
@example(b'{"type":"S","reqid":"' + b"9" * 5000 + b'"}')
@example(b'{"tp":"T","c":"\\ud800","p":1}')
def test_any_bytes_decode_to_a_message_or_count_as_unreadable(data: bytes):
    for numbers in NUMBERS:
        protocol = new_protocol()
        protocol.registry.want(trades("US:AAPL"))
        protocol.poll(0.0)
        protocol.decoder = FrameDecoder(numbers)
        event = protocol.receive(data, 1.0)
        stats = protocol.stats
        skipped = stats.unreadable + stats.unknown + stats.unmatched
        if isinstance(event, Unreadable):
            assert stats.unreadable == 1
            assert len(event.reason) < 1000
            assert printable(event.reason) == event.reason
        else:
            assert event is not None or skipped == 1
            assert type(event) not in CHANNELS or skipped == 0


@given(st.one_of(st.binary(), torn(), mutations))
def test_read_raises_only_decode_errors(data: bytes):
    for numbers in NUMBERS:
        try:
            FrameDecoder(numbers).read(data)
        except DecodeError as exc:
            assert exc.__context__ is None  # noqa: PT017 - either outcome is right


def test_an_undecodable_frame_is_shown_short_and_escaped():
    with pytest.raises(DecodeError) as caught:
        read(b"\x1b[31m" + b"x" * 10_000)
    text = str(caught.value)
    assert "\x1b" not in text
    assert len(text) < 400


@pytest.mark.parametrize("kind", PUSHES)
def test_a_push_names_its_topic(kind: str):
    interval = "1d" if kind == "K" else None
    assert read(PUSHES[kind]).topic == Topic(CHANNELS[KINDS[kind]], "US:AAPL", interval)


def test_a_successful_reply_to_a_frame_is_ok():
    assert read(ack(HEARTBEAT)).ok
