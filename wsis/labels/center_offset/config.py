"""The constants of BESTIE's label functions."""

from __future__ import annotations

import math
from dataclasses import dataclass

from wsis.errors import ConfigError

__all__ = ["Config"]


@dataclass(frozen=True)
class Config:
    """Thresholds of pseudo labels, refinement and inference, the paper's values.

    Attributes:
        min_area: components of the semantic map under so many pixels are ignored.
        sigma: width of the Gaussian at every centre, in pixels.
        window: side of the window in which a centre is the maximum, odd.
        threshold: centres of inference lie above it (strictly).
        refine_threshold: centres of refinement lie above it (strictly); an instance whose largest centre value
            is below it is trusted less.
        weak_offset: a pixel with an offset shorter than this belongs to a cluster of weak offsets.
        cluster_area: area of the cluster of weak offsets around a centre, in pixels.
        cluster_area_margin: a cluster's area differs from that by less than this.
        cluster_threshold: a cluster is a centre only where the centre map is above it (strictly).
        cluster_distance: and only if every centre of its component is farther than this, in pixels.
        max_centers: refinement leaves a component out when a centre after so many received a pixel.
        whole_components: inference takes a component without a centre as one instance.
        network_side: long side to which inference brings a picture for the network, best the one that it was trained
            on; 0 = pictures as they are, as published.
        center_capacity: centres of one image for which tables have room.
        cluster_capacity: clusters of one image for which tables have room.
    """

    min_area: int = 50
    sigma: float = 6.0
    window: int = 41
    threshold: float = 0.1
    refine_threshold: float = 0.3
    weak_offset: float = 2.5
    cluster_area: int = 21
    cluster_area_margin: int = 3
    cluster_threshold: float = 0.05
    cluster_distance: float = 100.0
    max_centers: int = 5
    whole_components: bool = True
    network_side: int = 0
    center_capacity: int = 1024
    cluster_capacity: int = 256

    def __post_init__(self) -> None:
        limits = {
            "min_area": (1, 2**31 - 1),
            "sigma": (0.01, 100.0),
            "window": (1, 101),
            "threshold": (0.0, math.inf),
            "refine_threshold": (0.0, math.inf),
            "weak_offset": (0.0, math.inf),
            "cluster_area": (1, 2**30),
            "cluster_area_margin": (0, 2**30),
            "cluster_threshold": (0.0, math.inf),
            "cluster_distance": (0.0, math.inf),
            "max_centers": (1, 2**31 - 1),
            "network_side": (0, 8192),
            "center_capacity": (1, 1 << 20),
            "cluster_capacity": (1, 1 << 20),
        }
        problems = [
            f"center_offset.Config: {name} = {getattr(self, name)!r}, expected {low:g} to {high:g}"
            for name, (low, high) in limits.items()
            if not low <= getattr(self, name) <= high
        ]
        if self.window % 2 == 0:
            problems.append(f"center_offset.Config: window = {self.window!r}, expected an odd number")
        if problems:
            raise ConfigError(problems)

    @property
    def cluster_areas(self) -> tuple[int, int]:
        """Smallest and largest area of a cluster of weak offsets, both allowed."""
        low = self.cluster_area - self.cluster_area_margin + 1
        return max(1, low), self.cluster_area + self.cluster_area_margin - 1
