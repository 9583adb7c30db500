"""A test that lets broken code pass is no test: each of these must be noticed.

Each mutant is one plausible mistake in the pure core, and names the tests that must
catch it. A line that was rewritten since must be found anew here: a mutant that fits
nowhere, or in two places, fails.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.mutants import KILLED, SURVIVED, mutated

ROOT = Path(__file__).parent.parent
GROUPS = 4


class Mutant(NamedTuple):
    """A mistake: ``old`` reads ``new`` in one module, and these tests see it."""

    name: str
    module: str
    old: str
    new: str
    tests: tuple[str, ...]

    @property
    def source(self) -> str:
        return (ROOT / f"qos_async/_core/{self.module}.py").read_text()


REGISTRY = "tests.core.test_registry"
EVERY_STATE = "tests.core.test_registry_exhaustive::test_from_every_state_a_quiet_network_leads_to_what_is_wanted"
STRICT = "tests.core.test_registry_exhaustive::test_a_server_that_refuses_to_remove_what_it_does_not_have_is_no_exception"
TOUCHY = "tests.core.test_registry_exhaustive::test_a_server_that_refuses_to_add_what_it_has_takes_nothing_from_us"
PROTOCOL = "tests.core.test_protocol"
TRADES = "tests.core.test_recovery_trades"

MUTANTS = [
    Mutant(
        "a late answer is taken for a fresh one",
        "scheduler",
        "return reply.reqid is None or reply.reqid == self.reqid",
        "return True",
        (f"{PROTOCOL}::test_a_late_yes_is_not_taken_for_a_fresh_one",),
    ),
    Mutant(
        "an answer to one thing is taken for the answer to another",
        "scheduler",
        "if reply.type != self.type:",
        "if False:",
        (f"{PROTOCOL}::test_an_answer_that_does_not_fit_is_counted_and_ignored",),
    ),
    Mutant(
        "a yes without a type is a yes",
        "scheduler",
        "elif reply.ok:",
        "elif False:",
        ("tests.core.test_scheduler",),
    ),
    Mutant(
        "the pace starts at the send",
        "rate_limits",
        "self.free_at = now + self._patience",
        "self.free_at, self._waiting = now + self._interval, False",
        (
            "tests.core.test_rate_limits::test_the_server_never_sees_two_frames_within_the_interval",
        ),
    ),
    Mutant(
        "a new link starts with a free pace",
        "rate_limits",
        "        self._overdue = 0\n        self.replied(now)",
        "        self._overdue = 0\n        self.free_at = now",
        (f"{PROTOCOL}::test_the_pace_outlives_the_link",),
    ),
    Mutant(
        "a late answer sets no pace",
        "rate_limits",
        "if self._overdue:",
        "if False:",
        (f"{PROTOCOL}::test_a_late_answer_sets_the_pace_as_well",),
    ),
    Mutant(
        "a stranger sets the pace",
        "rate_limits",
        "if self._overdue:",
        "if True:",
        ("tests.core.test_rate_limits::test_an_answer_to_nothing_sets_no_pace",),
    ),
    Mutant(
        "a removal is confirmed as an addition",
        "registry",
        "(self._held.update if change.add else self._held.difference_update)(",
        "self._held.update(",
        (EVERY_STATE,),
    ),
    Mutant(
        "halves of a refused batch are not tried on their own",
        "registry",
        "                self._split_batches.appendleft(Change(change.add, frozenset(half)))",
        "                pass",
        (EVERY_STATE,),
    ),
    Mutant(
        "halves of a refused batch are sent as one",
        "registry",
        "if not split or (add, topic) not in split:",
        "if True:",
        (EVERY_STATE,),
    ),
    Mutant(
        "a refused batch is refused as a whole",
        "registry",
        "final = len(change.topics) == 1",
        "final = True",
        (EVERY_STATE,),
    ),
    Mutant(
        "what was refused stays wanted",
        "registry",
        "                for topic in change.topics:\n                    self._unwant",
        "                for topic in ():\n                    self._unwant",
        (EVERY_STATE,),
    ),
    Mutant(
        "a refused batch was surely not applied in part",
        "registry",
        "        else:\n            self._unknown |= change.topics",
        "        else:",
        (EVERY_STATE,),
    ),
    Mutant(
        "what nobody answered was surely not heard",
        "registry",
        "        self._unknown |= change.topics\n        self._mark_all(change)",
        "        self._mark_all(change)",
        (EVERY_STATE,),
    ),
    Mutant(
        "a server that refuses to remove has it",
        "registry",
        "            self._held -= change.topics\n            self._unknown",
        "            self._unknown",
        (STRICT,),
    ),
    Mutant(
        "a server that refuses to add twice does not have it",
        "registry",
        "if final and change.add and change.topics <= self._unacked_adds:",
        "if False:",
        (TOUCHY,),
    ),
    Mutant(
        "what is refused after silence is never refused for good",
        "registry",
        "        self._unacked_adds -= change.topics\n",
        "",
        (
            "tests.faults.test_protocol::test_what_is_refused_after_silence_is_refused_for_good_the_next_time",
        ),
    ),
    Mutant(
        "a new link knows the old subscriptions",
        "registry",
        "        self._held.clear()\n",
        "",
        (EVERY_STATE,),
    ),
    Mutant(
        "additions go before removals",
        "registry",
        "{False: [], True: []}",
        "{True: [], False: []}",
        (f"{REGISTRY}::test_removals_go_before_additions",),
    ),
    Mutant(
        "the first to leave unsubscribes",
        "registry",
        "if self._wanted[topic] > 1:",
        "if False:",
        (
            f"{REGISTRY}::test_two_watchers_cost_one_subscription_and_the_last_to_leave_ends_it",
        ),
    ),
    Mutant(
        "a topic that is being removed counts as live",
        "registry",
        "return known and not self._is_leaving(topic)",
        "return known",
        (f"{REGISTRY}::test_a_topic_whose_removal_is_on_its_way_is_not_held",),
    ),
    Mutant(
        "heartbeats wait until all else is said",
        "scheduler",
        "if now >= live.heartbeat_at:",
        "if now >= live.heartbeat_at and not self.has_work:",
        (f"{PROTOCOL}::test_a_heartbeat_that_is_due_outranks_everything",),
    ),
    Mutant(
        "two frames await their answers",
        "scheduler",
        "if self._pending is not None or not self._pacer.is_free(now):",
        "if not self._pacer.is_free(now):",
        (f"{PROTOCOL}::test_while_it_gives_the_socket_a_chance_it_does_not_spin",),
    ),
    Mutant(
        "changes always go before requests",
        "scheduler",
        "if self._prefer_request:",
        "if False:",
        (f"{PROTOCOL}::test_requests_and_changes_take_turns",),
    ),
    Mutant(
        "the first id is zero",
        "scheduler",
        "itertools.count(1)",
        "itertools.count(0)",
        (f"{PROTOCOL}::test_ids_are_positive_and_never_repeat_even_on_a_new_link",),
    ),
    Mutant(
        "to speak is to hear",
        "keepalive",
        'at ``now``."""\n        self.heartbeat_at = now',
        'at ``now``."""\n        self.last_received_at = self.heartbeat_at = now',
        ("tests.core.test_keepalive",),
    ),
    Mutant(
        "our own stall is blamed on the server",
        "keepalive",
        "if now - deadline > self.LATE_WAKE and self._grace_until < deadline:",
        "if False:",
        (f"{PROTOCOL}::test_our_own_stall_gives_the_socket_a_chance_first",),
    ),
    Mutant(
        "the second chance never ends",
        "keepalive",
        "if now - deadline > self.LATE_WAKE and self._grace_until < deadline:",
        "if now - deadline > self.LATE_WAKE:",
        ("tests.core.test_keepalive",),
    ),
    Mutant(
        "a question is asked on a link that is gone",
        "scheduler",
        "        self._sent.clear()\n        return sent",
        "        return sent",
        ("tests.core.test_scheduler::test_orphans_are_those_that_were_sent",),
    ),
    Mutant(
        "a long queue times out although it moves",
        "scheduler",
        "        self._unblocked_at = math.inf",
        "        pass",
        (
            "tests.core.test_scheduler::test_nobody_is_given_up_while_another_has_its_turn",
        ),
    ),
    Mutant(
        "no left anchor is needed",
        "recovery/trades",
        "return self.whole or self.begins < self.last",
        "return True",
        (f"{TRADES}::test_an_answer_that_begins_within_the_last_second_is_partial",),
    ),
    Mutant(
        "no right anchor is needed",
        "recovery/trades",
        "if self.ends <= cut:",
        "if False:",
        (f"{TRADES}::test_filled_is_the_tape_and_nothing_comes_twice",),
    ),
    Mutant(
        "recovered trades are pushed as well",
        "recovery/trades",
        "self.rest = _without(undelivered[::-1], live)[::-1]",
        "self.rest = undelivered",
        (f"{TRADES}::test_filled_is_the_tape_and_nothing_comes_twice",),
    ),
    Mutant(
        "delivered trades are recovered as well",
        "recovery/trades",
        "undelivered = _without(self.listed, tail)",
        "undelivered = list(self.listed)",
        (f"{TRADES}::test_filled_is_the_tape_and_nothing_comes_twice",),
    ),
    Mutant(
        "the sides need not agree",
        "recovery/trades",
        "return self.in_order and not any(self._differ(at, cut) for at in known)",
        "return True",
        (f"{TRADES}::test_where_the_sides_disagree_only_silent_seconds_are_recovered",),
    ),
    Mutant(
        "a second loss moves the beginning of an outage",
        "recovery/gaps",
        "opened.update(self.open)",
        "pass",
        (
            "tests.core.test_recovery_gaps::test_a_second_loss_keeps_the_first_beginning",
        ),
    ),
    Mutant(
        "what is not told yet of a yes is lost with the link",
        "protocol",
        "rest = list(self._unemitted)",
        "rest = []",
        (
            "tests.core.test_protocol::test_what_was_not_told_yet_of_a_yes_is_told_before_the_link_is_gone",
        ),
    ),
    Mutant(
        "a topic that was live is refused for ever without end",
        "recovery/gaps",
        "return self._rejections[change.any_topic] < _MAX_REJECTIONS",
        "return True",
        (
            "tests.io.test_mended::test_a_topic_that_was_live_is_given_up_when_refused_for_good",
        ),
    ),
    Mutant(
        "a link that opened is a success",
        "link",
        "if uptime >= self._timing.stable_after:\n            self.attempt = 0",
        "if uptime > 0:\n            self.attempt = 0",
        ("tests.core.test_link",),
    ),
    Mutant(
        "whatever ends a link was another client",
        "link",
        " and close_code not in self.SERVER_FAULT_CODES",
        "",
        ("tests.core.test_link",),
    ),
    Mutant(
        "what carries a type is a reply",
        "wire",
        "            if tp in _CHANNELS:\n                return self",
        "            if tp in _CHANNELS and b'\"type\"' not in data:\n                return self",
        ("tests.core.test_wire::test_tp_decides_over_type",),
    ),
    Mutant(
        "any kind of ok is a yes",
        "wire",
        'return self.msg == "OK"',
        'return self.msg.strip().upper() == "OK"',
        ("tests.core.test_wire::test_nothing_but_ok_is_a_yes",),
    ),
    Mutant(
        "a price may be infinite",
        "decoding",
        "if value.price.is_finite() and (size is None or size.is_finite()):",
        "if True:",
        (
            "tests.core.test_decoding::test_a_number_that_is_infinite_or_none_is_unreadable_wherever_it_stands",
        ),
    ),
]
CONTROL = Mutant(
    "nothing is broken", "", "", "", tuple({t for m in MUTANTS for t in m.tests})
)


