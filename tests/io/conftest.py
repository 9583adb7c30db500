"""Ways in which a stream may get its frames."""

from __future__ import annotations

import pytest

from tests.support.memory_transport import Network


@pytest.fixture(params=["at once", "when received"])
def delivery(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a test with frames that come as pushed, and with those that are asked for."""
    monkeypatch.setattr(Network, "sync_delivery", request.param == "at once")
