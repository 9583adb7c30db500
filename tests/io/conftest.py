"""Fixtures of the tests over in-memory links."""

from __future__ import annotations

import pytest

from tests.support.memory_transport import Network


@pytest.fixture(params=["at once", "when received"])
def delivery(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a test with frames passed to the handler, and with frames from ``receive``."""
    monkeypatch.setattr(Network, "sync_delivery", request.param == "at once")
