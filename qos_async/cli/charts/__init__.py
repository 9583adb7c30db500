"""``qos chart``: klines as candles with volume.

``model`` has the texts, axis labels and colours of every chart; ``html``, ``png`` and
``terminal`` draw it. The candles of the terminal are those of ``qos watch``.
"""
