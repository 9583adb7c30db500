"""Chart as a web page, drawn by plotly."""

from __future__ import annotations

import html
import json
from string import Template
from typing import Any

from qos_async.cli.charts.model import THEMES, ChartModel

__all__ = ["page"]

_TICKS = 10
# The candles have the same colours in both themes.
_RISE, _FALL = THEMES["light"]["rise"], THEMES["light"]["fall"]
_PAGE = Template("""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<style>
html, body { margin: 0; height: 100%; background: $paper; }
@media (prefers-color-scheme: dark) { html, body { background: $dark_paper; } }
#chart { height: 100vh; min-height: 360px; }
</style>
</head>
<body>
$chart
</body>
</html>
""")
_FOLLOW_SYSTEM_THEME = """\
const layouts = $layouts;
const chart = document.getElementById("chart");
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const follow = () => Plotly.relayout(chart, layouts[dark.matches ? "dark" : "light"]);
dark.addEventListener("change", follow);
follow();
"""


def page(model: ChartModel, *, theme: str, cdn: bool) -> str:
    """Return a whole page.

    Args:
        model: What to draw.
        theme: ``"light"``, ``"dark"``, or ``"auto"``, the theme of the viewer's system.
        cdn: Whether the page loads plotly from the network instead of containing it.

    Raises:
        ModuleNotFoundError: If plotly is not installed.
    """
    figure = _figure(model, "light" if theme == "auto" else theme)
    layouts = {name: _layout(name) for name in THEMES}
    chart: str = figure.to_html(
        full_html=False,
        include_plotlyjs="cdn" if cdn else True,
        div_id="chart",
        default_height="100%",
        config={"displaylogo": False, "scrollZoom": True, "responsive": True},
        post_script=_FOLLOW_SYSTEM_THEME.replace("$layouts", json.dumps(layouts))
        if theme == "auto"
        else None,
    )
    light, dark = THEMES["light"]["paper"], THEMES["dark"]["paper"]
    return _PAGE.substitute(
        title=html.escape(f"{model.title}  {model.last}"),
        paper=dark if theme == "dark" else light,
        dark_paper=light if theme == "light" else dark,
        chart=chart,
    )


def _figure(model: ChartModel, theme: str) -> Any:
    from plotly import graph_objects

    graphs: Any = graph_objects  # Its classes are made at run time.
    figure = graphs.Figure([_candles(graphs, model), _volume(graphs, model)])
    ticks = model.ticks(_TICKS)
    labels = [model.label(kline) for kline in model.klines]
    figure.update_layout(
        title={"text": _title(model), "x": 0.02, "y": 0.97, "yanchor": "top"},
        margin={"l": 24, "r": 72, "t": 84, "b": 64},
        font={"family": "system-ui, -apple-system, 'Segoe UI', sans-serif"},
        showlegend=False,
        hovermode="x",
        dragmode="pan",
        bargap=0.25,
        xaxis={
            # Categories are evenly spaced: no room for the time a market is closed.
            "type": "category",
            "tickmode": "array",
            "tickvals": [labels[place] for place in ticks],
            "ticktext": list(ticks.values()),
            "rangeslider": {"visible": False},
            "anchor": "y2",
            "showspikes": True,
            "spikemode": "across",
            "spikethickness": 1,
            "spikedash": "dot",
        },
        yaxis={
            "domain": [0.24, 1.0],
            "side": "right",
            "tickformat": model.price_format,
        },
        yaxis2={"domain": [0.0, 0.18], "side": "right", "nticks": 3},
        annotations=[_credit(model)],
    )
    figure.update_layout(_layout(theme))
    return figure


def _candles(graphs: Any, model: ChartModel) -> Any:
    candles = model.candles
    return graphs.Candlestick(
        x=[model.label(kline) for kline in model.klines],
        open=[candle.open for candle in candles],
        high=[candle.high for candle in candles],
        low=[candle.low for candle in candles],
        close=[candle.close for candle in candles],
        increasing={"line": {"color": _RISE, "width": 1}, "fillcolor": _RISE},
        decreasing={"line": {"color": _FALL, "width": 1}, "fillcolor": _FALL},
        name="price",
    )


def _volume(graphs: Any, model: ChartModel) -> Any:
    candles = model.candles
    colours = [_RISE if candle.rises else _FALL for candle in candles]
    return graphs.Bar(
        x=[model.label(kline) for kline in model.klines],
        y=[candle.volume for candle in candles],
        marker={"color": colours, "opacity": 0.55, "line": {"width": 0}},
        yaxis="y2",
        name="volume",
        hovertemplate="volume %{y:,.6~g}<extra></extra>",
    )


def _title(model: ChartModel) -> str:
    change = model.change
    if model.rises is not None:
        colour = _RISE if model.rises else _FALL
        change = f'<span style="color:{colour}">{change}</span>'
    return (
        f"<b>{html.escape(model.title)}</b>   {model.last}   "
        f"{change}<br>"
        f'<span style="font-size:0.72em;opacity:0.7">{model.span}</span>'
    )


def _credit(model: ChartModel) -> dict[str, Any]:
    return {
        "text": html.escape(model.credit),
        "xref": "paper",
        "yref": "paper",
        "x": 0,
        "y": 0,
        "yshift": -52,
        "xanchor": "left",
        "showarrow": False,
        "font": {"size": 11},
        "opacity": 0.6,
    }


def _layout(theme: str) -> dict[str, Any]:
    """Return the colours of a theme as arguments of ``Plotly.relayout``."""
    colours = THEMES[theme]
    axes = {
        f"{axis}.{name}": colours[role]
        for axis in ("xaxis", "yaxis", "yaxis2")
        for name, role in (
            ("gridcolor", "grid"),
            ("linecolor", "grid"),
            ("tickfont.color", "soft"),
            ("zerolinecolor", "grid"),
        )
    }
    return {
        "paper_bgcolor": colours["paper"],
        "plot_bgcolor": colours["paper"],
        "font.color": colours["text"],
        "xaxis.spikecolor": colours["soft"],
        **axes,
    }