def fates(mutants: list[Mutant]) -> list[int]:
    """Let the tests judge."""
    orders = [
        {
            "module": f"qos_async._core.{mutant.module.replace('/', '.')}"
            if mutant.module
            else "",
            "old": mutant.old,
            "new": mutant.new,
            "tests": mutant.tests,
        }
        for mutant in mutants
    ]
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.mutants"],
        input=json.dumps(orders),
        capture_output=True,
        text=True,
        timeout=300,
        cwd=ROOT,
        check=False,
    )
    assert not done.returncode, done.stderr
    found: list[int] = json.loads(done.stdout)
    assert set(found) <= {KILLED, SURVIVED}, done.stderr
    return found


@pytest.mark.slow
@pytest.mark.parametrize("group", range(GROUPS))
def test_each_mistake_is_noticed(group: int):
    some = MUTANTS[group::GROUPS]
    survivors = [
        mutant.name
        for mutant, fate in zip(some, fates(some), strict=True)
        if fate == SURVIVED
    ]
    assert not survivors


@pytest.mark.slow
def test_without_a_mistake_nothing_is_noticed():
    assert fates([CONTROL]) == [SURVIVED]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_each_mistake_fits_in_one_place(mutant: Mutant):
    assert mutated(mutant.source, mutant.old, mutant.new) != mutant.source


def test_a_mistake_that_fits_nowhere_or_twice_is_an_error():
    for source in ("", "a a"):
        with pytest.raises(LookupError):
            mutated(source, "a", "b")
