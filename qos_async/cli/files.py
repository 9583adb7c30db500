"""Output files: written beside their place, and renamed when they are complete."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Generator
from pathlib import Path
from typing import IO

from qos_async.cli.options import CommandError, missing_package

__all__ = ["OutputError", "check_parquet", "check_place", "whole_file"]


class OutputError(CommandError):
    """A file cannot be written; the message says why, and what to do."""


def check_place(
    output: Path, *, force: bool, advice: str = "--force replaces it"
) -> None:
    """Check that a file can be written, before there is work to lose.

    Args:
        output: The file to write.
        force: Whether to replace an existing one.
        advice: What to do about an existing one.

    Raises:
        OutputError: If it cannot be written.
    """
    if output.is_dir():
        raise OutputError(f"{output} is a directory: name a file in it")
    if not output.parent.is_dir():
        raise OutputError(f"there is no directory {output.parent}: create it first")
    if output.exists() and not force:
        raise OutputError(f"{output} already exists: {advice}")


def check_parquet() -> None:
    """Check that Parquet files can be written.

    Raises:
        CommandError: Without pyarrow; the message has the command to install it.
    """
    try:
        import pyarrow as pa  # noqa: F401 # pyright: ignore[reportUnusedImport] - a check
    except ImportError:
        raise missing_package("Parquet files need", "pyarrow", "cli") from None


@contextlib.contextmanager
def whole_file(output: Path) -> Generator[IO[bytes]]:
    """Open a file that gets the output's name when it is complete, and only then.

    Raises:
        OutputError: If it cannot be written; an existing file stays as it was.
    """
    # Readers of a directory of Parquet files skip names that begin with a dot. The name
    # is not that of another command that writes the same file.
    draft = output.with_name(f".{output.name}.{secrets.token_hex(4)}.tmp")
    try:
        with draft.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(output)
    except BaseException as error:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OutputError(f"cannot write {output}: {error.strerror}") from error
        raise
