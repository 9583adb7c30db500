"""Questions upstream: merged, single flight, fair."""

import asyncio

import pytest
from msgspec import Raw

from qos_async._core.rows import Unread
from qos_async.errors import DecodeError, RejectedError, TransportError
from qos_async.hub.questions import Ask, Questions, rows_by_symbol

SNAPSHOT, DEPTH = Ask("RS"), Ask("RD")


async def ticks():
    """Let what is ready run."""
    for _ in range(5):
        await asyncio.sleep(0)


class Service:
    """Replies when it is let; records what it was sent."""

    def __init__(self):
        self.sent: list[tuple[str, tuple[str, ...]]] = []
        self.may_reply = asyncio.Event()
        self.errors: dict[str, Exception] = {}

    async def fetch(self, query):
        self.sent.append((query.operation, query.symbols))
        await self.may_reply.wait()
        await ticks()
        for symbol in query.symbols:
            if symbol in self.errors:
                raise self.errors[symbol]
        return {symbol: [Raw(symbol.encode())] for symbol in query.symbols}


@pytest.fixture
async def service():
    return Service()


@pytest.fixture
async def questions(service):
    found = Questions(service, chunk=3)
    running = asyncio.create_task(found.run())
    yield found
    running.cancel()


async def ask(questions, *requests):
    """Ask in that order; return the tasks, once all of them wait."""
    tasks = []
    for client, about, symbols in requests:
        tasks.append(asyncio.create_task(questions.rows(client, about, symbols)))
        await asyncio.sleep(0)
    await ticks()
    return tasks


async def test_what_two_clients_ask_for_is_asked_for_once(service, questions):
    tasks = await ask(questions, ("a", SNAPSHOT, ["US:A"]), ("b", SNAPSHOT, ["US:A"]))
    service.may_reply.set()
    assert [await task for task in tasks] == [{"US:A": [Raw(b"US:A")]}] * 2
    assert service.sent == [("RS", ("US:A",))]


@pytest.mark.fault("H13")
async def test_symbols_of_several_clients_share_a_request(service, questions):
    first, *others = await ask(
        questions,
        ("a", DEPTH, ["US:X"]),
        ("a", SNAPSHOT, ["US:A"]),
        ("b", SNAPSHOT, ["US:B"]),
    )
    service.may_reply.set()
    await asyncio.gather(first, *others)
    assert service.sent == [("RD", ("US:X",)), ("RS", ("US:A", "US:B"))]


@pytest.mark.fault("H13")
async def test_a_client_that_asks_for_much_does_not_delay_one_that_asks_for_little(
    service, questions
):
    tasks = await ask(
        questions,
        ("greedy", SNAPSHOT, [f"US:{n}" for n in range(12)]),
        ("modest", DEPTH, ["US:A"]),
    )
    service.may_reply.set()
    await asyncio.gather(*tasks)
    operations = [operation for operation, _ in service.sent]
    assert operations.index("RD") <= 2
    assert operations.count("RS") == 4


@pytest.mark.fault("H7")
async def test_a_client_that_leaves_takes_no_answer_from_another(service, questions):
    leaver, other = await ask(
        questions, ("a", SNAPSHOT, ["US:A"]), ("b", SNAPSHOT, ["US:A"])
    )
    leaver.cancel()
    service.may_reply.set()
    assert await other == {"US:A": [Raw(b"US:A")]}


@pytest.mark.fault("H12")
async def test_a_rejected_symbol_does_not_spoil_those_it_was_merged_with(
    service, questions
):
    service.errors["US:BAD"] = RejectedError("Unknown code", operation="RS")
    _, good, bad = await ask(
        questions,
        ("x", DEPTH, ["US:X"]),
        ("a", SNAPSHOT, ["US:A", "US:B"]),
        ("b", SNAPSHOT, ["US:BAD"]),
    )
    service.may_reply.set()
    assert set(await good) == {"US:A", "US:B"}
    with pytest.raises(RejectedError, match="Unknown code"):
        await bad


async def test_an_error_of_the_network_ends_the_questions_of_that_request(
    service, questions
):
    service.errors["US:A"] = TransportError("cut")
    [first] = await ask(questions, ("a", SNAPSHOT, ["US:A"]))
    service.may_reply.set()
    with pytest.raises(TransportError, match="cut"):
        await first
    assert await questions.rows("a", SNAPSHOT, ["US:B"])


@pytest.mark.fault("H4")
async def test_once_the_link_has_ended_for_good_no_question_waits(service, questions):
    [waiting] = await ask(questions, ("a", SNAPSHOT, ["US:A"]))
    questions.fail(TransportError("over"))
    with pytest.raises(TransportError, match="over"):
        await waiting
    with pytest.raises(TransportError, match="over"):
        await questions.rows("a", SNAPSHOT, ["US:B"])


