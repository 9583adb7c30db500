"""The protocol without I/O, and the map of the package.

Nothing here awaits, reads a clock, draws a random number or writes to the log. Time is an
argument, in seconds of the caller's clock; points in time end in ``_at``, and "never" is
``math.inf``. So the whole protocol is tested with plain numbers. ``qos_async._io`` has the
sockets, the tasks and the clocks.

The picture::

                   _io                              _core                    _io
    bytes ─▶ FastFrameParser ─▶ Receiver ─▶ StreamProtocol.receive_ticks ─▶ Dispatcher
                                               │ Registry · CommandScheduler    │ Router
    bytes ◀─ Socket.send ◀─ LinkSupervisor ◀─ StreamProtocol.poll         SubscriptionQueue
                                               ▲                                │
                                               └─ want, release, request ◀─ user ◀─ async for

Data flows to the right above, intent to the left below; they meet in ``StreamProtocol``.

Where a tick goes, function by function (``async for trade in client.watch_trades(...)``,
one topic, nothing else in progress)::

    _io.frame_splitter      FastFrameParser.feed_data, ._split   bytes to whole frames
    _io.receiver            Receiver.on_frames                   counts, order of steps
    _core.protocol          StreamProtocol.receive_ticks         decoding, liveness
    _core.decoding          RecordDecoder.decode_ticks           frames to records
    _io.dispatcher          Dispatcher.dispatch                  stamp, subscribers
    _io.subscription_queue  SubscriptionQueue.put                final klines, wakes the task
    _core.buffers           put                                  the buffer's policy
    _io.subscription        Subscription.__anext__               returns it to the user
    _io.subscription_queue  SubscriptionQueue.wait               waits for the next one

Each of them handles many ticks as one list: a burst costs one call a step and not one a
tick. In a burst that has replies among the ticks, the frames go one by one through
``StreamProtocol.receive``; events then go to ``Dispatcher.on_event``, ticks to ``dispatch``.

Where a tick goes that arrives while a topic is unacknowledged, interrupted or in recovery,
or while a recovered trade may be pushed again::

    _io.dispatcher          Dispatcher._dispatch_one_by_one      stamp
    _io.gap_delivery        GapDelivery.intercept                opens the case, holds it
    _core.recovery          Recovery.hold                        until the case is closed:
    _core.protocol          StreamProtocol._on_request_reply     by the reply,
    _core.protocol          StreamProtocol.tick                  or by its deadline
    _io.dispatcher          Dispatcher.on_event(Recovered)
    _io.gap_delivery        GapDelivery.finish_recovery          gap, recovered, held

Where a subscription goes::

    watching                Watching.watch_trades                symbols to topics
    _io.stream              Stream.subscribe                     limits, the queue
    _io.gap_delivery        GapDelivery.add_queue                router, recovery
    _core.registry          Registry.want                        what is wanted
    _io.supervisor          LinkSupervisor._send_loop            wakes
    _core.protocol          StreamProtocol.poll                  what to send now
    _core.scheduler         CommandScheduler.poll                whose turn it is
    _core.registry          Registry.next_change                 wanted - held
    _core.wire              change_frame                         the bytes
    _io.aiohttp_transport   Socket.send                          the socket
    ... the acknowledgement arrives as a frame:
    _core.protocol          StreamProtocol.receive, ._on_ack     held
    _io.dispatcher          Dispatcher.on_event                  to the queues
    _io.subscription_queue  AckTracker.ack                       ``async with`` goes on

There is no queue of subscribe commands. ``Registry`` keeps what is wanted and what the
server has acknowledged; the next command is the difference, computed when the pace allows
a frame. So a burst of calls folds into one frame a channel, and a reconnect needs no code
of its own: it is the same difference, against an empty server. Nearly half of the functions
that run for a subscription belong to the send loop, which looks at every deadline each time
that it wakes: one loop with one wake-up time replaces a timer for each of them.

Where to change:

=====================================  ==================================================
the time between two frames            ``rate_limits.Pacer``, ``config.Limits``
the HTTP quota                         ``rate_limits.Quota``
the back-off, a close code             ``link``; numbers in ``config.Timing``
heartbeats, a silent link              ``keepalive``
which frame is sent next               ``scheduler``
what is subscribed, rejected batches   ``registry``
what a frame looks like                ``wire``
how a frame becomes a record           ``decoding``; the fields are in ``models``
a request and its parameters           ``queries``, its response in ``responses``
what an outage missed                  ``recovery``: read its docstring first
how long ticks are held back           ``recovery``: ``_CLOSE_AFTER``, ``_CLOSE_AT_LATEST``
what a full buffer does                ``buffers``
what ``events()`` emits                ``notices``; emitted by ``_io.gap_delivery``
=====================================  ==================================================

Vocabulary, one word for one thing:

========================  =============================================================
symbol                    ``"US:AAPL"``, canonical; never code or ticker
topic                     a channel and a symbol; for klines, and an interval
push, tick, row           an undecoded push frame; a decoded record; a raw JSON object
subscribe, unsubscribe    what a user does; add and remove are for collections
change                    one subscribe or unsubscribe command of some topics
query, request, reply     the description; one in flight; what the server sends back
ack, reject               the server's OK to a change; its refusal
wanted, held              topics with a subscription; those that the server pushes
dirty, settled            wanted and held differ, or may differ, on topics; on none
hold back                 keep ticks until a case is closed; ``Stats.held`` counts them
link                      one websocket connection; the stream goes on across links
outage                    from when a topic may have missed something, until that is
                          recovered or given up
gap                       what a subscription is given for an outage
interrupted               a topic of a subscription whose gap is not emitted yet
suspect, case, echo       see ``recovery``
recover                   fetch what an outage missed; resubscribe is for topics
tail, window              the last ticks delivered; the rows that the server returned
subscriber, consumer      a subscription in the router; the user's task
notify, emit, deliver     wake tasks; events; ticks
pacer, quota              the pace of frames; the budget of HTTP requests
deadline, timeout         a point in time; seconds
close, abort, stop        with a close frame; without one; for tasks
========================  =============================================================
"""
