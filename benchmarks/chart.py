"""Results as a table and a chart: Markdown, plain text, and PNG."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from benchmarks.harness import Figure, Goal, Report, installed, shown

__all__ = ["bars", "picture", "table", "write_all"]

_WIDTH = 40
_CHARTED = "million ticks a second"
_OURS = ("async for", "batches()", "default")


def write_all(reports: list[Report], folder: Path) -> list[str]:
    """Write table and charts; return the names of the files."""
    folder.mkdir(exist_ok=True)
    texts = {"table.md": table(reports), "chart.txt": bars(reports)}
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    drawn = picture(reports, folder / "chart.png")
    return [*texts, *(["chart.png"] if drawn else [])]


def table(reports: list[Report]) -> str:
    """Return the goals, then all figures, as Markdown."""
    lines = [
        "# Results",
        "",
        *_about(reports),
        "",
        "| goal | what | median (middle half) | bound | |",
        "|---|---|---|---|---|",
    ]
    goals = [goal for report in reports for goal in report.goals]
    lines += map(_row, sorted(goals, key=lambda goal: goal.goal))
    for report in reports:
        lines += ["", f"## {report.benchmark}", ""]
        lines += ["| | | median (middle half) |", "|---|---|---|"]
        lines += [
            f"| {one.group} | {one.name} | {shown(one.value, one.unit)} |"
            for one in report.figures
        ]
        lines += [line for text in report.notes for line in ("", f"Note: {text}.")]
    return "\n".join(lines) + "\n"


def _row(goal: Goal) -> str:
    met = "met" if goal.met else "**not met**"
    return (
        f"| {goal.goal} | {goal.what} | {shown(goal.value, goal.unit)} "
        f"| {goal.sense} {goal.bound:g} | {met} |"
    )


def _about(reports: list[Report]) -> Iterable[str]:
    facts: dict[str, str] = {}
    for report in reports:
        for name, value in report.about.items():
            facts.setdefault(name, value)
    yield from (f"- {name}: {value}" for name, value in facts.items())
    rounds = ", ".join(f"{report.benchmark} {report.rounds}" for report in reports)
    yield f"- rounds: {rounds}"


def _charted(reports: list[Report]) -> list[tuple[str, list[Figure]]]:
    found = [
        (one.benchmark, [f for f in one.figures if f.group == _CHARTED])
        for one in reports
    ]
    return [
        (name, sorted(figures, key=lambda figure: -figure.value.median))
        for name, figures in found
        if figures
    ]


def bars(reports: list[Report]) -> str:
    """Return a bar chart of ticks a second, as text."""
    lines: list[str] = []
    for name, figures in _charted(reports):
        most = max(figure.value.median for figure in figures)
        lines += [f"{name}: {_CHARTED}", ""]
        for figure in figures:
            value = figure.value.median
            bar = "█" * max(1, round(value / most * _WIDTH))
            lines.append(f"  {figure.name:<38} {bar} {value:.3g}")
        lines.append("")
    return "\n".join(lines)


def picture(reports: list[Report], path: Path) -> bool:
    """Draw the same as PNG; returns False without matplotlib."""
    matplotlib = installed("matplotlib")
    charted = _charted(reports)
    if matplotlib is None or not charted:
        return False
    matplotlib.use("Agg")
    pyplot = installed("matplotlib.pyplot")
    rows = [len(figures) for _, figures in charted]
    figure, axes = pyplot.subplots(
        len(charted),
        figsize=(9, 1.2 * len(charted) + 0.32 * sum(rows)),
        height_ratios=rows,
        squeeze=False,
        layout="constrained",
    )
    for axis, (name, figures) in zip(axes[:, 0], charted, strict=True):
        values = [one.value.median for one in figures]
        spread = [
            [one.value.median - one.value.low for one in figures],
            [one.value.high - one.value.median for one in figures],
        ]
        colours = [
            "tab:blue" if one.name.startswith(_OURS) else "lightgrey" for one in figures
        ]
        drawn = axis.barh(
            [one.name for one in figures],
            values,
            xerr=spread,
            color=colours,
            ecolor="grey",
        )
        axis.bar_label(drawn, fmt="%.3g", padding=3)
        axis.invert_yaxis()
        axis.margins(x=0.12)
        axis.set_title(f"{name}: {_CHARTED} (blue: qos_async)", loc="left")
    figure.savefig(path, dpi=120, metadata={"Software": None})
    pyplot.close(figure)
    return True
