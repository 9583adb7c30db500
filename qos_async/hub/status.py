"""Status of a hub that runs in another process."""

from __future__ import annotations

import aiohttp
import msgspec
from msgspec import Struct

from qos_async.hub.stats import HubStats

__all__ = ["StatusError", "fetch_status"]

_TIMEOUT = aiohttp.ClientTimeout(total=5.0)
_BODY_MAX = 16 * 1024 * 1024
_OK, _UNAUTHORIZED, _FORBIDDEN = 200, 401, 403


class StatusError(Exception):
    """No status was received; the message says why."""


class _Refusal(Struct):
    msg: str


async def fetch_status(url: str, key: str | None) -> HubStats:
    """Return the statistics of the hub at an address.

    Raises:
        StatusError: If none answers there, or it needs another token.
    """
    status, body = await _get(url, {"key": key} if key else {})
    if status == _UNAUTHORIZED:
        raise StatusError(
            f"the hub at {url} does not accept this token: --key needs one of its file"
            if key
            else f"the hub at {url} needs a token: add --key TOKEN, or set QOS_HTTP_URL "
            "and QOS_API_KEY as its clients do"
        )
    if status == _FORBIDDEN:
        message = _refusal(body)
        raise StatusError(f"the hub at {url} refuses this: {message}")
    try:
        if status == _OK:
            return msgspec.json.decode(body, type=HubStats)
    except msgspec.MsgspecError:
        pass
    raise StatusError(f"what answers at {url} is no hub")


async def _get(url: str, headers: dict[str, str]) -> tuple[int, bytes]:
    try:
        async with (
            aiohttp.ClientSession(timeout=_TIMEOUT) as session,
            # A token is sent to no other address.
            session.get(
                f"{url}/status", headers=headers, allow_redirects=False
            ) as response,
        ):
            return response.status, await response.content.read(_BODY_MAX)
    except aiohttp.ClientSSLError as error:
        raise StatusError(
            f"the hub at {url} has no valid certificate: {error}"
        ) from None
    except (ValueError, aiohttp.NonHttpUrlClientError):
        raise StatusError(
            f"{url} is no address of a hub, such as http://127.0.0.1:8765"
        ) from None
    except (aiohttp.ClientConnectorError, TimeoutError):
        raise StatusError(f"no hub answers at {url}: start one with qos hub") from None
    except aiohttp.ClientError:
        raise StatusError(
            f"what answers at {url} is no hub; one with TLS has an address with https"
        ) from None


def _refusal(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=_Refusal).msg
    except msgspec.MsgspecError:
        return "403 Forbidden"
