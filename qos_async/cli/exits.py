"""Exit codes."""

from __future__ import annotations

import signal

__all__ = ["FAILED", "INTERRUPTED", "OK", "TERMINATED", "USAGE"]

OK = 0
FAILED = 1
USAGE = 2
INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM
