"""``qos chart``: klines as a picture.

``words`` writes what stands on every picture; ``html``, ``png`` and ``terminal`` draw one
each. The candles of the terminal are those of ``qos watch``.
"""
