"""GitHub workflows: pinned actions, few permissions, releases only with a matching tag."""

from __future__ import annotations

import re
import subprocess
import textwrap
import tomllib

import pytest

import qos_async
from tests.support.markdown import ROOT

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
CI = (ROOT / ".github/workflows/ci.yml").read_text("utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
RELEASE = (ROOT / ".github/workflows/release.yml").read_text("utf-8")


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_commit_and_permissions_are_few(path):
    text = path.read_text("utf-8")
    used = re.findall(r"uses: (.+)", text)
    assert used
    for action in used:
        assert re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action)
    assert "\npermissions: {}\n" in text
    rights = re.findall(r"^ +([a-z-]+): (?:read|write)\b", text, re.MULTILINE)
    assert set(rights) <= {"contents", "id-token"}
    assert "write" not in re.sub("id-token: write", "", text.partition("jobs:")[2])
    assert "secrets." not in text


def test_only_the_publishing_job_has_an_identity_token():
    build, publish = RELEASE.split("\n  publish:\n")
    assert "id-token" not in build
    assert "needs: build" in publish
    assert "name: pypi\n" in publish
    assert "run:" not in publish


def job(name):
    """Return the text of a job of the workflow for changes."""
    found = re.search(rf"^  {name}:\n((?:    .*\n|\n|  #.*\n)*)", CI, re.MULTILINE)
    assert found is not None
    return found[1]


def test_the_matrix_has_the_pythons_of_the_classifiers():
    declared = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    [listed] = re.findall(r"^        python: \[(.+)\]", job("tests"), re.MULTILINE)
    assert declared == re.findall(r'"(.+?)"', listed)
    assert PROJECT["requires-python"] == f">={declared[0]}"
    for single in re.findall(r'python(?:-version)?: "(.+)"', job("tests")):
        assert single in declared


def test_only_pythons_without_all_wheels_may_fail():
    assert CI.count("continue-on-error") == 1
    assert "continue-on-error: true" in job("early")
    declared = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    [listed] = re.findall(r"python: \[(.+)\]", job("early"))
    early = re.findall(r'"(.+?)"', listed)
    assert early
    assert all(one.endswith(("-dev", "t")) for one in early)
    assert not set(early) & set(declared)


def test_the_tests_run_on_each_event_loop_that_they_have_an_option_for():
    conftest = (ROOT / "tests/conftest.py").read_text("utf-8")
    [choices] = re.findall(r"choices=\[(.+)\]", conftest)
    [listed] = re.findall(r"loop: \[(.+)\]", job("loops"))
    assert re.findall(r'"(\w+)"', choices) == ["asyncio", *listed.split(", ")]
    assert "pytest --loop=${{ matrix.loop }}" in job("loops")


def test_windows_has_a_python_with_a_coarse_clock():
    systems = re.findall(r'os: (\w+)-latest\n +python: "(.+)"', job("tests"))
    assert ("windows", "3.12") in systems


def test_the_stacks_of_a_test_that_hangs_are_shown_before_it_fails():
    options = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]
    options = options["pytest"]
    assert 0 < float(options["faulthandler_timeout"]) < float(options["timeout"])


@pytest.mark.parametrize(
    ("tag", "code"), [(f"v{qos_async.__version__}", 0), ("v0.0.9", 1), ("nonsense", 1)]
)
def test_a_tag_that_differs_from_the_version_fails_the_release(tag, code):
    [step] = re.findall(
        r"name: Check that the tag.*\n +run: \|\n((?: {10}.*\n)+)", RELEASE
    )
    done = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", textwrap.dedent(step)],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "GITHUB_REF_NAME": tag},
        capture_output=True,
        check=False,
        text=True,
    )
    assert done.returncode == code, done.stderr
    assert bool(code) == (f"the tag is {tag}" in done.stderr)
