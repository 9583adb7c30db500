"""Webhook alerts for gaps in the data, at most one message a minute.

``WEBHOOK_URL`` receives ``{"text": ...}``, the format of Slack, Mattermost and others;
without it alerts are only printed. Alerts never delay ticks: another task sends them.
"""

import asyncio
import os
from collections import deque

import aiohttp

from qos_async import Client, Dropped, Gap

SYMBOLS = "CF:BTCUSDT,ETHUSDT"
EVERY = 60.0  # Seconds between two messages; alerts in between are sent together.


class Alerts:
    """A queue of alerts; a message that could not be sent is sent again."""

    def __init__(self, url: str | None) -> None:
        self._url, self._pending = url, asyncio.Event()
        self._lines: deque[str] = deque(maxlen=100)

    def add(self, line: str) -> None:
        """Add a line to the next message."""
        self._lines.append(line)
        self._pending.set()

    async def run(self) -> None:
        """Send messages until cancelled."""
        timeout = aiohttp.ClientTimeout(total=10)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while await self._pending.wait():
                self._pending.clear()
                lines = list(self._lines)
                self._lines.clear()
                if not await self._send(session, "\n".join(lines)):
                    self._lines.extendleft(reversed(lines))
                    self._pending.set()
                await asyncio.sleep(EVERY)

    async def _send(self, session: aiohttp.ClientSession, text: str) -> bool:
        print(text)
        if self._url is None:
            return True
        try:
            async with session.post(self._url, json={"text": text}) as response:
                return response.ok
        except (aiohttp.ClientError, TimeoutError) as error:
            print("no alert sent:", type(error).__name__)  # Its text shows the URL.
            return False


async def main() -> None:
    alerts = Alerts(os.environ.get("WEBHOOK_URL"))
    alerting = asyncio.create_task(alerts.run())
    try:
        async with Client() as client, client.watch_trades(SYMBOLS) as ticks:
            alerts.add(f"watching {SYMBOLS}")
            async for event in ticks.events():
                if isinstance(event, Gap) and event.status != "filled":
                    seconds = (event.until - event.since).total_seconds()
                    alerts.add(
                        f"{event.topic}: {event.status} for {seconds:.1f} s, "
                        f"{event.recovered} trades recovered: {event.reason}"
                    )
                elif isinstance(event, Dropped):
                    alerts.add(f"too slow: {event.count} trades lost")
    finally:
        alerting.cancel()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        print("stopped")
