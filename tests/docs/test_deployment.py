"""The Dockerfile and the unit of systemd in examples/ start the bot as they should."""

from __future__ import annotations

import asyncio
import configparser
import json
import os
import re
from pathlib import Path

from tests.support.markdown import ROOT

EXAMPLES = ROOT / "examples"
LINES = [
    line.split(" ", 1)
    for line in (EXAMPLES / "Dockerfile").read_text("utf-8").splitlines()
    if line and not line.startswith("#")
]
STEPS = dict(LINES)


def test_the_image_runs_the_bot_as_a_user_without_privileges():
    known = {"FROM", "RUN", "COPY", "USER", "ENV", "STOPSIGNAL", "CMD"}
    assert {name for name, _ in LINES} == known
    assert STEPS["FROM"].endswith("-slim")
    assert STEPS["USER"] == "10001"
    assert "--uid 10001" in STEPS["RUN"]
    source, target = STEPS["COPY"].split()
    assert (EXAMPLES / source).is_file()
    assert target in STEPS["CMD"]


async def test_the_command_of_the_image_reads_the_key_from_a_file(tmp_path: Path):
    key = tmp_path / "key"
    program = 'import os; print(os.environ.get("QOS_API_KEY"))'
    shell, flag, script = json.loads(STEPS["CMD"])
    script = script.replace("/run/secrets/qos_api_key", str(key))
    script = script.replace("python /app/bot.py", f"python3 -c '{program}'")
    for content, expected in ((None, "from-env"), ("from-file\n", "from-file")):
        if content:
            key.write_text(content)
        process = await asyncio.create_subprocess_exec(
            shell,
            flag,
            script,
            env={**os.environ, "QOS_API_KEY": "from-env"},
            stdout=asyncio.subprocess.PIPE,
        )
        shown, _ = await process.communicate()
        assert shown.decode().strip() == expected


def test_the_unit_runs_the_bot_and_restarts_it():
    unit = configparser.ConfigParser(strict=True)
    unit.optionxform = str  # type: ignore[assignment,method-assign] # keeps capitals
    unit.read(EXAMPLES / "bot.service")
    assert unit.sections() == ["Unit", "Service", "Install"]
    service = unit["Service"]
    assert service["ExecStart"].endswith("/bot.py")
    assert service["DynamicUser"] == "yes"
    assert service["Restart"] == "on-failure"
    assert re.fullmatch(r"/etc/.*\.env", service["EnvironmentFile"])
    assert int(service["TimeoutStopSec"]) > 5
