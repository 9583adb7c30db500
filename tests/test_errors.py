"""Exceptions: their hierarchy, copies and pickles."""

from __future__ import annotations

import copy
import pickle

import pytest

from qos_async import errors
from qos_async.errors import (
    AuthenticationError,
    ClosedError,
    ConnectError,
    DecodeError,
    LaggedError,
    LimitError,
    QosError,
    RejectedError,
    RequestError,
    RequestTimeoutError,
    TransportError,
)

TREE: list[tuple[type[Exception], type[Exception]]] = [
    (TransportError, QosError),
    (ConnectError, TransportError),
    (AuthenticationError, QosError),
    (RequestError, QosError),
    (RejectedError, RequestError),
    (LimitError, RejectedError),
    (RequestTimeoutError, RequestError),
    (RequestTimeoutError, TimeoutError),
    (DecodeError, QosError),
    (LaggedError, QosError),
    (ClosedError, QosError),
]


@pytest.mark.parametrize(("child", "parent"), TREE)
def test_the_tree_is_the_published_one(child: type[Exception], parent: type[Exception]):
    assert issubclass(child, parent)


def test_every_error_is_published_and_a_qos_error():
    for name in errors.__all__:
        assert issubclass(getattr(errors, name), QosError)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (RejectedError("no"), "no"),
        (RejectedError("no", operation="T"), "T: no"),
        (
            RejectedError("no", operation="/trade", symbols=("US:A", "US:B")),
            "/trade US:A, US:B: no",
        ),
        (LimitError("too many", symbols=("US:A",)), "US:A: too many"),
    ],
)
def test_a_rejection_has_its_operation_symbols_and_message(
    error: RejectedError, text: str
):
    assert str(error) == text


@pytest.mark.parametrize("kind", [RejectedError, LimitError])
def test_copies_and_pickles_of_a_rejection_keep_everything(kind: type[RejectedError]):
    error = kind("no", operation="T", symbols=("US:A",))
    for twin in (
        copy.copy(error),
        copy.deepcopy(error),
        pickle.loads(pickle.dumps(error)),
    ):
        assert type(twin) is kind
        assert twin is not error
        assert (twin.message, twin.operation, twin.symbols) == ("no", "T", ("US:A",))
        assert str(twin) == str(error)


@pytest.mark.parametrize(
    "kind",
    {child: 0 for child, _ in TREE if not issubclass(child, RejectedError)},
)
def test_copies_and_pickles_of_any_other_error_keep_the_text(kind: type[Exception]):
    error = kind("what happened")
    for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(twin) is kind
        assert str(twin) == "what happened"


def test_raising_a_copy_leaves_the_original_without_a_traceback():
    error = RejectedError("no")
    with pytest.raises(RejectedError):
        raise copy.copy(error)
    assert error.__traceback__ is None
