"""``python -m qos_async``: the same program as ``qos``."""

from __future__ import annotations

import sys

from qos_async.cli import main

if __name__ == "__main__":
    sys.exit(main())
