"""How a demo that goes wrong ends; the run itself is made up."""

from __future__ import annotations

import pytest

from qos_async import RejectedError
from qos_async.cli import demo, main


def playing(monkeypatch, act):
    async def play(script, tally, view):
        act(tally)

    monkeypatch.setattr(demo, "play", play)
    return main(["demo", "--plain"])


def test_a_breach_of_the_protocol_is_a_failure(monkeypatch, capsys):
    """The summary says which."""
    code = playing(monkeypatch, lambda tally: tally.breaches.append("too fast"))
    assert code == 1
    assert capsys.readouterr().out.endswith(
        "1 breach of the protocol\n           too fast\n"
    )


def test_an_error_of_ours_is_a_sentence(monkeypatch, capsys):
    """Not a traceback."""

    def refuse(tally):
        raise ExceptionGroup("tasks", [RejectedError("no such thing")])

    assert playing(monkeypatch, refuse) == 1
    assert capsys.readouterr().err == "qos: no such thing\n"


def test_what_nobody_expects_is_not_hidden(monkeypatch):
    """It is a bug, and its traceback is wanted."""

    def fail(tally):
        raise ExceptionGroup("tasks", [ZeroDivisionError()])

    with pytest.raises(ZeroDivisionError):
        playing(monkeypatch, fail)


def test_ctrl_c_before_anything_has_begun(monkeypatch):
    """While modules are still being imported, say."""

    def interrupt(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "run_demo", interrupt)
    assert main(["demo"]) == 130
