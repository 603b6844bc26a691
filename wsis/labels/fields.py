"""Boundary and displacement of pictures, read from a trained IRNet (paper, section 4; one pass on image and
mirror)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from wsis.labels.irnet import grid_size
from wsis.models import IRNet

__all__ = ["PairFields", "boundary_and_displacement"]


class PairFields(NamedTuple):
    """What the network says of images of one size ``(H, W)``; ``h = (H - 1) // 4 + 1``, likewise ``w``.

    Attributes:
        boundary: ``[B, h, w]`` float32 probability: the sigmoid of the mean of the logits of image and
        mirror. displacement: ``[B, 2, h, w]`` float32 ``(y, x)`` in cells, from the image alone.
    """

    boundary: Tensor
    displacement: Tensor


@torch.no_grad()
def boundary_and_displacement(net: IRNet, images: Tensor, min_side: int = 512) -> PairFields:
    """Run the network once on images and their mirrors.

    Args:
        net: in eval mode, on the device that is to do the work.
        images: ``[B, 3, H, W]`` uint8 RGB.
        min_side: a shorter side is filled up to this length at the right or bottom with zeros after
            normalisation, as in training; longer sides stay as they are.

    Raises:
        ValueError, TypeError: images of another shape or type.
    """
    if images.dtype != torch.uint8:
        raise TypeError(f"boundary_and_displacement: images must be uint8, got {images.dtype}")
    if images.dim() != 4 or images.shape[1] != 3 or 0 in images.shape[2:]:
        got = list(images.shape)
        raise ValueError(f"boundary_and_displacement: images must be [B, 3, H, W] with H, W >= 1, got {got}")
    device = next(net.parameters()).device
    batch, _, height, width = images.shape
    mean, std = (torch.tensor(value, device=device).view(1, 3, 1, 1) for value in net.backbone.normalization)
    x = (images.to(device).float() - mean) / std
    x = torch.cat([x, x.flip(3)])
    x = F.pad(x, (0, max(0, min_side - width), 0, max(0, min_side - height)))
    rows, columns = grid_size((height, width))
    out = net(x.contiguous(memory_format=torch.channels_last))
    logits = out.boundary_logits.float()[:, :rows, :columns]
    boundary = torch.sigmoid((logits[:batch] + logits[batch:].flip(2)) / 2)
    displacement = out.displacement.float()[:batch, :, :rows, :columns]
    return PairFields(boundary.contiguous(), displacement.contiguous())
