"""Random scale, mirror and crop; each draw is a function of seed, pass and image, so that a run can be
resumed.

Images become ``(rgb - mean) / std``; a side shorter than the crop is placed at random in zeros, after
normalisation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from wsis.data.categories import IGNORE

__all__ = ["augment", "draw", "normalise", "place", "scale_by_factor", "scale_by_long_side"]


def draw(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The random numbers of one image in one pass."""
    return np.random.default_rng((seed, epoch, index))


def scale_by_long_side(size: tuple[int, int], low: int, high: int, rng: np.random.Generator) -> float:
    """A factor that brings the long side of ``(height, width)`` to a uniform integer in ``[low, high]``."""
    return int(rng.integers(low, high + 1)) / max(size)


def scale_by_factor(low: float, high: float, rng: np.random.Generator) -> float:
    """A uniform factor in ``[low, high]``."""
    return float(rng.uniform(low, high))


def normalise(image: np.ndarray, normalization: tuple[Sequence[float], Sequence[float]]) -> Tensor:
    """``[H, W, 3]`` uint8 to ``[3, H, W]`` float32."""
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in normalization)
    return (torch.from_numpy(np.array(image)).permute(2, 0, 1).float() - mean) / std


def augment(
    image: np.ndarray,
    seeds: np.ndarray | None,
    scale: float,
    crop: int,
    normalization: tuple[Sequence[float], Sequence[float]],
    rng: np.random.Generator,
) -> tuple[Tensor, Tensor | None]:
    """One training crop.

    Args:
        image: ``[H, W, 3]`` uint8.
        seeds: ``[H, W]`` uint8 seed map, or ``None``.
        scale: factor of the sides, which become ``round(side * scale)``; bicubic for the image, nearest for
            the map.
        crop: side of the crop in pixels.
        normalization: ``(mean, std)`` in 0..255.
        rng: mirror (probability 1/2) and position are drawn from it.

    Returns:
        ``[3, crop, crop]`` float32 and the map on the stride-4 grid ``[(crop-1)//4+1]*2`` (pixel ``4 i +
        2``), 255 where there is no image.
    """
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    pixels = Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC)
    scaled = normalise(np.asarray(pixels), normalization)
    mirror = bool(rng.integers(2))
    top, left = place(height, crop, rng), place(width, crop, rng)
    out = _cut(scaled.flip(2) if mirror else scaled, crop, top, left, 0.0)
    if seeds is None:
        return out, None
    grid = Image.fromarray(seeds).resize((width, height), Image.Resampling.NEAREST)
    labels = torch.from_numpy(np.array(grid))
    labels = _cut((labels.flip(1) if mirror else labels)[None], crop, top, left, IGNORE)[0]
    cells = torch.arange((crop - 1) // 4 + 1).mul(4).add(2).clamp(max=crop - 1)
    return out, labels[cells][:, cells].contiguous()


def place(side: int, crop: int, rng: np.random.Generator) -> int:
    """Start of the crop in the image, or minus the start of the image in the crop."""
    return int(rng.integers(side - crop + 1)) if side >= crop else -int(rng.integers(crop - side + 1))


def _cut(x: Tensor, crop: int, top: int, left: int, fill: float) -> Tensor:
    out = x.new_full((x.shape[0], crop, crop), fill)
    part = x[:, max(top, 0) : max(top, 0) + crop, max(left, 0) : max(left, 0) + crop]
    y, x0 = max(-top, 0), max(-left, 0)
    out[:, y : y + part.shape[1], x0 : x0 + part.shape[2]] = part
    return out
