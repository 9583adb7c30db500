"""Which symbols go into which file."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError
from collections.abc import Iterable
from pathlib import Path

from qos_async.cli.files import OutputError
from qos_async.cli.options import any_path, file_format, symbol_list

__all__ = [
    "SUFFIXES",
    "by_file",
    "make_directory",
    "output_pattern",
    "words_of_symbols",
]

SUFFIXES = (".parquet", ".csv", ".jsonl")
_FIELD = "{symbol}"
_UNSAFE = re.compile(r"[^\w.-]")


def words_of_symbols(text: str) -> tuple[str, ...]:
    """Parse ``"US:AAPL,TSLA"``, or ``"@file"`` with one symbol a line."""
    if not text.startswith("@"):
        return symbol_list(text)
    path = any_path(text[1:])
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text in UTF-8"
        raise ArgumentTypeError(f"cannot read {path}: {reason}") from None
    found: list[str] = []
    for number, line in enumerate(lines, 1):
        if word := line.partition("#")[0].strip():
            try:
                found += symbol_list(word)
            except ArgumentTypeError as error:
                raise ArgumentTypeError(f"{path}, line {number}: {error}") from None
    if not found:
        raise ArgumentTypeError(
            f"{path} has no symbols: write one a line, such as US:AAPL"
        )
    return tuple(found)


def output_pattern(text: str) -> Path:
    """Parse a file, a pattern with ``{symbol}``, or a directory for Parquet files."""
    path = any_path(text)
    if text.endswith(("/", "\\")) and path != Path(path.anchor):
        return path / f"{_FIELD}.parquet"
    if file_format(path) not in SUFFIXES:
        allowed = f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"
        raise ArgumentTypeError(
            f"{text!r} should end in {allowed}, or in / for a directory"
        )
    if unknown := set(re.findall(r"\{.*?\}", path.name)) - {_FIELD}:
        raise ArgumentTypeError(
            f"{text!r} has {min(unknown)}: {_FIELD} is the only field of a file name"
        )
    if _FIELD in str(path.parent):
        raise ArgumentTypeError(
            f"{text!r}: {_FIELD} belongs into the file's name, not into the directory's"
        )
    return path


def by_file(symbols: Iterable[str], pattern: Path) -> dict[Path, list[str]]:
    """Return the symbols of each file; ``CF:BTCUSDT`` is ``CF_BTCUSDT`` in its name."""
    files: dict[Path, list[str]] = {}
    for symbol in dict.fromkeys(symbols):
        name = pattern.name.replace(_FIELD, _UNSAFE.sub("_", symbol))
        files.setdefault(pattern.with_name(name), []).append(symbol)
    return files


def make_directory(pattern: Path) -> None:
    """Create the directory of files that are named after symbols.

    Raises:
        OutputError: If it cannot be created.
    """
    if _FIELD in pattern.name:
        try:
            pattern.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = error.strerror
            raise OutputError(f"cannot create {pattern.parent}: {reason}") from None
