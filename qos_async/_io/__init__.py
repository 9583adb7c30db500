"""Sockets, tasks, clocks and the log: the shell around ``qos_async._core``.

``_core/__init__`` has the map: the picture, the vocabulary, and the ways of a tick and of a
subscription. Here is who owns what::

    Client ─┬─ HttpClient ── RateLimiter, retry, http_errors
            │      └──────── AiohttpSession (shared; borrowed or owned)
            └─ Stream ──┬─── LinkSupervisor: the only two tasks
                        │      ├─ Transport.dial ─▶ Socket     (aiohttp_transport)
                        │      ├─ Receiver: frames ─▶ protocol ─▶ Dispatcher
                        │      └─ send loop: time, and frames out
                        ├─── Dispatcher ── GapDelivery ─▶ SubscriptionQueue
                        ├─── PendingReplies: requests over the link
                        └─── StatsCollector
    Subscription ── SubscriptionQueue ◀─ iterators (events, batches, frames)

- ``transport`` has what the stream needs of a network (``Transport``, ``Socket``), its
  errors, and ``FrameObserver``, which a recorder implements; one that is also a
  ``dial_gate.DialGate`` decides when links are opened. A replay brings another
  transport (``recordings.replay_transport``), tests an in-memory one.
- ``Stream`` starts one task. It runs ``LinkSupervisor.run``, in whose task group one task
  dials and receives, and one keeps the time and sends.
- A decision is made synchronously and then carried out: no half of one is held across an
  ``await``. A producer never waits for a consumer.
- ``LoopBinding`` ties a client to one event loop of one process. ``clocks`` has the wall
  clock, and finds out that the machine was suspended.
- Exceptions of aiohttp are translated in ``aiohttp_transport`` and ``http_errors`` only:
  they hold the request headers, and so the key (``secret``).
"""

import logging

# A library writes to the log only where its user has asked for one.
logging.getLogger("qos_async").addHandler(logging.NullHandler())
