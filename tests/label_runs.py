"""Label runs for tests: their settings and results, and finished ones made from masks instead of nets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from wsis.data.artifacts import Journal, RunFolder
from wsis.data.categories import Categories
from wsis.evaluation.instance_coco import encode_masks
from wsis.runtime.shards import Row, write_shard
from wsis.steps.label import Config
from wsis.structures import Instances


def row_of(image_id: str, instances: Instances, file: str = "") -> Row:
    """The row that a label run writes for these instances."""
    height, width = instances.masks.shape[1:]
    row = Row(image_id, file, height, width, "ok" if len(instances) else "ok_empty")
    for mask, label, score, rle in zip(
        instances.masks.numpy(),
        instances.labels.tolist(),
        instances.scores.tolist(),
        encode_masks(instances.masks),
    ):
        ys, xs = np.nonzero(mask)
        left, top = (int(xs.min()), int(ys.min())) if len(xs) else (0, 0)
        size = [int(xs.max()) - left + 1, int(ys.max()) - top + 1] if len(xs) else [0, 0]
        row.label.append(label)
        row.score.append(score)
        row.bbox_xywh.append([left, top, *size])
        row.area.append(int(mask.sum()))
        row.counts.append(rle["counts"])
    return row


def skipped_row(image_id: str, code: str = "E_TRUNCATED", text: str = "ends early") -> Row:
    return Row(image_id, f"{image_id}.jpg", status="skipped", code=code, text=text)


def write_run(folder: Path, rows: Sequence[Row], categories: Categories, unit_size: int = 3) -> Path:
    """Write a finished label run of these rows."""
    units = [rows[start : start + unit_size] for start in range(0, len(rows), unit_size)]
    parts = {
        "config": {"unit_size": unit_size, "scales": [1.0, 0.5], "propagation": {"radius": 5, "beta": 10.0}},
        "images": len(rows),
        "units": len(units),
        "categories": categories.to_json(),
        "version": "0.1.0",
    }
    with RunFolder(folder, "label", parts) as run, Journal(Path(folder) / "journal.jsonl") as journal:
        first = 0
        for number, unit in enumerate(units):
            journal.append(write_shard(folder, number, first, unit, run.fingerprint).to_json())
            first += len(unit)
    return Path(folder)


def boxes(size: tuple[int, int], *rows: tuple) -> Instances:
    """Instances from ``(top, left, bottom, right, label, score)`` rows."""
    if not rows:
        return Instances.empty(size)
    masks = torch.zeros((len(rows), *size), dtype=torch.bool)
    for mask, (top, left, bottom, right, *_) in zip(masks, rows):
        mask[top:bottom, left:right] = True
    return Instances(masks, torch.tensor([r[4] for r in rows]), torch.tensor([float(r[5]) for r in rows]))


def label_config(data, out, weights, **changes) -> Config:
    """Settings for small nets and few images."""
    base = {"min_side": 64, "scales": (1.0, 0.5), "unit_size": 4, "batch_size": 3, "device": "cpu"}
    return Config(data=data, out=str(out), **weights, **(base | changes))


def contents(folder: Path) -> dict[str, bytes]:
    """Every file that is a result; times, locks and logs are none."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    leave = ("log.jsonl", "run.lock", "units.lock", "inputs.parquet")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if path.name not in leave}
