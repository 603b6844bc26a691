"""What a sweep of settings found, as curves and as a table for the console."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from wsis.viz.charts import Chart

__all__ = ["setting_words", "sweep_charts", "sweep_table"]

_VARIED = ("background", "walk_steps", "beta", "weak_displacement", "crf")
_HEADS = ("background", "walk", "beta", "weak", "CRF")
_SHOWN = 16


def sweep_charts(
    objective: str, settings: Sequence[Mapping[str, Any]], filters: Sequence[Mapping[str, Any]]
) -> list[Chart]:
    """Objective and mIoU over the background, one line per walk; the score filter of the best setting.

    Args:
        objective: name of a figure.
        settings: ``setting`` and ``figures`` of each.
        filters: ``min_score``, ``instances`` that are left, their ``precision``, ``recall`` and ``f1``.
    """
    lines: dict[str, dict[str, list[tuple[float, float]]]] = {objective: {}, "miou": {}}
    for row in settings:
        setting = row["setting"]
        name = f"walk {setting['walk_steps']}, beta {setting['beta']:g}, weak {setting['weak_displacement']:g}"
        name += f", CRF {setting['crf']:g}" if setting["crf"] else ""
        for key, series in lines.items():
            value = row["figures"][key]
            series.setdefault(name, []).append((setting["background"], math.nan if value is None else value))
    lines = {key: {name: sorted(line) for name, line in series.items()} for key, series in lines.items()}
    kept = sorted((row for row in filters if row["instances"]), key=lambda row: row["min_score"])
    curve = [(row["recall"], row["precision"]) for row in kept]
    score = {key: [(row["min_score"], row[key]) for row in kept] for key in ("precision", "recall", "f1")}
    return [
        Chart(f"Instances: {_figure_name(objective)}", "score of the background", "share", lines[objective]),
        Chart("Semantic maps: mIoU", "score of the background", "share", lines["miou"]),
        Chart("Filter, best setting, IoU 0.5", "min_score", "share", score),
        Chart("Precision and recall, IoU 0.5", "recall", "precision", {"best setting": curve}),
    ]


def sweep_table(
    title: str, objective: str, before: Mapping[str, Any], settings: Sequence[Mapping[str, Any]]
) -> str:
    """The run's own setting, then the others from the best on, in percent; at most :data:`_SHOWN` of them."""
    table = Table(title=title)
    figures = ("map_25", "map_50", "map_70", "map_75", "abo", "miou")
    for name in ("", *_HEADS, *figures):
        table.add_column(_figure_name(name) + ("*" if name == objective else ""), justify="right", no_wrap=True)
    ranked = sorted(settings, key=lambda row: -(row["figures"][objective] or 0.0))
    for name, row in [("as it was", before), *[("", row) for row in ranked[:_SHOWN]]]:
        values = [f"{row['setting'][key]:g}" for key in _VARIED]
        table.add_row(name, *values, *(percent(row["figures"][key]) for key in figures))
    console = Console(width=110)
    with console.capture() as capture:
        console.print(table)
    left = len(ranked) - _SHOWN
    return capture.get().rstrip() + (f"\n... and {left} more" if left > 0 else "")


def _figure_name(name: str) -> str:
    return name.replace("map_", "AP").replace("miou", "mIoU").replace("abo", "ABO")


def setting_words(setting: Mapping[str, Any]) -> str:
    """``background 0.3, walk_steps 64, ...``"""
    return ", ".join(f"{name} {setting[name]:g}" for name in _VARIED)


def percent(value: float | None) -> str:
    """``34.6``, or ``-`` where there is no figure."""
    return "-" if value is None else f"{100 * value:.1f}"