async def test_how_many_requests_are_ahead_is_known(service, questions):
    assert questions.ahead("a") == 0
    tasks = await ask(
        questions,
        ("a", SNAPSHOT, ["US:A"]),
        ("a", SNAPSHOT, [f"US:{n}" for n in range(7)]),
        ("b", DEPTH, ["US:A"]),
    )
    assert questions.ahead("a") == 4  # Three of its own, and the book.
    assert questions.ahead("b") == 3  # The book, and two turns of the other.
    assert questions.ahead("c") == 2  # A turn of each.
    service.may_reply.set()
    await asyncio.gather(*tasks)
    assert questions.ahead("a") == 0


@pytest.mark.fault("H31")
async def test_what_only_a_client_that_left_asked_for_is_not_asked(service, questions):
    first, leaver, other = await ask(
        questions,
        ("a", DEPTH, ["US:X"]),
        ("b", SNAPSHOT, ["US:A", "US:B", "US:C", "US:D"]),
        ("c", SNAPSHOT, ["US:B"]),
    )
    leaver.cancel()
    await ticks()
    service.may_reply.set()
    await asyncio.gather(first, other)
    assert service.sent == [("RD", ("US:X",)), ("RS", ("US:B",))]
    assert questions.sent == 2


@pytest.mark.fault("H31")
async def test_a_request_that_every_client_has_left_is_given_up(service, questions):
    one, two, waiting = await ask(
        questions,
        ("a", SNAPSHOT, ["US:A"]),
        ("b", SNAPSHOT, ["US:A"]),
        ("c", DEPTH, ["US:A"]),
    )
    one.cancel()
    await ticks()
    assert service.sent == [("RS", ("US:A",))]
    two.cancel()
    await ticks()
    assert service.sent == [("RS", ("US:A",)), ("RD", ("US:A",))]
    again = asyncio.create_task(questions.rows("a", SNAPSHOT, ["US:A"]))
    await ticks()
    service.may_reply.set()
    assert set(await again) == set(await waiting) == {"US:A"}


@pytest.mark.fault("H31")
async def test_a_client_that_joins_a_request_on_its_way_gets_its_answer(
    service, questions
):
    one, two = await ask(
        questions, ("a", SNAPSHOT, ["US:A", "US:B"]), ("b", SNAPSHOT, ["US:B"])
    )
    one.cancel()
    await ticks()
    again = asyncio.create_task(questions.rows("c", SNAPSHOT, ["US:A"]))
    await ticks()
    service.may_reply.set()
    assert set(await again) == {"US:A"}
    assert set(await two) == {"US:B"}
    assert service.sent == [("RS", ("US:A", "US:B"))]


@pytest.mark.fault("H31")
async def test_the_rest_of_a_request_that_failed_is_not_asked(service, questions):
    service.errors["US:0"] = TransportError("cut")
    [first] = await ask(questions, ("a", SNAPSHOT, [f"US:{n}" for n in range(9)]))
    service.may_reply.set()
    with pytest.raises(TransportError, match="cut"):
        await first
    await ticks()
    assert len(service.sent) <= 2  # The second is given up on its way.
    assert questions.ahead("a") == 0


async def test_what_was_left_is_not_asked_again_after_a_rejection(service, questions):
    service.errors["US:BAD"] = RejectedError("Unknown code", operation="RS")
    gone, bad = await ask(
        questions, ("a", SNAPSHOT, ["US:A", "US:B"]), ("b", SNAPSHOT, ["US:BAD"])
    )
    again = asyncio.create_task(questions.rows("b", SNAPSHOT, ["US:BAD"]))
    await ticks()
    gone.cancel()
    await ticks()
    service.may_reply.set()
    for one in (bad, again):
        with pytest.raises(RejectedError, match="Unknown code"):
            await one


@pytest.mark.fault("H13")
async def test_a_question_does_not_wait_for_the_turn_of_another_that_asks_the_same(
    service, questions
):
    greedy, modest = await ask(
        questions,
        ("greedy", SNAPSHOT, [f"US:{n}" for n in range(12)]),
        ("modest", SNAPSHOT, ["US:11"]),
    )
    service.may_reply.set()
    await asyncio.gather(greedy, modest)
    assert any("US:11" in symbols for _, symbols in service.sent[:3])


def test_rows_stay_as_they_were_received():
    rows = rows_by_symbol(b'[{"c":"HK:00700","lp":"1.50","new":[1]},{"c":"US:A"}]', [])
    assert {
        symbol: [bytes(row) for row in found] for symbol, found in rows.items()
    } == {
        "HK:700": [b'{"c":"HK:00700","lp":"1.50","new":[1]}'],
        "US:A": [b'{"c":"US:A"}'],
    }
    assert rows_by_symbol(b"null", []) == {}


def test_a_row_without_a_symbol_is_left_out_and_the_others_stay():
    unread: list[Unread] = []
    rows = rows_by_symbol(b'[{"c":"US:A"},{"lp":"1"},{"c":7}]', unread)
    assert list(rows) == ["US:A"]
    assert [one.lost for one in unread] == [True, True]


@pytest.mark.parametrize("data", [b'[{"lp":"1"}]', b"{}", b'"x"', b"[1"])
def test_a_reply_without_any_symbol_cannot_be_decoded(data):
    with pytest.raises(DecodeError, match="cannot decode"):
        rows_by_symbol(data, [])
