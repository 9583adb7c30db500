"""Exit codes of ``qos``."""

from __future__ import annotations

import signal

__all__ = ["FAILED", "INTERRUPTED", "KEY_REFUSED", "OK", "TERMINATED", "USAGE"]

OK = 0
FAILED = 1
USAGE = 2
KEY_REFUSED = 3
INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM
