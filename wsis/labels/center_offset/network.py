"""What a centre and offset network says of pictures of any size (BESTIE, CVPR 2022, inference)."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from wsis.labels.center_offset.inference import mirror_average
from wsis.labels.center_offset.inputs import Fields
from wsis.models import CenterOffsetNet

__all__ = ["network_fields"]

_MULTIPLE = 32


@torch.no_grad()
def network_fields(net: CenterOffsetNet, images: Tensor, mirror: bool = False, long_side: int = 0) -> Fields:
    """Run the network on images of one size.

    Both sides, after they are scaled to ``long_side``, are raised to the next multiple of 32 (Pillow bilinear), and the
    maps brought back to the images' size. The multiple of 32 alone scales no offset, as in the paper's code.

    Args:
        net: in eval mode; runs on its own device, in the caller's autocast context.
        images: ``[B, 3, H, W]`` uint8 RGB.
        mirror: average class probabilities and centre maps with those of the mirrored images.
        long_side: of the pictures as the network sees them; offsets are scaled back from there. 0 = as they are.

    Raises:
        ValueError, TypeError: images of another shape or type.
    """
    if images.dtype != torch.uint8:
        raise TypeError(f"network_fields: images must be uint8, got {images.dtype}")
    if images.dim() != 4 or images.shape[1] != 3 or 0 in images.shape[2:]:
        raise ValueError(f"network_fields: images must be [B, 3, H, W] with H, W >= 1, got {list(images.shape)}")
    device = next(net.parameters()).device
    height, width = images.shape[2:]
    scale = long_side / max(height, width) if long_side else 1.0
    size = tuple(max(1, -(-round(side * scale) // _MULTIPLE)) * _MULTIPLE for side in (height, width))
    mean, std = (torch.tensor(v, device=device).view(1, 3, 1, 1) for v in net.normalization)
    x = torch.stack([_resized(image, size) for image in images]).to(device)
    x = ((x.float() - mean) / std).contiguous(memory_format=torch.channels_last)
    fields = Fields(*(maps.float() for maps in net(x)))
    if mirror:
        fields = mirror_average(fields, Fields(*(maps.float() for maps in net(x.flip(3)))))
    if long_side:
        fields = fields._replace(offset=fields.offset / scale)
    if size == (height, width):
        return fields
    return Fields(*(_back(maps, (height, width)) for maps in fields))


def _resized(image: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(image.shape[1:]) == size:
        return image
    pixels = Image.fromarray(image.permute(1, 2, 0).cpu().numpy()).resize(size[::-1], Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1)


def _back(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(maps, size, mode="bilinear", align_corners=False)
