"""Entries of the configuration file, written without touching the rest of the file."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from qos_async._paths import user_text
from qos_async.cli.options import CommandError

__all__ = ["write_key", "write_table"]

_Value: TypeAlias = str | Sequence[str]

_KEY_LINE = re.compile(
    r"""^(?P<start>[ \t]*(?:key|"key"|'key')[ \t]*=[ \t]*)"""
    r"""(?:"(?:[^"\\\n]|\\.)*"|'[^'\n]*')(?P<rest>[ \t]*(?:\#.*)?)$""",
    re.MULTILINE,
)
_TABLE = re.compile(r"^[ \t]*\[", re.MULTILINE)


def write_key(path: Path, key: str) -> None:
    """Write the entry ``key`` into a file of the mode 0600; comments stay.

    Args:
        path: The file, or a link to it; created with its directory if missing.
        key: The key.

    Raises:
        CommandError: If it cannot be written, or its entry not replaced.
    """
    _edit(
        path,
        lambda before: _with_key(before, key),
        'the key in {path}: set its entry to one line, key = "", and try again',
    )


def write_table(path: Path, name: str, entries: Mapping[str, _Value]) -> None:
    """Write entries of a table; the other entries, and comments, stay.

    Args:
        path: As for ``write_key``.
        name: Of the table.
        entries: Strings, and lists of strings.

    Raises:
        CommandError: If it cannot be written, or its entries not replaced.
    """
    _edit(
        path,
        lambda before: _with_table(before, name, entries),
        f"the entries of [{name}] in {{path}}: begin the table with a line [{name}], "
        "and try again",
    )


def _edit(path: Path, edit: Callable[[str], str | None], why: str) -> None:
    path = Path(os.path.realpath(path))
    try:
        before = user_text(path.read_bytes()) if path.exists() else ""
        after = edit(before)
        if after is None:
            raise CommandError(f"cannot replace {why.format(path=path)}")
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _replace(path, after)
    except OSError as error:
        raise CommandError(f"cannot write {path}: {error.strerror}") from None


def _with_key(before: str, key: str) -> str | None:
    """Return the text with another key and nothing else changed; None if that fails."""
    value = json.dumps(key)  # Of ASCII, it is a string of TOML, too.
    table = _TABLE.search(before)
    top = before[: table.start()] if table else before
    found = _KEY_LINE.search(top)
    if found:
        line = f"{found['start']}{value}{found['rest']}"
        after = f"{before[: found.start()]}{line}{before[found.end() :]}"
    else:
        after = f"key = {value}\n{before}"
    try:
        same = tomllib.loads(after) == {**tomllib.loads(before), "key": key}
    except tomllib.TOMLDecodeError:
        return None
    return after if same else None


def _with_table(before: str, name: str, entries: Mapping[str, _Value]) -> str | None:
    """Return the text with other entries in a table; None if that fails."""
    try:
        old = tomllib.loads(before)
        lines = before.splitlines()
        begin = next((i for i, one in enumerate(lines) if _is_header(one, name)), None)
        if begin is None:
            lines += [*([""] if lines else []), f"[{name}]"]
            begin = len(lines) - 1
        rest = (i for i in range(begin + 1, len(lines)) if _TABLE.match(lines[i]))
        end = next(rest, len(lines))
        table = lines[begin + 1 : end]
        for key, value in entries.items():
            if old.get(name, {}).get(key) != value:
                table = _with_entry(table, key, value)
        after = "\n".join([*lines[: begin + 1], *table, *lines[end:]]) + "\n"
        same = tomllib.loads(after) == {**old, name: {**old.get(name, {}), **entries}}
    except (tomllib.TOMLDecodeError, TypeError, AttributeError):
        return None  # Not a table, or written in another way.
    return after if same else None


def _is_header(line: str, name: str) -> bool:
    return re.fullmatch(rf"\s*\[\s*{name}\s*\]\s*(#.*)?", line) is not None


def _with_entry(table: list[str], key: str, value: _Value) -> list[str]:
    """Return the lines of a table with an entry replaced, or added at its end."""
    entry = f"{key} = {json.dumps(value, ensure_ascii=True)}"
    begin = next(
        (i for i, line in enumerate(table) if re.match(rf"\s*{key}\s*=", line)), None
    )
    if begin is None:
        filled = len(table)
        while filled and not table[filled - 1].strip():
            filled -= 1
        return [*table[:filled], entry, *table[filled:]]
    end = begin + 1
    while not _is_complete(table[begin:end]) and end < len(table):
        end += 1
    # No value of these has a #, so that the rest of a line is a comment.
    comments = [line[line.index("#") :] for line in table[begin:end] if "#" in line]
    if comments and end == begin + 1:
        return [*table[:begin], f"{entry}  {comments[0]}", *table[end:]]
    return [*table[:begin], *comments, entry, *table[end:]]


def _is_complete(lines: list[str]) -> bool:
    try:
        tomllib.loads("\n".join(lines))
    except tomllib.TOMLDecodeError:
        return False
    return True


def _replace(path: Path, text: str) -> None:
    """Write beside the file, for this user alone, and rename."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        raise
