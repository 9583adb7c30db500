"""A chart as a web page, by plotly."""

from __future__ import annotations

import html
import importlib
import json
from string import Template
from typing import Any

from qos_async.cli.charts.words import Picture

__all__ = ["page"]

_TICKS = 10
_RISE, _FALL = "#26a69a", "#ef5350"
_THEMES: dict[str, dict[str, str]] = {
    "light": {
        "paper": "#ffffff",
        "text": "#1f2933",
        "soft": "#6b7684",
        "grid": "#e8ecf1",
    },
    "dark": {
        "paper": "#0b0e14",
        "text": "#e6eaf0",
        "soft": "#8a94a3",
        "grid": "#1d2530",
    },
}
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
_FOLLOW = """\
const looks = $looks;
const chart = document.getElementById("chart");
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const follow = () => Plotly.relayout(chart, looks[dark.matches ? "dark" : "light"]);
dark.addEventListener("change", follow);
follow();
"""


def page(picture: Picture, *, theme: str, cdn: bool) -> str:
    """Write a whole page.

    Args:
        picture: What is drawn.
        theme: ``"light"``, ``"dark"``, or ``"auto"``: as the viewer's system has it.
        cdn: Whether the page loads plotly from the network instead of holding it.

    Raises:
        ModuleNotFoundError: Without plotly; the message says how to install it.
    """
    figure = _figure(picture, "light" if theme == "auto" else theme)
    looks = {name: _look(name) for name in _THEMES}
    chart: str = figure.to_html(
        full_html=False,
        include_plotlyjs="cdn" if cdn else True,
        div_id="chart",
        default_height="100%",
        config={"displaylogo": False, "scrollZoom": True, "responsive": True},
        post_script=_FOLLOW.replace("$looks", json.dumps(looks))
        if theme == "auto"
        else None,
    )
    light, dark = _THEMES["light"]["paper"], _THEMES["dark"]["paper"]
    return _PAGE.substitute(
        title=html.escape(f"{picture.title}  {picture.last}"),
        paper=dark if theme == "dark" else light,
        dark_paper=light if theme == "light" else dark,
        chart=chart,
    )


def _figure(picture: Picture, theme: str) -> Any:
    # Plotly has types, but what it makes at run time has none.
    graphs: Any = importlib.import_module("plotly.graph_objects")
    figure = graphs.Figure([_candles(graphs, picture), _volume(graphs, picture)])
    ticks = picture.ticks(_TICKS)
    labels = [picture.label(kline) for kline in picture.klines]
    figure.update_layout(
        title={"text": _title(picture), "x": 0.02, "y": 0.97, "yanchor": "top"},
        margin={"l": 24, "r": 72, "t": 84, "b": 64},
        font={"family": "system-ui, -apple-system, 'Segoe UI', sans-serif"},
        showlegend=False,
        hovermode="x",
        dragmode="pan",
        bargap=0.25,
        xaxis={
            # A category has its place, however long the market was closed before it.
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
        yaxis={"domain": [0.24, 1.0], "side": "right", "tickformat": picture.format},
        yaxis2={"domain": [0.0, 0.18], "side": "right", "nticks": 3},
        annotations=[_credit(picture)],
    )
    figure.update_layout(_look(theme))
    return figure


def _candles(graphs: Any, picture: Picture) -> Any:
    klines = picture.klines
    return graphs.Candlestick(
        x=[picture.label(kline) for kline in klines],
        open=[float(kline.open) for kline in klines],
        high=[float(kline.high) for kline in klines],
        low=[float(kline.low) for kline in klines],
        close=[float(kline.close) for kline in klines],
        increasing={"line": {"color": _RISE, "width": 1}, "fillcolor": _RISE},
        decreasing={"line": {"color": _FALL, "width": 1}, "fillcolor": _FALL},
        name="price",
    )


def _volume(graphs: Any, picture: Picture) -> Any:
    klines = picture.klines
    colours = [_RISE if kline.close >= kline.open else _FALL for kline in klines]
    return graphs.Bar(
        x=[picture.label(kline) for kline in klines],
        y=[float(kline.volume or 0) for kline in klines],
        marker={"color": colours, "opacity": 0.55, "line": {"width": 0}},
        yaxis="y2",
        name="volume",
        hovertemplate="volume %{y:,.6~g}<extra></extra>",
    )


def _title(picture: Picture) -> str:
    colour = _RISE if picture.rises else _FALL
    return (
        f"<b>{html.escape(picture.title)}</b>   {picture.last}   "
        f'<span style="color:{colour}">{picture.change}</span><br>'
        f'<span style="font-size:0.72em;opacity:0.7">{picture.span}</span>'
    )


def _credit(picture: Picture) -> dict[str, Any]:
    return {
        "text": html.escape(picture.credit),
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


def _look(theme: str) -> dict[str, Any]:
    """Give the colours of a theme, as ``Plotly.relayout`` takes them."""
    look = _THEMES[theme]
    axes = {
        f"{axis}.{name}": look[colour]
        for axis in ("xaxis", "yaxis", "yaxis2")
        for name, colour in (
            ("gridcolor", "grid"),
            ("linecolor", "grid"),
            ("tickfont.color", "soft"),
            ("zerolinecolor", "grid"),
        )
    }
    return {
        "paper_bgcolor": look["paper"],
        "plot_bgcolor": look["paper"],
        "font.color": look["text"],
        "xaxis.spikecolor": look["soft"],
        **axes,
    }
