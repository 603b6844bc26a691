"""Maps that look like those of photographs, made from a seed."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from wsis import ops

__all__ = ["blobs", "instance_map"]


def blobs(count: int, side: int, sigma: float, share: float, seed: int = 0) -> np.ndarray:
    """``[count, side, side]`` uint8 masks: smooth noise above a quantile, ``share`` of the pixels set."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.standard_normal((count, side, side)), (0, sigma, sigma))
    return (noise > np.quantile(noise, 1 - share)).astype(np.uint8)


def instance_map(count: int, side: int, seed: int = 0) -> Tensor:
    """``[count, side, side]`` int32: the components of blobs, some 20 an image, ids from 1."""
    return ops.connected_components(torch.from_numpy(blobs(count, side, side / 32, 0.3, seed))).ids
