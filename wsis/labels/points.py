"""Peak points: where the activation maps of a peak network have their maxima (BESTIE, CVPR 2022, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from wsis import ops
from wsis.errors import ConfigError
from wsis.models import PeakNet
from wsis.structures import Instances

__all__ = ["Config", "center_points", "peak_maps", "peak_points"]

Row = tuple[int, int, int, float]


@dataclass(frozen=True)
class Config:
    """How points are read from the maps, the paper's values.

    Attributes:
        side: the picture is brought to a square of this side, whatever its shape.
        window: side of the window in which a point is the maximum, odd.
        top: strongest points of each class of an image.
        threshold: least confidence.
    """

    side: int = 321
    window: int = 15
    top: int = 25
    threshold: float = 0.1

    def __post_init__(self) -> None:
        limits = {"side": (16, 4096), "window": (1, 101), "top": (1, 10_000), "threshold": (0.0, 1.0)}
        problems = [
            f"points.Config: {name} = {getattr(self, name)!r}, expected {low:g} to {high:g}"
            for name, (low, high) in limits.items()
            if not low <= getattr(self, name) <= high
        ]
        if self.window % 2 == 0:
            problems.append(f"points.Config: window = {self.window!r}, expected an odd number")
        if problems:
            raise ConfigError(problems)


@torch.no_grad()
def peak_maps(net: PeakNet, image: Tensor, classes: Sequence[int], side: int = 321) -> Tensor:
    """Smoothed maps of the classes present, averaged over the image and its mirror.

    Args:
        net: in eval mode; runs on its own device, in the caller's autocast context.
        image: ``[3, H, W]`` uint8 RGB.
        classes: the ``K`` classes present, 0-based.
        side: the network sees a square of this side.

    Returns:
        ``[K, H, W]`` float32: each map divided by its maximum before image and mirror are averaged, then the mean of
        3x3 pixels (zeros outside, always a ninth of the sum).
    """
    device = net.classifier.weight.device
    height, width = image.shape[1:]
    mean, std = (torch.tensor(v, device=device).view(1, 3, 1, 1) for v in net.backbone.normalization)
    pixels = Image.fromarray(image.permute(1, 2, 0).cpu().numpy()).resize((side, side), Image.Resampling.BILINEAR)
    x = (torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None].to(device).float() - mean) / std
    maps = net(torch.cat([x, x.flip(3)]).contiguous(memory_format=torch.channels_last)).maps.float().relu()
    maps = F.interpolate(maps[:, list(classes)], (height, width), mode="bilinear", align_corners=False)
    maps = maps / (maps.amax((2, 3), keepdim=True) + 1e-5)
    return F.avg_pool2d((maps[0] + maps[1].flip(2))[None] / 2, 3, 1, 1)[0]


def peak_points(net: PeakNet, image: Tensor, classes: Sequence[int], config: Config | None = None) -> list[Row]:
    """Points ``(x, y, class, confidence)`` of one image, by class, strongest first; arguments as :func:`peak_maps`."""
    config = config or Config()
    if not len(classes):
        return []
    maps = peak_maps(net, image, classes, config.side)
    if not bool(maps.isfinite().all()):
        raise ArithmeticError("the net gave values that are not finite")
    below = float(np.nextafter(np.float32(config.threshold), np.float32(-1)))
    table = ops.peaks(maps[None], config.window, threshold=below, top_k=config.top)
    columns = (table.x, table.y, table.label, table.score)
    return [(x, y, int(classes[k]), score) for x, y, k, score in zip(*(column.tolist() for column in columns))]


def center_points(instances: Instances) -> list[Row]:
    """One point for each true mask: its pixel nearest to the centroid (of equal ones the first in raster order)."""
    rows = []
    for mask, label in zip(instances.masks.cpu().numpy(), instances.labels.tolist()):
        y, x = np.nonzero(mask)
        if len(y):
            nearest = int(np.argmin((y - y.mean()) ** 2 + (x - x.mean()) ** 2))
            rows.append((int(x[nearest]), int(y[nearest]), label, 1.0))
    return rows
