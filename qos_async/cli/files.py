"""Files that people keep: written beside their place, and renamed when they are whole."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator
from pathlib import Path
from typing import IO

__all__ = ["OutputError", "check_place", "whole_file"]


class OutputError(Exception):
    """A file cannot be written there; the sentence says why, and what to do."""


def check_place(output: Path, *, force: bool) -> None:
    """Fail before there is work to lose.

    Args:
        output: What is going to be written.
        force: Whether to replace what is there.

    Raises:
        OutputError: If it cannot be written.
    """
    if output.is_dir():
        raise OutputError(f"{output} is a folder: name a file in it")
    if not output.parent.is_dir():
        raise OutputError(f"there is no folder {output.parent}: make it first")
    if output.exists() and not force:
        raise OutputError(f"{output} is there already: --force replaces it")


@contextlib.contextmanager
def whole_file(output: Path) -> Generator[IO[bytes]]:
    """Give a file that takes the output's name when it is whole, and only then.

    Raises:
        OutputError: If it cannot be written; what was there before is as it was.
    """
    draft = output.with_name(f"{output.name}.tmp")
    try:
        with draft.open("wb") as file:
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
