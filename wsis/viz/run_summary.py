"""What a label run holds, in figures: counts by class, distributions, reasons; gathered row by row."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from wsis.errors import Code
from wsis.viz.report_data import FaultGroup, Histogram, ReportTable

__all__ = ["RunSummary"]

EXAMPLES = 20
BINS = 24
MOST_BARS = 30


class RunSummary:
    """Figures of a label run.

    Attributes:
        images, empty, skipped: how many images, how many of them without instances, how many skipped.
        instances: how many count; dropped: how many lie below the score.
    """

    def __init__(self, categories: Sequence[str], min_score: float = 0.0):
        self.categories = list(categories)
        self.min_score = np.float32(min_score)
        self.images = self.empty = self.skipped = self.instances = self.dropped = 0
        self._scores = [array("f") for _ in self.categories]
        self._areas = [array("f") for _ in self.categories]
        self._in_images = [0] * len(self.categories)
        self._per_image: Counter[int] = Counter()
        self._faults: dict[str, int] = {}
        self._examples: dict[str, list[tuple[str, str]]] = {}

    def add(self, row: Any) -> None:
        """Count one :class:`wsis.runtime.shards.Row`."""
        if row.status == "skipped":
            self.skipped += 1
            self._faults[row.code] = self._faults.get(row.code, 0) + 1
            examples = self._examples.setdefault(row.code, [])
            if len(examples) < EXAMPLES:
                examples.append((row.image_id, row.text))
            return
        self.images += 1
        kept = [k for k, score in enumerate(row.score) if np.float32(score) >= self.min_score]
        self.dropped += len(row.score) - len(kept)
        self.instances += len(kept)
        self.empty += not kept
        self._per_image[len(kept)] += 1
        for k in kept:
            self._scores[row.label[k]].append(row.score[k])
            self._areas[row.label[k]].append(row.area[k] / (row.height * row.width))
        for label in {row.label[k] for k in kept}:
            self._in_images[label] += 1

    def class_table(self, voc: dict[str, Any] | None = None, iou: Sequence[float] | None = None) -> ReportTable:
        """One row per class; with the results of an evaluation also AP, best overlap and IoU."""
        columns = ["class", "images", "objects", "mean score", "median area"]
        rows: list[list[Any]] = []
        for k, name in enumerate(self.categories):
            scores, areas = np.asarray(self._scores[k]), np.asarray(self._areas[k])
            mean, median = (float(f(v)) if len(v) else None for f, v in ((np.mean, scores), (np.median, areas)))
            rows.append([name, self._in_images[k], len(scores), mean, median])
        bars = []
        if voc is not None:
            heads = {f"AP{key[3:]}": voc[key] for key in voc if key.startswith("ap_")}
            heads |= {"best overlap": voc["abo_class"]}
            columns += ["true", *heads]
            for k, row in enumerate(rows):
                row += [int(voc["num_truth"][k]), *(float(values[k]) for values in heads.values())]
            bars += list(heads)
        if iou is not None:
            columns.append("IoU")
            bars.append("IoU")
            for k, row in enumerate(rows):
                row.append(float(iou[k + 1]))
        note = "Area is the share of the image."
        if voc is not None:
            note += " Figures with a bar are percent; a class without true objects has none."
        return ReportTable("By class", columns, rows, note, bars)

    def histograms(self) -> list[Histogram]:
        """Score, area and objects per image."""
        scores = np.concatenate([np.asarray(a) for a in self._scores] or [np.zeros(0)])
        areas = np.concatenate([np.asarray(a) for a in self._areas] or [np.zeros(0)])
        score_counts, score_edges = np.histogram(scores.clip(0, 1), BINS, (0.0, 1.0))
        top = max(float(np.percentile(areas, 99)) if len(areas) else 1.0, 1e-6)
        area_counts, area_edges = np.histogram(areas.clip(0, top), BINS, (0.0, top))
        most = max(self._per_image, default=0)
        bars = min(most, MOST_BARS) + 1
        per_image = np.zeros(bars, np.int64)
        for count, images in self._per_image.items():
            per_image[min(count, bars - 1)] += images
        above = int((areas > top).sum())
        return [
            Histogram("Score", score_edges.tolist(), score_counts.tolist()),
            Histogram(
                "Area of an object, share of the image",
                area_edges.tolist(),
                area_counts.tolist(),
                f"{above:,} larger ones are in the last bar." if above else "",
                percent=True,
            ),
            Histogram(
                "Objects per image",
                list(range(bars + 1)),
                per_image.tolist(),
                f"The last bar holds every image with {bars - 1} or more." if most > bars - 1 else "",
                whole=True,
            ),
        ]

    def faults(self) -> list[FaultGroup]:
        """Skipped images by reason, the commonest first."""
        known = {code.value: code.meaning for code in Code}
        return [
            FaultGroup(code, known.get(code, ""), count, self._examples[code])
            for code, count in sorted(self._faults.items(), key=lambda item: (-item[1], item[0]))
        ]
