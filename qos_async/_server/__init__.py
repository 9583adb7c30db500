"""The server half of the protocol that the simulator, a replay server and the hub share.

``connection`` has the server side of a websocket, ``parsing`` reads commands and requests.
What a server does with them, and what it sends, is its own: ``qos_async.sim`` and
``qos_async.hub``. Nothing here imports the client.
"""
