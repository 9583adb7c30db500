"""Tests that need a package that this Python cannot install are skipped."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.support.markdown import ROOT

BODY = """
import pytest
from tests.support import optional_packages

optional_packages._MISSING = frozenset({"absent_package"})


def load():
    try:
        import absent_package.frames
    except ModuleNotFoundError as error:
        raise ValueError("to_frame() needs it") from error


@pytest.fixture
def frame():
    load()


def test_it_is_imported():
    import absent_package


def test_it_is_the_cause_in_a_group():
    with pytest.raises(KeyError):
        try:
            load()
        except ValueError as error:
            raise ExceptionGroup("two", [TypeError(), error])


def test_a_fixture_needs_it(frame):
    pass


def test_another_package():
    import another_absent_package


def test_another_failure():
    assert False
"""


def test_only_tests_that_need_it_are_skipped_and_the_reason_names_it(tmp_path):
    (tmp_path / "test_user.py").write_text(BODY)
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "-p", "tests.support.optional_packages", str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "2 failed, 3 skipped" in done.stdout, done.stdout
    assert done.stdout.count("not installed: absent_package") == 3
