"""Streams of NATS JetStream as recordings that many programs read. Private.

A recorder writes into a stream what it would write into a directory; followers and
replays read it from there. From the bottom up::

    places      "nats://a,nats://b/STREAM": servers, stream, credentials
    wire        connect, publish, subscribe, request; a new client after each failure
    api         requests to JetStream and their errors
    streams     creation with explicit limits, comparison of an existing one
    subjects    topic <-> subject
    messages    header and payload <-> entries
    lease       one holder of a key; the epoch that fences older ones
    publisher   window, batches, acknowledgements, order
    spool       what the stream does not have yet, in memory and on disk
    spool_log   what a client receives -> messages in the spool
    sender      spool -> publisher, epoch by epoch; what the server lost, again
    gate        the lease as the gate before the dials of a client
    takeover    what the recorder before has left to be recovered
    session     the tasks and connections of a recorder
    summary     what a stream has, without its ticks
    recorder    the recorder itself, which ``qos_async.Recorder`` returns for a stream

    pull        messages from a sequence on, whatever happens to the consumer at the server
    order       which messages count, and in which order
    wanted      topics -> the subjects that are read
    feed        pull, order and wanted together, for as long as the broker is away
    outage      an absent broker as an outage of the log
    start       where to begin, and the state of the recorders there
    durables    durable names: the place of a follower and its process, in a bucket
    direct      several stored messages for one request
    values      replies of a follower, from the last messages
    source      the entries of a stream, for ``qos_async.recordings``

Only ``nats_client``, which ``wire`` loads, imports nats-py, which is used for bytes on a socket: reconnects, windows,
batches and deadlines are of this package. Vocabulary: an *epoch* is a number that a recorder
takes with a message, its *fence*, when it takes over: above all before, and at least the time;
*counter* numbers the messages of an epoch; a
*revision* is the sequence of the last message on a subject. An *era* is a part of a spool
with one epoch, which may begin before the epoch is known.
"""
