"""From activation maps to seed maps: confident foreground, confident background, and the rest unsure.

Section 4.2 of the IRNet paper (inter-pixel relation mining): two maps are taken from the activation maps
with a high and a low background score, both are refined by a dense CRF, and only what both agree on is used
for training.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from wsis import ops
from wsis.errors import ConfigError

__all__ = ["Config", "seed_labels", "seed_labels_batch"]

IGNORE = 255


@dataclass(frozen=True)
class Config:
    """Thresholds of the seed maps, the paper's values.

    Attributes:
        foreground: background score for confident foreground.
        background: background score for confident background; at most ``foreground``.
        gt_prob: certainty of the labels given to the CRF.
        steps: mean-field steps of the CRF.
        spatial: standard deviation in pixels and weight of the smoothness kernel.
        bilateral: standard deviation in pixels, in colour values, and weight of the appearance kernel.
    """

    foreground: float = 0.30
    background: float = 0.05
    gt_prob: float = 0.7
    steps: int = 10
    spatial: tuple[float, float] = (3.0, 3.0)
    bilateral: tuple[float, float, float] = (50.0, 5.0, 10.0)

    def __post_init__(self) -> None:
        problems = [
            f"seeds.Config: {name} = {getattr(self, name)!r}, expected 0 to 1"
            for name in ("foreground", "background")
            if not 0 <= getattr(self, name) <= 1
        ]
        if not problems and self.foreground < self.background:
            problems.append(
                f"seeds.Config: foreground = {self.foreground:g} is below background = {self.background:g}; "
                "no pixel could be confident background and the two thresholds would contradict each other"
            )
        if not 0 < self.gt_prob < 1:
            problems.append(f"seeds.Config: gt_prob = {self.gt_prob!r}, expected more than 0 and less than 1")
        if not 0 <= self.steps <= 1000:
            problems.append(f"seeds.Config: steps = {self.steps!r}, expected 0 to 1000")
        for name, length in (("spatial", 2), ("bilateral", 3)):
            values = getattr(self, name)
            if len(values) != length or not all(0 < value < float("inf") for value in values):
                problems.append(f"seeds.Config: {name} = {values!r}, expected {length} numbers above 0")
        if problems:
            raise ConfigError(problems)


def seed_labels(
    image: Tensor, cams: Tensor, classes: Tensor, *, foreground: float = 0.30, background: float = 0.05
) -> Tensor:
    """Seed map of one image.

    Args:
        image: ``[3, H, W]`` uint8 RGB.
        cams: ``[K, H, W]`` float, activation maps at image size, each divided by its maximum.
        classes: ``[K]`` integers, their classes ``0..C-1``.
        foreground: background score for confident foreground.
        background: background score for confident background, at most ``foreground``.

    Returns:
        ``[H, W]`` uint8: 0 background, class + 1, 255 unsure. Without classes everything is background.

    Raises:
        ValueError, TypeError: shapes, types or thresholds that cannot be right; values that are not finite.
    """
    owner = "seed_labels"
    for name, tensor, dims, what in (
        ("image", image, 3, "[3, H, W] uint8"),
        ("cams", cams, 3, "[K, H, W] float"),
    ):
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{owner}: {name} must be a tensor {what}, got {type(tensor).__name__}")
        if tensor.dim() != dims:
            raise ValueError(f"{owner}: {name} must be {what}, got {list(tensor.shape)}")
    if image.shape[0] != 3 or image.dtype != torch.uint8:
        raise ValueError(f"{owner}: image must be [3, H, W] uint8, got {image.dtype} {list(image.shape)}")
    if cams.shape[1:] != image.shape[1:] or not cams.is_floating_point():
        want = list(image.shape[1:])
        raise ValueError(f"{owner}: cams must be [K, H, W] float with [H, W] = {want}, got {list(cams.shape)}")
    classes = torch.as_tensor(classes, device=cams.device)
    if classes.dim() != 1 or classes.shape[0] != cams.shape[0]:
        raise ValueError(f"{owner}: classes must be [K] with K = {cams.shape[0]} maps, got {list(classes.shape)}")
    if classes.numel() and (classes.is_floating_point() or classes.is_complex() or classes.dtype == torch.bool):
        raise TypeError(f"{owner}: classes must be integers, got {classes.dtype}")
    if classes.numel() and not 0 <= int(classes.min()) <= int(classes.max()) <= 253:
        raise ValueError(f"{owner}: classes must lie in 0..253 to fit a uint8 map, got {classes.tolist()}")
    if not torch.isfinite(cams).all():
        raise ValueError(f"{owner}: cams must be finite, got NaN or infinity")
    config = Config(foreground=foreground, background=background)
    index = torch.zeros_like(classes, dtype=torch.int64)
    return seed_labels_batch(image[None], cams.float(), classes.long(), index, config)[0]


def seed_labels_batch(images: Tensor, cams: Tensor, classes: Tensor, image_index: Tensor, config: Config) -> Tensor:
    """Seed maps of images of one size, with the maps of all images in one flat table.

    Args:
        images: ``[B, 3, H, W]`` uint8.
        cams: ``[M, H, W]`` float32, ascending in ``image_index``.
        classes: ``[M]`` int64.
        image_index: ``[M]`` int64.
        config: thresholds and CRF.

    Returns:
        ``[B, H, W]`` uint8: 0 background, class + 1, 255 unsure.
    """
    batch, _, height, width = images.shape
    count = torch.bincount(image_index, minlength=batch)
    most = int(count.max()) if batch else 0
    if most == 0:
        return torch.zeros((batch, height, width), dtype=torch.uint8, device=images.device)
    rank = torch.arange(len(image_index), device=cams.device) - (count.cumsum(0) - count)[image_index]
    maps = cams.new_zeros((batch, most, height, width))
    maps[image_index, rank] = cams
    names = torch.zeros((batch, most + 1), dtype=torch.int64, device=cams.device)
    names[image_index, rank + 1] = classes + 1
    best, index = maps.max(1)
    guess = torch.stack([(index + 1) * (best > score) for score in (config.foreground, config.background)], 1)
    refined = ops.dense_crf(
        images,
        guess.int(),
        (count + 1).cpu(),
        gt_prob=config.gt_prob,
        steps=config.steps,
        spatial=config.spatial,
        bilateral=config.bilateral,
    ).long()
    sure, maybe = refined[:, 0], refined[:, 1]
    label = names.gather(1, sure.flatten(1)).view_as(sure)
    unsure = torch.where(maybe == 0, torch.zeros_like(label), torch.full_like(label, IGNORE))
    return torch.where(sure > 0, label, unsure).to(torch.uint8)
