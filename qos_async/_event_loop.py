"""The running event loop, or an error that says what to do without one."""

from __future__ import annotations

import asyncio

__all__ = ["running_loop"]

_NO_LOOP = (
    "qos_async needs asyncio, and no asyncio event loop is running here: call this from "
    "a coroutine that asyncio.run() runs; from another thread, pass a coroutine to "
    "asyncio.run_coroutine_threadsafe(); in place of trio, use asyncio (with anyio: "
    'anyio.run(main, backend="asyncio"))'
)


def running_loop() -> asyncio.AbstractEventLoop:
    """Return the running event loop.

    Raises:
        RuntimeError: Without one, as in a plain thread or under trio.
    """
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(_NO_LOOP) from None
