"""``qos watch``: a market on one screen.

``model`` keeps what is to be shown, and the modules beside it draw that as lines of
text: pure, time is an argument. ``feed`` reads a client into the model. ``app`` puts the
lines on the terminal; it and ``panel`` alone need textual, from the extra ``cli``.
"""
