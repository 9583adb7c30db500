"""Charts of klines, for notebooks and as files: candles with volume.

>>> from qos_async.charts import candles
>>> bars = await client.fetch_klines("HK:700", interval="15m", count=200)
>>> candles(bars["HK:700"]).save("tencent.html")

``result.chart()`` does the same with a ``Result`` of one symbol. HTML is drawn by plotly,
PNG, SVG and notebooks by matplotlib, which are imported when they are needed:
``pip install 'qos-async[plot]'``.
"""

from __future__ import annotations

from qos_async.charts.chart import Chart, candles

__all__ = ["Chart", "candles"]
