"""Pieces of the report page as HTML; every text from outside is escaped here."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from wsis.viz.colors import distinct_colors
from wsis.viz.report_data import FaultGroup, Histogram, Lines, ReportTable

__all__ = ["faults_html", "figures_html", "histogram_html", "lines_html", "settings_html", "table_html"]


def figures_html(figures: Sequence[tuple[str, str, str]]) -> str:
    """The row of large numbers."""
    return "".join(
        f'<div class="figure"><dt>{escape(what)}</dt><dd>{escape(value)}</dd><p>{escape(remark) or "&nbsp;"}</p></div>'
        for what, value, remark in figures
    )


def table_html(table: ReportTable) -> str:
    """A sortable table."""
    numeric = [_is_numeric(row[k] for row in table.rows) for k in range(len(table.columns))]
    heads = "".join(
        f'<th scope="col"{_right(numeric[k])} aria-sort="none"><button type="button">{escape(name)}</button></th>'
        for k, name in enumerate(table.columns)
    )
    body = "".join(f"<tr>{_cells(table, row, numeric)}</tr>" for row in table.rows)
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    return (
        f'<h3>{escape(table.title)}</h3>{note}<div class="scroll" tabindex="0" role="region" '
        f'aria-label="{escape(table.title)}"><table class="sortable"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _cells(table: ReportTable, row: Sequence[Any], numeric: list[bool]) -> Iterator[str]:
    cells = []
    for k, value in enumerate(row):
        key = f' data-value="{_plain(value)}"' if numeric[k] else ""
        text = escape(number(value))
        if table.columns[k] in table.bars and _is_finite(value):
            share = max(0.0, min(1.0, float(value)))
            bar = f'<span class="bar"><i style="width:{share:.1%}"></i></span>'
            text = f'{bar}<span class="share">{100 * share:.1f}</span>'
        tag = 'th scope="row"' if k == 0 else "td"
        cells.append(f"<{tag}{_right(numeric[k])}{key}>{text}</{tag.split()[0]}>")
    return "".join(cells)


def histogram_html(histogram: Histogram) -> str:
    """A bar chart as inline SVG, with a title on each bar."""
    counts, edges = list(histogram.counts), list(histogram.edges)
    width, height, top = 360, 150, max([1, *counts])
    step = width / max(1, len(counts))
    bars = []
    for k, count in enumerate(counts):
        tall = count / top * height
        span = _edge(edges[k], histogram)
        span = span if histogram.whole else f"{span} to {_edge(edges[k + 1], histogram)}"
        bars.append(
            f'<g><title>{span}: {count:,}</title><rect class="hit" x="{k * step:.1f}" y="0" '
            f'width="{step:.1f}" height="{height}"/><rect class="col" x="{k * step + 1:.1f}" '
            f'y="{height - tall:.1f}" width="{max(1.0, step - 2):.1f}" height="{tall:.1f}" rx="1.5"/></g>'
        )
    marks = "".join(
        f'<text x="{x:.1f}" y="{height + 16}" text-anchor="{anchor}">{_edge(value, histogram)}</text>'
        for x, anchor, value in _marks(edges, width, histogram.whole)
    )
    total = sum(counts)
    label = f"{histogram.title}: {total:,} values, highest bar {top:,}"
    note = f"<p>{escape(histogram.note)}</p>" if histogram.note else ""
    return (
        f'<figure class="histogram"><figcaption>{escape(histogram.title)}</figcaption>'
        f'<svg viewBox="0 0 {width} {height + 20}" role="img" aria-label="{escape(label)}">'
        f'{"".join(bars)}<line x1="0" x2="{width}" y1="{height}" y2="{height}"/>{marks}</svg>{note}</figure>'
    )


def _marks(edges: list[float], width: float, whole: bool) -> list[tuple[float, str, float]]:
    """``(x, anchor, value)`` of the numbers below a chart: at bars if they are whole numbers, else at edges."""
    if not whole:
        middle = (edges[0] + edges[-1]) / 2
        return [(0, "start", edges[0]), (width / 2, "middle", middle), (width, "end", edges[-1])]
    bars = len(edges) - 1
    every = max(1, -(-bars // 8))
    return [(width * (k + 0.5) / bars, "middle", edges[k]) for k in range(0, bars, every)]


def lines_html(chart: Lines) -> str:
    """A line chart as inline SVG with a list of its lines."""
    width, height = 360, 240
    lines, names = [], []
    for (name, values), color in zip(chart.series, distinct_colors(max(1, len(chart.series)))):
        last = max(1, len(values) - 1)
        points = [(width * k / last, height * (1 - float(v))) for k, v in enumerate(values)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        swatch = "#{:02x}{:02x}{:02x}".format(*(int(c) for c in color))
        lines.append(
            f'<g><title>{escape(name)}</title><polyline class="hit" points="{path}"/>'
            f'<polyline class="line" points="{path}" style="stroke:{swatch}"/></g>'
        )
        names.append(f'<li style="--swatch:{swatch}">{escape(name)}</li>')
    grid = "".join(
        f'<line x1="0" x2="{width}" y1="{y:g}" y2="{y:g}"/><text x="-6" y="{y + 4:g}" text-anchor="end">{mark}</text>'
        for mark, y in ((f"{share:g}", height * (1 - share)) for share in (0, 0.5, 1))
    )
    grid += "".join(
        f'<text x="{width * share:g}" y="{height + 16}" text-anchor="middle">{share:g}</text>' for share in (0, 0.5, 1)
    )
    note = f"<p>{escape(chart.note)}</p>" if chart.note else ""
    axes = f"{chart.y_name} over {chart.x_name}" if chart.x_name else ""
    return (
        f'<figure class="histogram lines"><figcaption>{escape(chart.title)}<small>{escape(axes)}</small></figcaption>'
        f'<svg viewBox="-26 -6 {width + 36} {height + 28}" role="img" aria-label="{escape(chart.title)}">'
        f'{grid}{"".join(lines)}</svg><ul class="keys">{"".join(names)}</ul>{note}</figure>'
    )


def faults_html(faults: Sequence[FaultGroup]) -> str:
    """Faults by reason, each with its images."""
    if not faults:
        return '<p class="calm">No image was skipped.</p>'
    parts = []
    for group in faults:
        rows = "".join(f"<li><code>{escape(i)}</code> {escape(text)}</li>" for i, text in group.examples)
        more = group.count - len(group.examples)
        rows += f"<li>and {more:,} more</li>" if more > 0 else ""
        parts.append(
            f"<details><summary><code>{escape(group.code)}</code><span>{escape(group.meaning)}</span>"
            f"<b>{group.count:,}</b></summary><ul>{rows}</ul></details>"
        )
    return "".join(parts)


def settings_html(settings: Mapping[str, Any]) -> str:
    """Everything that made the run; nested mappings become groups."""
    plain = {k: v for k, v in settings.items() if not isinstance(v, Mapping)}
    groups = {"general": plain} if plain else {}
    groups |= {k: v for k, v in settings.items() if isinstance(v, Mapping)}
    parts = []
    for index, (name, values) in enumerate(groups.items()):
        rows = "".join(
            f"<tr><th scope='row'>{escape(key)}</th><td><code>{escape(text)}</code></td></tr>"
            for key, text in _flat(values)
        )
        state = " open" if index == 0 else ""
        parts.append(
            f'<details{state}><summary><span>{escape(str(name))}</span></summary><div class="scroll">'
            f'<table class="settings"><tbody>{rows}</tbody></table></div></details>'
        )
    return "".join(parts) or '<p class="calm">No settings were recorded.</p>'


def number(value: Any) -> str:
    """A figure as people read it: thousands separated, at most four significant digits, a dash for NaN."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if not math.isfinite(value):
            return "–"
        return f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}"
    return str(value)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}.")
        elif isinstance(value, (list, tuple)):
            text = ", ".join(map(str, value[:40]))
            yield name, f"{text}, … ({len(value)} in all)" if len(value) > 40 else text
        else:
            yield name, str(value)


def _is_numeric(values: Any) -> bool:
    kept = [v for v in values if v is not None]
    return bool(kept) and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in kept)


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _plain(value: Any) -> str:
    return f"{float(value):.9g}" if _is_finite(value) else ""


def _right(numeric: bool) -> str:
    return ' class="number"' if numeric else ""


def _edge(value: float, histogram: Histogram) -> str:
    return f"{100 * value:.3g}%" if histogram.percent else f"{value:.3g}"
