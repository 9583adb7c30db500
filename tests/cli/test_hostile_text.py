"""Text of the server that a terminal would obey: no command prints it as it is."""

from __future__ import annotations

import csv
import io
import json
import sys
import unicodedata
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from qos_async import (
    Client,
    Depth,
    Instrument,
    Interval,
    Kline,
    LinkState,
    PriceLevel,
    Product,
    RejectedError,
    Snapshot,
    StateChange,
    Trade,
    TradingDay,
)
from qos_async._printable import printable
from qos_async.charts import html, picture
from qos_async.charts.model import ChartModel, Look
from qos_async.cli.charts.terminal import print_chart
from qos_async.cli.doctor.report import Check, Report
from qos_async.cli.formatting import move_line, tick_line
from qos_async.cli.options import CommandError
from qos_async.cli.serialize import csv_lines, fields, header, json_line, table_rows
from qos_async.cli.streams import print_message
from qos_async.cli.tables import instruments, products, render
from qos_async.cli.watch.model import EventLog
from qos_async.cli.watch.text import justify, pad_or_cut, plain_text
from tests.support.cli_process import Ran
from tests.support.full_records import FULL

# Each character that is not printed: C0, DEL, C1, bidi controls, separators, tags.
OBEYED = "".join(
    char
    for char in map(chr, range(sys.maxunicode + 1))
    if unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp")
)
NASTY = f"[bold]A\x1b]0;title\x07\x1b[2J\r\nB,\"'{OBEYED}\u3000Z"
FETCHED: dict[str, tuple[str, type[Any]]] = {
    "snapshot": ("fetch_snapshots", Snapshot),
    "depth": ("fetch_depth", Depth),
    "trades": ("fetch_trades", Trade),
    "klines": ("fetch_klines", Kline),
    "instruments": ("fetch_instruments", Instrument),
    "products": ("fetch_products", Product),
    "calendar": ("fetch_calendar", TradingDay),
}
SINGLE = (Snapshot, Depth, Instrument)


def is_safe(text: str) -> bool:
    """Whether a terminal only prints this, and starts new lines at line feeds."""
    found = {char for char in text if char != "\n"}
    return not any(
        unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in found
    )


def with_text(record: Any, text: str, *, numbers: bool) -> Any:
    """Return a record with this text in each field of text, and in numbers as text."""
    changed: dict[str, Any] = {}
    for name in record.__struct_fields__:
        value = getattr(record, name)
        if isinstance(value, str) or (numbers and isinstance(value, Decimal)):
            changed[name] = text
        elif isinstance(value, msgspec.Struct):
            changed[name] = with_text(value, text, numbers=numbers)
        elif isinstance(value, tuple):
            changed[name] = tuple(
                with_text(item, text, numbers=numbers) for item in value
            )
    return msgspec.structs.replace(record, **changed)


@pytest.fixture
def serve(live, monkeypatch) -> Callable[..., None]:
    """Make a method of the client return records with such text."""

    def patch(method: str, record: Any) -> None:
        kind = type(record)

        async def fetch(self: Any, *names: Any, **more: Any) -> dict[str, Any]:
            name = names[0] if isinstance(names[0], str) else names[0][0]
            return {name: record if kind in SINGLE else [record]}

        monkeypatch.setattr(Client, method, fetch)

    return patch


@pytest.mark.fault("F7")
@pytest.mark.parametrize("shape", [(), ("--json",), ("--csv",)], ids=str)
@pytest.mark.parametrize("name", FETCHED)
def test_no_command_prints_what_a_terminal_would_obey(
    name: str, shape: tuple[str, ...], serve: Any, qos: Callable[..., Ran]
):
    method, kind = FETCHED[name]
    record = with_text(FULL[kind], NASTY, numbers=bool(shape))
    serve(method, record)
    ran = qos(name, "US" if kind in (Product, TradingDay) else "US:AAPL", *shape)
    assert ran.code == 0
    assert is_safe(ran.out)
    assert is_safe(ran.err)
    rows = 1 + (shape == ("--csv",)) + (not shape)
    if kind not in (Depth, Trade, Kline, Product, TradingDay):
        assert len(ran.out.splitlines()) <= rows
    if shape == ("--json",) and kind is not TradingDay:
        assert NASTY in json.dumps(json.loads(ran.out), ensure_ascii=False) or (
            NASTY in json.loads(ran.out).values()
        )


def test_a_usage_error_is_printable(qos: Callable[..., Ran]):
    """Names of ``qos products`` may become arguments of another command."""
    for words in (["--no" + NASTY], ["--symbols-limit", NASTY], [NASTY]):
        ran = qos("snapshot", "US:AAPL", *words)
        assert ran.code == 2
        assert is_safe(ran.err)


