"""What the HTML report shows, as plain tables: any network can fill them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from wsis.viz.curves import Chart
from wsis.viz.overlay import colorize_displacement, colorize_heat, mark_points, overlay_instances

__all__ = [
    "FaultGroup",
    "Histogram",
    "Lines",
    "ReportImage",
    "ReportInstance",
    "ReportLayer",
    "ReportPage",
    "ReportTable",
    "report_instances",
]


@dataclass(frozen=True)
class ReportLayer:
    """One map of an image, ready to be shown over it.

    Attributes:
        name: what its button says; layers of one name on several images are one button.
        picture: ``[h, w, 3]`` uint8, any resolution.
        opacity: how much of it shows at first, in ``[0, 1]``.
        legend: ``heat``, ``wheel`` or nothing.
    """

    name: str
    picture: np.ndarray
    opacity: float = 1.0
    legend: str = ""

    def __post_init__(self) -> None:
        shape = np.shape(self.picture)
        if len(shape) != 3 or shape[2] != 3 or np.asarray(self.picture).dtype != np.uint8:
            raise ValueError(f"ReportLayer {self.name!r}: picture must be [h, w, 3] uint8, got {list(shape)}")
        if self.legend not in ("", "heat", "wheel"):
            raise ValueError(f"ReportLayer {self.name!r}: legend must be '', 'heat' or 'wheel', got {self.legend!r}")

    @classmethod
    def heat(cls, name: str, values: Any, *, top: float | None = 1.0, opacity: float = 0.8) -> ReportLayer:
        """From a map of strengths, ``[h, w]`` or ``[K, h, w]`` (the largest counts)."""
        return cls(name, colorize_heat(values, top=top), opacity, "heat")

    @classmethod
    def displacement(cls, name: str, field: Any, *, opacity: float = 1.0) -> ReportLayer:
        """From a displacement or offset field ``[2, h, w]`` ``(y, x)``."""
        return cls(name, colorize_displacement(field), opacity, "wheel")

    @classmethod
    def instances(cls, name: str, photo: Any, instances: Any, points: Sequence[Sequence[float]] = ()) -> ReportLayer:
        """From instances on their photograph, with points ``(x, y, ...)`` marked."""
        picture = overlay_instances(photo, instances, alpha=0.6, captions=False, min_side=1)
        return cls(name, mark_points(picture, points))


@dataclass(frozen=True)
class ReportInstance:
    """One object: class from 0, score, and mask ``[H, W]`` bool at the size of the photo."""

    label: int
    score: float
    mask: np.ndarray


@dataclass(frozen=True)
class ReportImage:
    """One picture of the report.

    Attributes:
        id: the image's id.
        photo: ``[H, W, 3]`` uint8 RGB.
        layers: maps to lay over it.
        instances: what was found.
        truth: the true objects, if they are known.
        tags: classes given for the image.
        note: a sentence shown below it.
        figures: numbers to sort by and to show, such as ``{"best overlap": 0.62}``.
    """

    id: str
    photo: np.ndarray
    layers: Sequence[ReportLayer] = ()
    instances: Sequence[ReportInstance] = ()
    truth: Sequence[ReportInstance] = ()
    tags: Sequence[int] = ()
    note: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = np.shape(self.photo)
        if len(shape) != 3 or shape[2] != 3 or 0 in shape or np.asarray(self.photo).dtype != np.uint8:
            raise ValueError(f"ReportImage {self.id!r}: photo must be [H, W, 3] uint8, got {list(shape)}")
        for one in (*self.instances, *self.truth):
            if np.shape(one.mask) != shape[:2]:
                raise ValueError(
                    f"ReportImage {self.id!r}: masks must have the photo's size {list(shape[:2])}, "
                    f"got {list(np.shape(one.mask))}"
                )


def report_instances(instances: Any) -> tuple[ReportInstance, ...]:
    """From an object with ``masks [N, H, W]``, ``labels [N]`` and, perhaps, ``scores [N]``."""
    masks = torch.as_tensor(instances.masks).cpu().numpy() != 0
    labels = torch.as_tensor(instances.labels).cpu().tolist()
    scores = getattr(instances, "scores", None)
    scores = [1.0] * len(labels) if scores is None else torch.as_tensor(scores).cpu().tolist()
    return tuple(ReportInstance(label, score, mask) for label, score, mask in zip(labels, scores, masks))


@dataclass(frozen=True)
class ReportTable:
    """A table: numbers align right and sort as numbers; ``bars`` names shares, shown as a bar and percent."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    note: str = ""
    bars: Sequence[str] = ()


@dataclass(frozen=True)
class Histogram:
    """A distribution: ``edges [n + 1]``, ``counts [n]``.

    ``percent`` writes the edges as percentages; with ``whole`` bar ``k`` is the whole number ``edges[k]``.
    """

    title: str
    edges: Sequence[float]
    counts: Sequence[int]
    note: str = ""
    percent: bool = False
    whole: bool = False


@dataclass(frozen=True)
class Lines:
    """Lines over ``[0, 1]``: ``series`` holds ``(name, values)``, evenly spaced, values in ``[0, 1]``."""

    title: str
    series: Sequence[tuple[str, Sequence[float]]]
    x_name: str = ""
    y_name: str = ""
    note: str = ""


@dataclass(frozen=True)
class FaultGroup:
    """All faults of one reason: code, its meaning, how many, and some of them as ``(image id, text)``."""

    code: str
    meaning: str
    count: int
    examples: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class ReportPage:
    """The whole page but its pictures, which are streamed beside it.

    Attributes:
        title, subtitle: the heading and the line below it.
        categories: class names.
        figures: ``(what, value, remark)`` for the row of large numbers.
        tables, recall, histograms, faults: in the order in which they are shown.
        charts: how the network's figures went while it was trained.
        settings: nested mapping of everything that made the run.
        footer: who made the page.
    """

    title: str
    categories: Sequence[str]
    subtitle: str = ""
    figures: Sequence[tuple[str, str, str]] = ()
    tables: Sequence[ReportTable] = ()
    recall: Sequence[Lines] = ()
    histograms: Sequence[Histogram] = ()
    faults: Sequence[FaultGroup] = ()
    charts: Sequence[Chart] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    footer: str = ""
