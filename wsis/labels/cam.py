"""Multi-scale, mirrored class activation maps in the two fusions of IRNet (Ahn et al. 2019; the paper's
section 3.1).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from wsis.models import CamNet

__all__ = ["CamMaps", "image_pyramid", "multi_scale_cam", "multi_scale_cams"]

SCALES = (1.0, 0.5, 1.5, 2.0)


class CamMaps(NamedTuple):
    """CAMs of the ``K`` classes present in an image of ``(H, W)``, each divided by its own maximum.

    Attributes:
        strided: ``[K, h, w]`` float32 at stride 4, ``h = (H-1)//4 + 1``; what the walk starts from.
        full: ``[K, H, W]`` float32; what seeds are made from and what is evaluated.
    """

    strided: Tensor
    full: Tensor


def multi_scale_cam(
    net: CamNet, image: Tensor, classes: Tensor | Sequence[int], scales: Sequence[float] = SCALES
) -> CamMaps:
    """CAMs of one image.

    Args:
        net: classifier; runs on its own device, in the caller's autocast context.
        image: ``[3, H, W]`` uint8 RGB.
        classes: the ``K`` classes present, 0-based.
        scales: factors of the original size; sides are ``round(side * scale)``, resized by Pillow bicubic.

    Returns:
        Maps on the net's device. For each scale ``relu(maps)`` of the image plus the un-mirrored ones of the
        mirror are resized (bilinear) and summed over the scales.

    Raises:
        ValueError, TypeError: an argument of wrong shape, dtype or range, by name.
    """
    return multi_scale_cams(net, [image], [classes], scales)[0]


def image_pyramid(image: Tensor, scales: Sequence[float]) -> list[Tensor]:
    """An image ``[3, H, W]`` uint8 at each of the scales, as the net is given it, on the CPU."""
    return [_scaled(image, scale) for scale in scales]


@torch.no_grad()
def multi_scale_cams(
    net: CamNet,
    images: Sequence[Tensor],
    classes: Sequence[Tensor | Sequence[int]],
    scales: Sequence[float] = SCALES,
    pyramids: Sequence[Sequence[Tensor]] | None = None,
) -> list[CamMaps]:
    """CAMs of several images; those of equal size go through the net together. Arguments as in
    ``multi_scale_cam``; ``pyramids``: :func:`image_pyramid` of each image, where that was made before.
    """
    _check(images, classes, scales)
    device = net.classifier.weight.device
    present = [_classes(item, net.num_classes, device) for item in classes]
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index, image in enumerate(images):
        groups[tuple(image.shape[1:])].append(index)
    results: list[CamMaps | None] = [None] * len(images)
    training = net.training
    net.eval()
    try:
        for size, members in groups.items():
            levels = [image_pyramid(images[i], scales) if pyramids is None else pyramids[i] for i in members]
            fused = _fuse(net, levels, [present[i] for i in members], size)
            for index, maps in zip(members, fused):
                results[index] = maps
    finally:
        net.train(training)
    return results


def _check(images: Sequence[Tensor], classes: Sequence, scales: Sequence[float]) -> None:
    if len(images) != len(classes):
        raise ValueError(f"multi_scale_cams: classes must have one entry per image ({len(images)}), got {len(classes)}")
    for image in images:
        if image.dtype != torch.uint8:
            raise TypeError(f"multi_scale_cam: image must be uint8, got {image.dtype}")
        if image.dim() != 3 or image.shape[0] != 3 or 0 in image.shape:
            raise ValueError(f"multi_scale_cam: image must be [3, H, W] with H, W >= 1, got {list(image.shape)}")
    if not scales or any(not math.isfinite(scale) or scale <= 0 for scale in scales):
        raise ValueError(f"multi_scale_cam: scales must be positive numbers, at least one, got {tuple(scales)}")


def _classes(classes: Tensor | Sequence[int], num_classes: int, device: torch.device) -> Tensor:
    index = torch.as_tensor(classes, device=device)
    if index.numel() == 0:
        return torch.zeros(0, dtype=torch.int64, device=device)
    if index.dim() != 1 or index.is_floating_point() or index.dtype == torch.bool:
        raise ValueError(
            f"multi_scale_cam: classes must be a list of class numbers, got {index.dtype} {list(index.shape)}"
        )
    if int(index.min()) < 0 or int(index.max()) >= num_classes:
        raise ValueError(f"multi_scale_cam: classes must lie in 0..{num_classes - 1}, got {index.tolist()}")
    return index.to(torch.int64)


def _fuse(
    net: CamNet, pyramids: list[Sequence[Tensor]], classes: list[Tensor], size: tuple[int, int]
) -> list[CamMaps]:
    """Both fusions of images of one size."""
    height, width = size
    strided_size = ((height - 1) // 4 + 1, (width - 1) // 4 + 1)
    padded_size = (((height - 1) // 16 + 1) * 16, ((width - 1) // 16 + 1) * 16)
    strided: list[Tensor | float] = [0.0] * len(pyramids)
    full: list[Tensor | float] = [0.0] * len(pyramids)
    for level in zip(*pyramids):
        maps = _maps(net, level)
        for i, present in enumerate(classes):
            if present.numel():
                chosen = maps[i : i + 1, present]
                strided[i] = strided[i] + _resize(chosen, strided_size)
                full[i] = full[i] + _resize(chosen, padded_size)[:, :height, :width]
    empty = CamMaps(maps.new_zeros((0, *strided_size)), maps.new_zeros((0, *size)))
    return [
        CamMaps(_normalise(s), _normalise(f)) if present.numel() else empty
        for s, f, present in zip(strided, full, classes)
    ]


def _maps(net: CamNet, images: Sequence[Tensor]) -> Tensor:
    """``relu(maps)`` of images of one size plus the un-mirrored maps of their mirrors, ``[B, C, h, w]`` float32."""
    device = net.classifier.weight.device
    mean, std = (torch.tensor(v, device=device).view(1, 3, 1, 1) for v in net.backbone.normalization)
    x = torch.stack(list(images)).to(device)
    x = (x.float() - mean) / std
    maps = net(torch.cat([x, x.flip(3)]).contiguous(memory_format=torch.channels_last)).maps.float().relu()
    direct, mirrored = maps.chunk(2)
    return direct + mirrored.flip(3)


def _scaled(image: Tensor, scale: float) -> Tensor:
    height, width = image.shape[1:]
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    if size == (width, height):
        return image.cpu()
    pixels = Image.fromarray(image.permute(1, 2, 0).cpu().numpy()).resize(size, Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1)


def _resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(maps, size, mode="bilinear", align_corners=False)[0]


def _normalise(maps: Tensor) -> Tensor:
    return maps / (maps.amax((1, 2), keepdim=True) + 1e-5)
