"""Exit codes and messages of a ``qos demo`` that fails; the run is a fake."""

from __future__ import annotations

import pytest

from qos_async import RejectedError
from qos_async.cli import demo, demo_run, main


def playing(monkeypatch, act):
    async def play(scenario, stats, view):
        act(stats)

    monkeypatch.setattr(demo_run, "play", play)
    return main(["demo", "--plain"])


def test_a_breach_of_the_protocol_is_a_failure(monkeypatch, capsys):
    """The summary says which."""
    code = playing(monkeypatch, lambda stats: stats.violations.append("too fast"))
    assert code == 1
    assert capsys.readouterr().out.endswith(
        "1 breach of the protocol\n           too fast\n"
    )


def test_an_error_of_ours_is_a_sentence(monkeypatch, capsys):
    """Not a traceback."""

    def refuse(stats):
        raise ExceptionGroup("tasks", [RejectedError("no such thing")])

    assert playing(monkeypatch, refuse) == 1
    assert capsys.readouterr().err == "qos: no such thing\n"


def test_what_nobody_expects_is_not_hidden(monkeypatch):
    """It is a bug, and its traceback is wanted."""

    def fail(stats):
        raise ExceptionGroup("tasks", [ZeroDivisionError()])

    with pytest.raises(ZeroDivisionError):
        playing(monkeypatch, fail)


def test_ctrl_c_before_anything_has_begun(monkeypatch):
    """While modules are still being imported, say."""

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "_choose_view", interrupt)
    assert main(["demo"]) == 130