@pytest.mark.parametrize("kind", FULL)
def test_rows_for_programs_hold_the_whole_text(kind: type[Any]):
    """JSON is the same data; a cell of CSV is one line in which the text is legible."""
    record = with_text(FULL[kind], NASTY, numbers=True)
    line = json_line(fields(record, live=True))
    assert is_safe(line)
    assert line.count("\n") == 1
    assert json.loads(line) == json.loads(
        msgspec.json.encode(fields(record, live=True))
    )
    text = csv_lines(header(kind, live=True), table_rows(record, live=True))
    assert is_safe(text)
    for row in csv.reader(io.StringIO(text)):
        assert len(row) == len(header(kind, live=True))


@pytest.mark.parametrize("kind", [Snapshot, Trade, Depth, Kline])
def test_lines_of_ticks_are_printable(kind: type[Any]):
    assert is_safe(tick_line(with_text(FULL[kind], NASTY, numbers=False)))


def test_links_messages_and_errors_are_printable(capsys: pytest.CaptureFixture[str]):
    change = StateChange(LinkState.BACKOFF, reason=NASTY, retry_in=1.0)
    print_message(move_line(change))
    print_message(NASTY)
    CommandError(NASTY).report()
    err = capsys.readouterr().err
    assert is_safe(err)
    assert len(err.splitlines()) == 3


def test_an_error_of_the_server_is_printable(live, qos, monkeypatch):
    async def fetch(*words: Any, **more: Any) -> None:
        raise RejectedError(NASTY, operation="/snapshot", symbols=(NASTY,))

    monkeypatch.setattr(Client, "fetch_snapshots", fetch)
    ran = qos("snapshot", "US:AAPL")
    assert ran.code == 1
    assert is_safe(ran.err)
    assert len(ran.err.splitlines()) == 1


@pytest.mark.parametrize("is_json", [False, True])
def test_the_report_of_doctor_is_printable(is_json, capsys):
    """The issuer of a certificate is text of a stranger, too."""
    report = Report(json=is_json)
    report.add(Check("tls", "ok", f"certificate by {NASTY}", NASTY))
    assert is_safe(capsys.readouterr().out)


def test_cells_of_tables_are_printable_and_aligned():
    one = with_text(FULL[Instrument], NASTY, numbers=False)
    other = FULL[Instrument]
    [table] = instruments({"a": one, "b": other})
    lines = ["".join(cell.text for cell in line) for line in render(table)]
    assert all(map(is_safe, lines))
    assert "[bold]" in lines[1]
    row = Product(symbol=NASTY, name="\x1b[31mred")
    [table] = products({NASTY: [row]})
    assert all(is_safe(cell.text) for line in render(table) for cell in line)


def test_lines_of_the_screen_are_printable():
    line = [(f" {NASTY}", "warn")]
    for drawn in (pad_or_cut(line, 300), justify(line, [("right", "")], 300)):
        assert plain_text(drawn).isprintable()
        assert "[bold]A\\x1b" in plain_text(drawn)
    exact = plain_text(pad_or_cut([("\x1b\x1b", "")], 5))
    assert exact == "\\x1b…"


def test_events_of_the_screen_are_printable():
    log = EventLog()
    log.add(NASTY, 0.0)
    assert log.newest == f"00:00:00 {printable(NASTY)}"
    assert is_safe(log.newest)


def chart() -> ChartModel:
    kline = Kline(
        symbol=f"US:{NASTY}</script><script>alert(1)</script>$x$",
        interval=Interval.DAY,
        open=Decimal(1),
        high=Decimal(2),
        low=Decimal(1),
        close=Decimal(2),
    )
    source = f"http://{NASTY}<img src=x onerror=alert(1)>"
    return ChartModel([kline], Look(source=source))


def test_texts_of_charts_are_printable(capsys):
    print_chart(chart())
    assert is_safe(capsys.readouterr().out)


def test_a_page_runs_no_text_of_the_server():
    page = html.page(chart(), theme="auto", cdn=True)
    assert "<script>alert" not in page
    assert "<img" not in page
    assert is_safe(page.replace("\t", ""))


@pytest.mark.filterwarnings("ignore:no font")  # The fonts of versions differ.
def test_a_picture_of_any_text_is_drawn():
    """Matplotlib reads ``$`` as the start of a formula."""
    model = chart()
    model.symbol = "US:$\\frac{$"
    file = io.BytesIO()
    picture.png(model, file, theme="light")
    assert file.getvalue().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
        ("+1+cmd", "'+1+cmd"),
        ("-2+3", "'-2+3"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\uff1d1+1", "'\uff1d1+1"),
        ("-37.63", "-37.63"),
        ("+1.5", "+1.5"),
        ("-1e-7", "-1e-7"),
        ("-", "-"),
        ("AT&T -x=1", "AT&T -x=1"),
    ],
)
def test_a_spreadsheet_evaluates_no_cell_of_csv(text: str, cell: str):
    """Numbers stay numbers."""
    [[shown]] = csv.reader(io.StringIO(csv_lines(["name"], [{"name": text}])))
    assert shown == cell


def test_numbers_are_written_as_they_are():
    rows = [{"a": Decimal("-1.50"), "b": -3, "c": None, "d": True, "e": PriceLevel}]
    assert csv_lines("abcd", rows) == "-1.50,-3,,true\n"
