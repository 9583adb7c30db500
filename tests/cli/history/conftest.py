"""Fixtures of ``qos history``."""

from __future__ import annotations

import pytest

from qos_async.cli.history.partial import PartialDownload
from tests.support.history_pages import REQUEST, bars


@pytest.fixture
def path(tmp_path):
    return tmp_path / "bars.csv.part"


@pytest.fixture
def kept(path):
    """Three pages of an earlier run."""
    with PartialDownload(path, REQUEST) as part:
        for page in ([80, 81, 82], [70, 75], [60]):
            part.add(bars(*page))
    return path
