"""A hub: one key for every program on a machine, in any language.

    async with Hub(Client(), port=8765) as hub:
        await hub.serve_forever()

``server`` listens, ``guard`` decides what is served, ``commands`` processes the frames of
one client and ``link`` sends to it. ``relay`` has the one subscription upstream: ``places``
folds the clients' topics into it, ``live`` keeps what arrived. ``upstream`` is what they
need of the client, ``followed`` the same for a follower. ``answers`` replies to
requests: from ``live``, from ``kept`` bars, or through ``questions``, which merges what
the clients ask the service.
"""

from qos_async.hub.server import Hub
from qos_async.hub.stats import HubClientStats, HubStats
from qos_async.hub.tokens import Token

__all__ = ["Hub", "HubClientStats", "HubStats", "Token"]
