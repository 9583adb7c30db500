"""Status of a hub that runs in another process."""

from __future__ import annotations

import aiohttp
import msgspec

from qos_async.hub.stats import HubStats

__all__ = ["StatusError", "fetch_status"]

_TIMEOUT = aiohttp.ClientTimeout(total=5.0)
_UNAUTHORIZED = 401


class StatusError(Exception):
    """No status was received; the message says why."""


async def fetch_status(url: str, key: str | None) -> HubStats:
    """Return the statistics of the hub at an address.

    Raises:
        StatusError: If none answers there, or it needs another token.
    """
    headers = {"key": key} if key else {}
    try:
        async with (
            aiohttp.ClientSession(timeout=_TIMEOUT) as session,
            session.get(f"{url}/status", headers=headers) as response,
        ):
            body, status = await response.read(), response.status
    except (aiohttp.ClientError, TimeoutError, ValueError):
        raise StatusError(f"no hub answers at {url}: start one with qos hub") from None
    if status == _UNAUTHORIZED:
        raise StatusError(f"the hub at {url} needs a token: add --key TOKEN")
    try:
        return msgspec.json.decode(body, type=HubStats)
    except msgspec.MsgspecError:
        raise StatusError(f"what answers at {url} is no hub") from None
