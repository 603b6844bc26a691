"""The labels from which a centre and offset network learned, image by image, to be looked at."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from wsis.data.artifacts import safe_join
from wsis.data.image_set import ImageSet
from wsis.data.images import read_index_map
from wsis.data.points import open_points
from wsis.errors import Code, ConfigError, DataFault
from wsis.labels import center_offset
from wsis.labels.center_offset.kept import prediction_of_kept
from wsis.structures import Instances, Points

__all__ = ["LearnedFrom", "WeakLabels"]


class LearnedFrom(NamedTuple):
    """Of one image: the pseudo labels, what refinement makes of them (None without fields), and the points."""

    pseudo: Instances
    refined: Instances | None
    points: tuple[tuple[int, int, int, float], ...]


class WeakLabels:
    """Pseudo and refined labels from semantic maps, points and the fields that ``label`` kept.

    Kept fields have a quarter of the resolution: refined labels are those of training but for pixels at sharp edges.

    Args:
        data: the pictures.
        semantic: folder of the semantic maps.
        points: folder or table of points.
        supervision: image or point.
        confidence: points are used above it.
        thresholds: fields of :class:`wsis.labels.center_offset.Config`, as a label run records them.

    Raises:
        ConfigError: no such folder or table.
    """

    def __init__(
        self,
        data: ImageSet,
        semantic: str,
        points: str,
        supervision: str,
        confidence: float,
        thresholds: Mapping[str, Any],
    ):
        if not Path(semantic).is_dir():
            raise ConfigError(f"semantic: {semantic} is not a folder (the current folder is {Path.cwd()})")
        self.data, self.semantic, self.supervision, self.confidence = data, semantic, supervision, confidence
        self.source = open_points(points, data.categories)
        known = {item.name for item in dataclasses.fields(center_offset.Config)}
        self.config = center_offset.Config(**{k: v for k, v in thresholds.items() if k in known})

    def of(self, index: int, size: tuple[int, int], fields: Mapping[str, np.ndarray]) -> LearnedFrom | None:
        """The labels of an image of ``(height, width)``; None if it has neither map nor points, or no
        tags.

        Raises:
            DataFault: its map or points cannot be used.
        """
        record = self.data[index]
        path = safe_join(self.semantic, record.id + ".png")
        if record.labels is None or not (path.is_file() or self.source.has(record.id)):
            return None
        try:
            semantic = read_index_map(path, len(self.data.categories), size=size)
            rows = self.source.read(record.id, size, record.labels).above(self.confidence)
        except DataFault as fault:
            raise fault.renamed(record.id) from fault
        given = torch.from_numpy(semantic.astype(np.uint8))[None], Points.from_rows([rows])
        present = torch.from_numpy(self.data.label_vector(index))[None]
        pseudo = center_offset.pseudo_instances(*given, present, config=self.config).to_instances()[0]
        if not {"classes", "probability", "center", "offset"} <= fields.keys():
            return LearnedFrom(pseudo, None, rows)
        try:
            maps = prediction_of_kept(fields, len(self.data.categories), size)
        except ValueError as error:
            raise DataFault(Code.E_SHAPE, record.id, "fields", str(error)) from error
        points = given[1] if self.supervision == "point" else None
        refined = center_offset.refined_instances(maps, given[0], present, points, self.config)
        return LearnedFrom(pseudo, refined.to_instances()[0], rows)
