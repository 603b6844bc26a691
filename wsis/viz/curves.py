"""Figures over the steps of a training, as line charts: SVG for the report page and for a file of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Chart", "Curve", "chart_html", "curves_file"]

WIDTH, HEIGHT = 360, 190
LEFT, TOP, BOTTOM = 30, 24, 30
COLORS = 6
_STYLE = """
text { font: 11px system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; fill: #5d616b; }
.page { fill: #ffffff; } .title { font-weight: 600; font-size: 13px; fill: #15161a; } .grid { stroke: #e2e3e9; }
.curve { fill: none; stroke-width: 2; stroke-linejoin: round; }
.curve-0 { stroke: #4b46d6; } .curve-1 { stroke: #d2622a; } .curve-2 { stroke: #14804a; }
.curve-3 { stroke: #b3307f; } .curve-4 { stroke: #2c87b8; } .curve-5 { stroke: #8a6d1d; }
.dot { stroke-width: 0; } .dot-0 { fill: #4b46d6; } .dot-1 { fill: #d2622a; } .dot-2 { fill: #14804a; }
.dot-3 { fill: #b3307f; } .dot-4 { fill: #2c87b8; } .dot-5 { fill: #8a6d1d; }
"""


@dataclass(frozen=True)
class Curve:
    """A line of a chart: one value for every step, NaN where there is none."""

    name: str
    steps: Sequence[float]
    values: Sequence[float]

    def points(self) -> list[tuple[float, float]]:
        """``(step, value)`` where there is a value, by step."""
        pairs = zip(self.steps, self.values, strict=True)
        return sorted((float(s), float(v)) for s, v in pairs if math.isfinite(v))


@dataclass(frozen=True)
class Chart:
    """Curves over one axis of steps; values are shares, written as percent."""

    title: str
    curves: Sequence[Curve]
    note: str = ""


def chart_html(chart: Chart) -> str:
    """The chart for the report page, whose style sheet colours it."""
    note = f"<p>{escape(chart.note)}</p>" if chart.note else ""
    return (
        f'<figure class="histogram curves"><figcaption>{escape(chart.title)}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(_spoken(chart))}">{_drawing(chart)}</svg>'
        f"{note}</figure>"
    )


def curves_file(charts: Sequence[Chart]) -> str:
    """An SVG document with the charts side by side."""
    gap, above = 24, 22
    width, height = len(charts) * (WIDTH + gap) + gap, HEIGHT + above + 20
    panels = "".join(
        f'<g transform="translate({gap + k * (WIDTH + gap)} {above})"><text class="title" x="0" y="0">'
        f'{escape(chart.title)}</text><g transform="translate(0 8)">{_drawing(chart)}</g></g>'
        for k, chart in enumerate(charts)
    )
    label = escape("; ".join(map(_spoken, charts)))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{label}"><style>{_STYLE}</style>'
        f'<rect class="page" width="{width}" height="{height}"/>{panels}</svg>\n'
    )


def _drawing(chart: Chart) -> str:
    """Grid, legend and curves, without the element around them."""
    lines = [curve.points() for curve in chart.curves]
    steps = [step for line in lines for step, _ in line] or [0.0, 1.0]
    low, high = min(0.0, *steps), max(1.0, *steps)
    top = _ceiling(max((value for line in lines for _, value in line), default=1.0))

    def place(step: float, value: float) -> tuple[float, float]:
        x = LEFT + (step - low) / (high - low) * (WIDTH - LEFT - 4)
        share = min(max(value / top, 0.0), 1.0)
        return round(x, 1), round(TOP + (1 - share) * (HEIGHT - TOP - BOTTOM), 1)

    parts = []
    for k in range(5):
        _, y = place(low, top * k / 4)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - 4}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{100 * top * k / 4:.3g}</text>')
    for step, anchor in ((low, "start"), (high, "end")):
        x, _ = place(step, 0)
        parts.append(f'<text x="{x}" y="{HEIGHT - BOTTOM + 17}" text-anchor="{anchor}">{step:,.0f}</text>')
    middle = (LEFT + WIDTH) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - BOTTOM + 17}" text-anchor="middle">step</text>')
    wide = (WIDTH - LEFT) / max(1, len(lines))
    for k, (curve, line) in enumerate(zip(chart.curves, lines)):
        parts += _curve(curve.name, [(step, value, *place(step, value)) for step, value in line], k % COLORS)
        x = LEFT + k * wide
        parts.append(f'<line class="curve curve-{k % COLORS}" x1="{x:.1f}" x2="{x + 14:.1f}" y1="9" y2="9"/>')
        parts.append(f'<text x="{x + 19:.1f}" y="13">{escape(curve.name)}</text>')
    return "".join(parts)


def _curve(name: str, line: Sequence[tuple[float, float, float, float]], color: int) -> list[str]:
    """A line of ``(step, value, x, y)`` and its dots, each with a title."""
    path = " ".join(f"{x},{y}" for *_, x, y in line)
    dots = [
        f"<g><title>{escape(name)}, step {step:,.0f}: {100 * value:.1f}</title>"
        f'<circle class="dot dot-{color}" cx="{x}" cy="{y}" r="2.6"/></g>'
        for step, value, x, y in line
    ]
    return [f'<polyline class="curve curve-{color}" points="{path}"/>', *dots]


def _ceiling(value: float) -> float:
    """The top of the axis: the next of a few round shares."""
    return next((top for top in (0.02, 0.04, 0.08, 0.2, 0.4, 0.6, 0.8) if value <= top), max(1.0, value))


def _spoken(chart: Chart) -> str:
    """The chart in words: where each curve ends."""
    ends = [
        f"{curve.name} {100 * line[-1][1]:.1f} at step {line[-1][0]:,.0f}"
        for curve in chart.curves
        if (line := curve.points())
    ]
    return f"{chart.title}: {', '.join(ends) or 'nothing measured'}"
