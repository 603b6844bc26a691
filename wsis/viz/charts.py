"""Line charts as SVG, without a plotting library."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Chart", "charts_svg"]

_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#000000")
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 460, 300, 64, 24, 34, 46


@dataclass(frozen=True)
class Chart:
    """One chart: series of ``(x, y)`` points by name, joined in their order; those without a number are left out."""

    title: str
    x: str
    y: str
    series: Mapping[str, Sequence[tuple[float, float]]]


def charts_svg(charts: Sequence[Chart]) -> str:
    """The charts one below the other, as the text of an SVG file."""
    parts, top = [], 0
    for chart in charts:
        height = _HEIGHT + 16 * len(chart.series) + 24
        parts.append(f'<g transform="translate(0 {top})">{_chart(chart)}</g>')
        top += height
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{top}" viewBox="0 0 {_WIDTH} {top}" '
        f'font-family="sans-serif" font-size="12"><rect width="{_WIDTH}" height="{top}" fill="#fff"/>'
        f"{''.join(parts)}</svg>\n"
    )


def _chart(chart: Chart) -> str:
    series = {
        name: [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
        for name, points in chart.series.items()
    }
    points = [point for line in series.values() for point in line]
    parts = [f'<text x="{_LEFT}" y="20" font-weight="bold">{escape(chart.title)}</text>']
    if not points:
        return parts[0] + f'<text x="{_LEFT}" y="60">nothing to draw</text>'
    ticks_x, ticks_y = _ticks([x for x, _ in points]), _ticks([y for _, y in points] + [0.0])
    (low_x, high_x), (low_y, high_y) = (ticks_x[0], ticks_x[-1]), (ticks_y[0], ticks_y[-1])

    def place(x: float, y: float) -> tuple[float, float]:
        across = _LEFT + (x - low_x) / (high_x - low_x) * (_WIDTH - _LEFT - _RIGHT)
        return across, _HEIGHT - _BOTTOM - (y - low_y) / (high_y - low_y) * (_HEIGHT - _TOP - _BOTTOM)

    for y in ticks_y:
        _, down = place(low_x, y)
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{down:.1f}" y2="{down:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{down + 4:.1f}" text-anchor="end">{y:.4g}</text>')
    for x in ticks_x:
        across, _ = place(x, low_y)
        parts.append(f'<text x="{across:.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{x:.4g}</text>')
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{_HEIGHT - 10}" text-anchor="middle">{escape(chart.x)}</text>')
    parts.append(f'<text x="14" y="{_HEIGHT / 2}" text-anchor="middle" transform="rotate(-90 14 {_HEIGHT / 2})">')
    parts.append(f"{escape(chart.y)}</text>")
    for k, (name, line) in enumerate(series.items()):
        color = _COLORS[k % len(_COLORS)]
        places = [place(x, y) for x, y in line]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        for (x, y), (across, down) in zip(line, places):
            note = f"<title>{escape(name)}: {x:.4g}, {y:.4g}</title>"
            parts.append(f'<circle cx="{across:.1f}" cy="{down:.1f}" r="3" fill="{color}">{note}</circle>')
        down = _HEIGHT + 16 * (k + 1)
        parts.append(f'<rect x="{_LEFT}" y="{down - 9}" width="14" height="3" fill="{color}"/>')
        parts.append(f'<text x="{_LEFT + 20}" y="{down - 3}">{escape(name)}</text>')
    return "".join(parts)


def _ticks(values: Sequence[float]) -> list[float]:
    """Three to seven round numbers in equal steps from at most the smallest value to at least the largest."""
    low, high = min(values), max(values)
    if high <= low:
        low, high = low - 0.5, high + 0.5
    size = 10.0 ** math.floor(math.log10(high - low))
    step = next(part * size for part in (0.2, 0.5, 1, 2) if (high - low) / (part * size) <= 5)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]
