"""The labels that a network learned from, made again from the fields that ``label`` keeps of an image."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from wsis.labels.center_offset.inputs import Fields

__all__ = ["prediction_of_kept"]

STRIDE = 4
_LEAST = 1e-6


def prediction_of_kept(fields: Mapping[str, np.ndarray], num_classes: int, size: tuple[int, int]) -> Fields:
    """A prediction from kept fields: exact (to half precision) at every fourth pixel, bilinear between them.

    Args:
        fields: ``classes [K]``, ``probability [K, h, w]``, ``center [K, h, w]`` and ``offset [2, h, w]``, every fourth
            pixel of an image.
        num_classes: of the network; what the kept classes leave of the probability counts as background.
        size: ``(height, width)`` of the image.

    Raises:
        ValueError: fields of other shapes, or of an image of another size.
    """
    classes = torch.as_tensor(np.asarray(fields["classes"]).astype(np.int64))
    grid = tuple((side - 1) // STRIDE + 1 for side in size)
    shapes = {"probability": (len(classes), *grid), "center": (len(classes), *grid), "offset": (2, *grid)}
    for name, shape in shapes.items():
        if fields[name].shape != shape:
            raise ValueError(f"prediction_of_kept: {name} must be {list(shape)}, got {list(fields[name].shape)}")
    if any(not 0 <= number < num_classes for number in classes.tolist()):
        raise ValueError(f"prediction_of_kept: classes must be 0 to {num_classes - 1}, got {classes.tolist()}")
    probability, center, offset = (_enlarged(fields[name], size) for name in ("probability", "center", "offset"))
    probability = probability.clamp(0, 1)
    semantic = torch.full((num_classes + 1, *size), _LEAST)
    semantic[0] = (1 - probability.sum(0)).clamp_min(_LEAST)
    semantic[classes + 1] = probability.clamp_min(_LEAST)
    heat = torch.zeros((num_classes, *size))
    heat[classes] = center
    return Fields(semantic.log()[None], heat[None], offset[None])


def _enlarged(maps: np.ndarray, size: tuple[int, int]) -> Tensor:
    """``[K, h, w]`` to ``[K, H, W]`` float32; cell ``(i, j)`` is pixel ``(4 i, 4 j)``."""
    maps = torch.as_tensor(maps.astype(np.float32))[None]
    inner = tuple((side - 1) * STRIDE + 1 for side in maps.shape[2:])
    if not maps.numel():
        return torch.zeros((maps.shape[1], *size))
    maps = F.interpolate(maps, inner, mode="bilinear", align_corners=True)
    return F.pad(maps, (0, size[1] - inner[1], 0, size[0] - inner[0]), mode="replicate")[0]
