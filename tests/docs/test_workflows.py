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


def test_every_python_of_the_classifiers_is_tested():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    declared = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    assert declared
    assert set(declared) <= set(re.findall(r'"(3\.\d+)"', CI))


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
