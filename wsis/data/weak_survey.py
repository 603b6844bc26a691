"""A look at the points of a whole data set before anything is trained on them: what is used, left out and wrong."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsis.data.artifacts import safe_join
from wsis.data.image_set import ImageSet
from wsis.data.images import read_image_info
from wsis.data.points import PointSource
from wsis.errors import ConfigError, DataFault

__all__ = ["PointSurvey", "survey_points"]


@dataclass(frozen=True)
class PointSurvey:
    """What was found.

    Attributes:
        images: all; without: those without a single point.
        points: usable ones above the confidence.
        notes: points left out or in doubt, by reason (see :class:`wsis.data.points.ImagePoints`).
        faults: images whose map or points cannot be used.
    """

    images: int
    without: int
    points: int
    notes: dict[str, int]
    faults: tuple[DataFault, ...]

    def to_json(self) -> dict[str, Any]:
        counts = {"images": self.images, "without": self.without, "points": self.points, "notes": self.notes}
        return {**counts, "faults": [fault.to_row() for fault in self.faults]}

    def lines(self) -> list[str]:
        """For the console."""
        told = "".join(f", {count} {name}" for name, count in self.notes.items())
        text = [f"{self.points} points on {self.images - self.without} of {self.images} images{told}"]
        shown = [str(fault) for fault in self.faults[:5]]
        if len(self.faults) > 5:
            shown.append(f"... and {len(self.faults) - 5} more")
        return text + shown


def survey_points(points: PointSource, data: ImageSet, semantic: str, confidence: float) -> PointSurvey:
    """Read the points of every image; sizes come from the headers of the semantic maps.

    Raises:
        ConfigError: the maps or points of more than half of the images cannot be used.
    """
    notes: Counter[str] = Counter()
    faults, total, without = [], 0, 0
    for index, image_id in enumerate(data.ids):
        try:
            info = read_image_info(safe_join(Path(semantic), image_id + ".png"), stage="semantic")
            found = points.read(image_id, (info.height, info.width), data[index].labels)
        except DataFault as fault:
            faults.append(fault.renamed(image_id))
            continue
        used = len(found.above(confidence))
        total, without = total + used, without + (used == 0)
        notes.update(found.notes)
    if 2 * len(faults) > len(data):
        told = [f"{len(faults)} of {len(data)} images have maps or points that cannot be used:"]
        raise ConfigError([*told, *(str(fault) for fault in faults)])
    return PointSurvey(len(data), without + len(faults), total, dict(notes), tuple(faults))
