"""``python -m qos_async``: the same program as ``qos``."""

from __future__ import annotations

from qos_async.cli import program

if __name__ == "__main__":
    program()
