"""Tell a webhook of every hole in the data, but not more often than once a minute.

``WEBHOOK_URL`` gets ``{"text": ...}``, as Slack, Mattermost and others take it; without
it alerts are printed. Alerts never hold the ticks up: they are sent by another task.
"""

import asyncio
import os
from collections import deque

import aiohttp

from qos_async import Client, Dropped, Gap

SYMBOLS = "CF:BTCUSDT,ETHUSDT"
EVERY = 60.0  # Seconds between two alerts; what happens meanwhile is told together.


class Alerts:
    """What is to be told; what could not be told is told again."""

    def __init__(self, url: str | None) -> None:
        self._url, self._news = url, asyncio.Event()
        self._lines: deque[str] = deque(maxlen=100)

    def tell(self, line: str) -> None:
        """Take a line; it is sent with the next alert."""
        self._lines.append(line)
        self._news.set()

    async def run(self) -> None:
        """Send, for ever."""
        patience = aiohttp.ClientTimeout(total=10)
        async with aiohttp.ClientSession(timeout=patience) as session:
            while await self._news.wait():
                self._news.clear()
                lines = list(self._lines)
                self._lines.clear()
                if not await self._send(session, "\n".join(lines)):
                    self._lines.extendleft(reversed(lines))
                    self._news.set()
                await asyncio.sleep(EVERY)

    async def _send(self, session: aiohttp.ClientSession, text: str) -> bool:
        print(text)
        if self._url is None:
            return True
        try:
            async with session.post(self._url, json={"text": text}) as answer:
                return answer.ok
        except (aiohttp.ClientError, TimeoutError) as error:
            print("no alert sent:", type(error).__name__)  # Its text shows the URL.
            return False


async def main() -> None:
    alerts = Alerts(os.environ.get("WEBHOOK_URL"))
    alerting = asyncio.create_task(alerts.run())
    try:
        async with Client() as client, client.watch_trades(SYMBOLS) as ticks:
            alerts.tell(f"watching {SYMBOLS}")
            async for event in ticks.events():
                if isinstance(event, Gap) and event.status != "filled":
                    seconds = (event.until - event.since).total_seconds()
                    alerts.tell(
                        f"{event.topic}: {event.status} for {seconds:.1f} s, "
                        f"{event.recovered} trades got back: {event.reason}"
                    )
                elif isinstance(event, Dropped):
                    alerts.tell(f"too slow: {event.count} trades lost")
    finally:
        alerting.cancel()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        print("stopped")
