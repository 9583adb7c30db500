"""Chart as a web page, drawn by plotly."""

from __future__ import annotations

import html
import json
from string import Template
from typing import Any

from qos_async.charts.model import THEMES, Average, ChartModel
from qos_async.charts.ticks import LEAST_GAP

__all__ = ["page"]

_TICKS = 10
_RIGHT, _LEFT = 76, 20
"""Margins in pixels; the right one holds the prices."""
_CDN = "https://cdn.plot.ly"
# The page connects to no address, whatever plotly would load or upload.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'$cdn; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:"
)
# A list of what is wanted: a button that a later plotly adds is not in it.
_BUTTONS = [["pan2d", "zoom2d", "zoomIn2d", "zoomOut2d", "resetScale2d", "toImage"]]
_CONFIG = {
    "displaylogo": False,
    "doubleClick": "reset",
    "modeBarButtons": _BUTTONS,
    "responsive": True,
    "scrollZoom": True,
    "showSendToCloud": False,
}
_PAGE = Template("""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="$policy">
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
_FOLLOW_ZOOM = """\
const chart = document.getElementById("chart");
const view = $view;
const ticks = (first, last, most) => {
  const inside = level => level.filter(tick => tick.place >= first && tick.place <= last);
  const all = view.levels.map(inside);
  const level = all.find(one => one.length && one.length <= most) || [];
  const shown = [], gap = $gap * (last - first + 1) / most;
  for (const tick of level) {
    const before = shown[shown.length - 1];
    const near = before && tick.place - before.place < gap;
    if (near && (before.major || !tick.major)) continue;
    if (near) shown.pop();
    shown.push(tick);
  }
  return shown;
};
const format = new Intl.NumberFormat("en-US", {
  minimumFractionDigits: view.places, maximumFractionDigits: view.places,
});
// Round prices; one that the tag of the last price would cover in part has no text.
const roundPrices = (bottom, top, height) => {
  const least = (top - bottom) / 9, power = 10 ** Math.floor(Math.log10(least));
  const step = [1, 2, 2.5, 5, 10].map(one => one * power).find(one => one >= least);
  const hidden = 30 * (top - bottom) / height, found = [];
  for (let n = Math.ceil(bottom / step); n * step <= top; n++) {
    const near = Math.abs(n * step - view.last) < hidden;
    found.push({value: n * step, text: near ? "" : format.format(n * step)});
  }
  return found;
};
const fit = () => {
  const [from, to] = chart.layout.xaxis.range;
  const first = Math.max(Math.ceil(from), 0);
  const last = Math.min(Math.floor(to), view.low.length - 1);
  if (first > last) return;
  const low = Math.min(...view.low.slice(first, last + 1));
  const high = Math.max(...view.high.slice(first, last + 1));
  const volume = Math.max(...view.volume.slice(first, last + 1));
  const margin = (high - low) * 0.05 || Math.abs(high) * 0.0005 || 1;
  const [bottom, top] = [low - margin, high + margin];
  const prices = roundPrices(bottom, top, chart.clientHeight);
  const width = chart.clientWidth - $margins;
  const shown = ticks(first, last, Math.min(Math.max(Math.floor(width / 95), 2), $most));
  Plotly.relayout(chart, {
    "yaxis.range": [bottom, top],
    "yaxis.tickvals": prices.map(price => price.value),
    "yaxis.ticktext": prices.map(price => price.text),
    "yaxis2.range": [0, volume * 1.08 || 1],
    "xaxis.tickvals": shown.map(tick => tick.place),
    "xaxis.ticktext": shown.map((tick, place) => place ? tick.text : tick.full),
  });
};
chart.on("plotly_relayout", change => {
  if (Object.keys(change).some(key => key.startsWith("xaxis.range"))) fit();
});
window.addEventListener("resize", fit);
fit();
"""
_FOLLOW_SYSTEM_THEME = """\
const layouts = $layouts;
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
    chart: str = figure.to_html(
        full_html=False,
        include_plotlyjs="cdn" if cdn else True,
        div_id="chart",
        default_height="100%",
        config=_CONFIG,
        post_script=_script(model, theme),
    )
    light, dark = THEMES["light"]["paper"], THEMES["dark"]["paper"]
    return _PAGE.substitute(
        title=html.escape(f"{model.title}  {model.last}"),
        policy=Template(_POLICY).substitute(cdn=f" {_CDN}" if cdn else ""),
        paper=dark if theme == "dark" else light,
        dark_paper=light if theme == "light" else dark,
        chart=chart,
    )


def _script(model: ChartModel, theme: str) -> str:
    """Return what keeps labels, the price axis and the theme in step with the viewer."""
    view = {
        "places": model.places,
        "last": model.candles[-1].close,
        "low": [candle.low for candle in model.candles],
        "high": [candle.high for candle in model.candles],
        "volume": [candle.volume for candle in model.candles],
        "levels": [[tick._asdict() for tick in level] for level in model.tick_levels],
    }
    values = {
        "view": json.dumps(view),
        "gap": LEAST_GAP,
        "margins": _LEFT + _RIGHT,
        "most": _TICKS,
    }
    script = Template(_FOLLOW_ZOOM).substitute(values)
    if theme != "auto":
        return script
    layouts = json.dumps({name: _layout(name) for name in THEMES})
    return script + Template(_FOLLOW_SYSTEM_THEME).substitute(layouts=layouts)


def _figure(model: ChartModel, theme: str) -> Any:
    from plotly import graph_objects  # noqa: PLC0415 - an extra

    graphs: Any = graph_objects  # Its classes are made at run time.
    figure = graphs.Figure(
        [
            *(_candles(graphs, model, rises=rises) for rises in (True, False)),
            *(_average(graphs, average) for average in model.averages),
            _volume(graphs, model),
            _details(graphs, model),
        ]
    )
    figure.update_layout(
        title={
            "text": _title(model),
            "x": 0,
            "y": 1,
            "yanchor": "top",
            "pad": {"l": _LEFT, "t": 26},
        },
        margin={"l": _LEFT, "r": _RIGHT, "t": 100, "b": 64},
        font={"family": "system-ui, -apple-system, 'Segoe UI', sans-serif"},
        showlegend=False,
        hovermode="x",
        hoverlabel={"align": "left"},
        dragmode="pan",
        bargap=0.25,
        boxmode="overlay",
        annotations=[_credit(model), _last_tag(model)],
        shapes=[_last_line(model)],
        **_axes(model),
    )
    figure.update_layout(_layout(theme))
    return figure


def _axes(model: ChartModel) -> dict[str, Any]:
    ticks, count = model.ticks(_TICKS), len(model.klines)
    return {
        # A place for each bar: no room for the time a market is closed.
        "xaxis": {
            "range": [-1, count],
            "minallowed": -1,
            "maxallowed": count,
            "tickvals": [tick.place for tick in ticks],
            "ticktext": [tick.text for tick in ticks],
            "rangeslider": {"visible": False},
            "anchor": "y2",
            "zeroline": False,
            "showspikes": True,
            "spikemode": "across",
            "spikethickness": 1,
            "spikedash": "dot",
            "spikesnap": "data",
        },
        # Its range follows that of the other axis.
        "yaxis": {
            "domain": [0.24, 1.0],
            "side": "right",
            "fixedrange": True,
            "zeroline": False,
            "tickformat": model.price_format,
        },
        "yaxis2": {
            "domain": [0.0, 0.18],
            "side": "right",
            "fixedrange": True,
            "nticks": 3,
        },
    }


def _candles(graphs: Any, model: ChartModel, *, rises: bool) -> Any:
    """Return the candles of one colour.

    Plotly would compare a bar that closes at its open with the bar before it.
    """
    places = [n for n, one in enumerate(model.candles) if one.rises is rises]
    candles = [model.candles[place] for place in places]
    colour = model.look.colours[rises]
    style = {"line": {"color": colour, "width": 1}, "fillcolor": colour}
    return graphs.Candlestick(
        x=places,
        open=[candle.open for candle in candles],
        high=[candle.high for candle in candles],
        low=[candle.low for candle in candles],
        close=[candle.close for candle in candles],
        increasing=style,
        decreasing=style,
        hoverinfo="skip",
        name="rises" if rises else "falls",
    )


def _average(graphs: Any, average: Average) -> Any:
    return graphs.Scatter(
        x=list(range(len(average.values))),
        y=average.values,
        mode="lines",
        line={"color": average.colour, "width": 1.4},
        hoverinfo="skip",
        name=average.name,
    )


def _volume(graphs: Any, model: ChartModel) -> Any:
    candles, colours = model.candles, model.look.colours
    return graphs.Bar(
        x=list(range(len(candles))),
        y=[candle.volume for candle in candles],
        marker={
            "color": [colours[candle.rises] for candle in candles],
            "opacity": 0.55,
            "line": {"width": 0},
        },
        yaxis="y2",
        hoverinfo="skip",
        name="volume",
    )


def _details(graphs: Any, model: ChartModel) -> Any:
    """Return points that are not seen, with the texts under the pointer."""
    count = len(model.klines)
    texts = ["<br>".join(map(html.escape, model.details(n))) for n in range(count)]
    return graphs.Scatter(
        x=list(range(count)),
        y=[candle.high for candle in model.candles],
        mode="markers",
        marker={"opacity": 0},
        text=texts,
        hoverinfo="text",
        name="details",
    )


def _title(model: ChartModel) -> str:
    changes = "   ".join(
        change.text
        if change.rises is None
        else _coloured(change.text, model.look.colours[change.rises])
        for change in model.changes
    )
    averages = "".join(
        f"   {_coloured(one.name, one.colour)}" for one in model.averages
    )
    return (
        f"<b>{html.escape(model.title)}</b>   {model.last}<br>"
        f'<span style="font-size:0.8em">{changes}</span><br>'
        f'<span style="font-size:0.72em;opacity:0.7">{html.escape(model.span)}'
        f"{averages}</span>"
    )


def _coloured(text: str, colour: str) -> str:
    return f'<span style="color:{colour}">{text}</span>'


def _last_line(model: ChartModel) -> dict[str, Any]:
    last = model.candles[-1]
    colour = model.look.colours[last.rises]
    return {
        "type": "line",
        "xref": "paper",
        "x0": 0,
        "x1": 1,
        "y0": last.close,
        "y1": last.close,
        "line": {"color": colour, "width": 1, "dash": "dot"},
    }


def _last_tag(model: ChartModel) -> dict[str, Any]:
    last = model.candles[-1]
    return {
        "text": f"<b>{model.last}</b>",
        "xref": "paper",
        "x": 1,
        "y": last.close,
        "xanchor": "left",
        "showarrow": False,
        "bgcolor": model.look.colours[last.rises],
        "borderpad": 2,
        "font": {"color": "#ffffff"},
    }


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
        "hoverlabel.bgcolor": colours["paper"],
        "hoverlabel.bordercolor": colours["soft"],
        "hoverlabel.font.color": colours["text"],
        "xaxis.spikecolor": colours["soft"],
        **axes,
    }
