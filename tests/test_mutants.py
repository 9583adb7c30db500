"""Mutation tests of the core: the named tests must fail on each mutant.

A mutant is one plausible mistake: it replaces one piece of source text. If that text is
changed in the source, it must be changed here too; a mutant whose text is found nowhere,
or more than once, fails.
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
    """Replaces ``old`` by ``new`` in one module; ``tests`` must fail on it."""

    name: str
    module: str
    old: str
    new: str
    tests: tuple[str, ...]

    @property
    def source(self) -> str:
        return (ROOT / f"qos_async/_core/{self.module}.py").read_text()


REGISTRY = "tests.core.test_registry"
EVERY_STATE = "tests.core.test_registry_exhaustive::test_every_state_converges_to_the_wanted_topics_without_faults"
REJECTS_UNHELD = "tests.core.test_registry_exhaustive::test_convergence_holds_if_removing_an_unheld_topic_is_rejected"
REJECTS_HELD = "tests.core.test_registry_exhaustive::test_convergence_holds_if_adding_a_held_topic_is_rejected"
PROTOCOL = "tests.core.test_protocol"
TRADES = "tests.core.test_recovery_trades"

MUTANTS = [
    Mutant(
        "a late reply matches a later command",
        "scheduler",
        "return reply.reqid in (None, self.reqid, self.earlier)",
        "return True",
        (f"{PROTOCOL}::test_a_late_ack_does_not_confirm_a_later_command",),
    ),
    Mutant(
        "a reply to one command matches another",
        "scheduler",
        "if reply.type != self.type:",
        "if False:",
        (f"{PROTOCOL}::test_a_reply_that_does_not_match_is_counted_and_ignored",),
    ),
    Mutant(
        "an OK without a type acknowledges any command",
        "scheduler",
        "elif reply.ok:",
        "elif False:",
        ("tests.core.test_scheduler",),
    ),
    Mutant(
        "the pace starts at the send",
        "rate_limits",
        "self.free_at = max(latest, now + self._interval)",
        "self.free_at, self._reply_pending = now + self._interval, False",
        (
            "tests.core.test_rate_limits::test_the_server_never_sees_two_frames_within_the_interval",
        ),
    ),
    Mutant(
        "a new link starts with a free pace",
        "rate_limits",
        "        self._expired = 0\n        self.replied(now)",
        "        self._expired = 0\n        self.free_at = now",
        (f"{PROTOCOL}::test_the_pace_outlives_the_link",),
    ),
    Mutant(
        "a late reply sets no pace",
        "rate_limits",
        "if self._expired:",
        "if False:",
        (f"{PROTOCOL}::test_a_late_reply_sets_the_pace_too",),
    ),
    Mutant(
        "an unmatched reply sets the pace",
        "rate_limits",
        "if self._expired:",
        "if True:",
        ("tests.core.test_rate_limits::test_a_reply_to_nothing_delays_nothing",),
    ),
    Mutant(
        "a removal is confirmed as an addition",
        "registry",
        "(self._held.update if change.add else self._held.difference_update)(",
        "self._held.update(",
        (EVERY_STATE,),
    ),
    Mutant(
        "halves of a rejected batch are not sent alone",
        "registry",
        "                self._split_batches.appendleft(Change(change.add, frozenset(half)))",
        "                pass",
        (EVERY_STATE,),
    ),
    Mutant(
        "halves of a rejected batch are sent as one",
        "registry",
        "if not split or (add, topic) not in split:",
        "if True:",
        (EVERY_STATE,),
    ),
    Mutant(
        "a rejected batch is rejected as a whole",
        "registry",
        "final = len(change.topics) == 1",
        "final = True",
        (EVERY_STATE,),
    ),
    Mutant(
        "a rejected topic stays wanted",
        "registry",
        "                for topic in change.topics:\n                    self._discard_wanted",
        "                for topic in ():\n                    self._discard_wanted",
        (EVERY_STATE,),
    ),
    Mutant(
        "a rejected batch is assumed not to be applied in part",
        "registry",
        "        else:\n            self._unknown |= change.topics  # A part of it may have been applied.",
        "        else:",
        (EVERY_STATE,),
    ),
    Mutant(
        "a command without a reply is assumed not to be received",
        "registry",
        "        self._unknown |= change.topics\n        self._mark_all(change)",
        "        self._mark_all(change)",
        (EVERY_STATE,),
    ),
    Mutant(
        "a topic whose removal was rejected is assumed to be held",
        "registry",
        "            self._held -= change.topics\n            self._unknown -= change.topics\n            self._forget",
        "            self._unknown -= change.topics\n            self._forget",
        (REJECTS_UNHELD,),
    ),
    Mutant(
        "a topic whose second addition was rejected is assumed not to be held",
        "registry",
        "if final and change.add and change.topics <= self._unacked_adds:",
        "if False:",
        (REJECTS_HELD,),
    ),
    Mutant(
        "a rejection after a timeout is never final",
        "registry",
        "        self._unacked_adds -= change.topics\n",
        "",
        (
            "tests.faults.test_protocol::test_a_rejection_after_a_timeout_is_final_the_second_time",
        ),
    ),
    Mutant(
        "a new link holds the old subscriptions",
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
        "the first subscriber to leave unsubscribes",
        "registry",
        "if self._wanted.get(topic, 0) > 1:",
        "if False:",
        (
            f"{REGISTRY}::test_two_subscribers_share_one_subscription_and_the_last_release_ends_it",
        ),
    ),
    Mutant(
        "a topic that is being removed counts as live",
        "registry",
        "return known and not self._is_being_removed(topic)",
        "return known",
        (f"{REGISTRY}::test_a_topic_with_a_removal_in_flight_is_not_held",),
    ),
    Mutant(
        "heartbeats wait for all other commands",
        "scheduler",
        "if now >= live.heartbeat_at:",
        "if now >= live.heartbeat_at and not self.has_work:",
        (f"{PROTOCOL}::test_a_heartbeat_that_is_due_outranks_everything",),
    ),
    Mutant(
        "two frames are outstanding",
        "scheduler",
        "if self._pending is not None or not self._pacer.is_free(now):",
        "if not self._pacer.is_free(now):",
        (f"{PROTOCOL}::test_the_grace_period_after_a_stall_does_not_spin",),
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
        "a sent frame counts as received",
        "keepalive",
        'at ``now``."""\n        self.heartbeat_at = now',
        'at ``now``."""\n        self.last_received_at = self.heartbeat_at = now',
        ("tests.core.test_keepalive",),
    ),
    Mutant(
        "a stall of the loop ends the link",
        "keepalive",
        "if now - deadline > self.LATE_WAKE and self._grace_until < deadline:",
        "if False:",
        (
            f"{PROTOCOL}::test_after_a_stall_the_socket_is_read_before_the_link_times_out",
        ),
    ),
    Mutant(
        "the grace period never ends",
        "keepalive",
        "if now - deadline > self.LATE_WAKE and self._grace_until < deadline:",
        "if now - deadline > self.LATE_WAKE:",
        ("tests.core.test_keepalive",),
    ),
    Mutant(
        "a request of a lost link is sent again",
        "scheduler",
        "        self._sent.clear()\n        return sent",
        "        return sent",
        ("tests.core.test_scheduler::test_take_sent_returns_only_sent_requests",),
    ),
    Mutant(
        "a long queue times out although it moves",
        "scheduler",
        "        self._unblocked_at = math.inf",
        "        pass",
        (
            "tests.core.test_scheduler::test_no_queued_request_times_out_while_another_is_pending",
        ),
    ),
    Mutant(
        "no left anchor is needed",
        "recovery/trades",
        "return self.whole or self.begins < self.last",
        "return True",
        (f"{TRADES}::test_a_window_that_begins_within_the_last_second_is_partial",),
    ),
    Mutant(
        "no right anchor is needed",
        "recovery/trades",
        "if self.ends <= cut:",
        "if False:",
        (f"{TRADES}::test_filled_is_the_tape_and_nothing_is_repeated",),
    ),
    Mutant(
        "recovered trades are pushed as well",
        "recovery/trades",
        "self.rest = _without(undelivered[::-1], live)[::-1]",
        "self.rest = undelivered",
        (f"{TRADES}::test_filled_is_the_tape_and_nothing_is_repeated",),
    ),
    Mutant(
        "delivered trades are recovered as well",
        "recovery/trades",
        "undelivered = _without(self.listed, tail)",
        "undelivered = list(self.listed)",
        (f"{TRADES}::test_filled_is_the_tape_and_nothing_is_repeated",),
    ),
    Mutant(
        "inconsistent data is accepted",
        "recovery/trades",
        "return self.in_order and not any(self._differ(at, cut) for at in known)",
        "return True",
        (f"{TRADES}::test_inconsistent_data_recovers_only_the_seconds_without_pushes",),
    ),
    Mutant(
        "a second loss moves the beginning of an outage",
        "recovery/outages",
        "opened.update(self.open)",
        "pass",
        (
            "tests.core.test_recovery_outages::test_a_second_loss_keeps_the_first_beginning",
        ),
    ),
    Mutant(
        "the rest of a split ack is lost with the link",
        "protocol",
        "rest, self._unemitted = list(self._unemitted), deque()",
        "rest, self._unemitted = [], deque()",
        (
            "tests.core.test_protocol::test_the_rest_of_a_split_ack_is_emitted_before_the_link_is_lost",
        ),
    ),
    Mutant(
        "a live topic is subscribed again after any number of rejections",
        "recovery/outages",
        "return self._rejections[topic] < _MAX_REJECTIONS",
        "return True",
        (
            "tests.io.test_stream::test_a_live_topic_is_removed_after_a_lasting_rejection",
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
        "every end of a link is an eviction",
        "link",
        " and close_code not in self.SERVER_FAULT_CODES",
        "",
        ("tests.core.test_link",),
    ),
    Mutant(
        "every frame with a type is a reply",
        "wire",
        "            if tp in _CHANNELS:\n                return self",
        "            if tp in _CHANNELS and b'\"type\"' not in data:\n                return self",
        ("tests.core.test_wire::test_tp_decides_over_type",),
    ),
    Mutant(
        "ok in any case acknowledges",
        "wire",
        'return self.msg == "OK"',
        'return self.msg.strip().upper() == "OK"',
        ("tests.core.test_wire::test_only_ok_is_a_success",),
    ),
    Mutant(
        "a price may be infinite",
        "decoding",
        "value.price.is_finite()",
        "True",
        (
            "tests.core.test_decoding::test_an_infinite_or_nan_number_raises_in_any_field",
        ),
    ),
]
CONTROL = Mutant(
    "nothing is broken", "", "", "", tuple({t for m in MUTANTS for t in m.tests})
)


def fates(mutants: list[Mutant]) -> list[int]:
    """Run the tests on each mutant; return the results."""
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
def test_each_mutant_is_caught(group: int):
    some = MUTANTS[group::GROUPS]
    survivors = [
        mutant.name
        for mutant, fate in zip(some, fates(some), strict=True)
        if fate == SURVIVED
    ]
    assert not survivors


@pytest.mark.slow
def test_without_a_mutant_all_tests_pass():
    assert fates([CONTROL]) == [SURVIVED]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_each_mutant_fits_in_one_place(mutant: Mutant):
    assert mutated(mutant.source, mutant.old, mutant.new) != mutant.source


def test_a_mutant_that_fits_nowhere_or_twice_is_an_error():
    for source in ("", "a a"):
        with pytest.raises(LookupError):
            mutated(source, "a", "b")
