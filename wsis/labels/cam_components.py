"""The baseline that IRNet is measured against: activation maps against a constant, their components as
instances."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from wsis.errors import ConfigError
from wsis.labels.cam import multi_scale_cams
from wsis.labels.irnet import Propagated, component_table
from wsis.models import CamNet

__all__ = ["CamFields", "CamLabeller", "Config"]


@dataclass(frozen=True)
class Config:
    """Thresholds of the baseline.

    Attributes:
        background: score of the background channel; the paper evaluates activation maps with 0.15.
        min_area: a component smaller than this share of the image gets score 0.
    """

    background: float = 0.15
    min_area: float = 0.01

    def __post_init__(self) -> None:
        problems = [
            f"cam_components.Config: {name} = {getattr(self, name)!r}, expected 0 to 1"
            for name in ("background", "min_area")
            if not 0 <= getattr(self, name) <= 1
        ]
        if problems:
            raise ConfigError(problems)


class CamFields(NamedTuple):
    """Activation maps of ``B`` images of one size.

    Attributes:
        full: ``[M, H, W]`` float32 at image size, ascending in ``image_index``.
        classes: ``[M]`` int64; image_index: ``[M]`` int64.
        batch: number of images.
    """

    full: Tensor
    classes: Tensor
    image_index: Tensor
    batch: int

    def finite(self) -> Tensor:
        """``[B]`` bool, images whose maps hold no NaN and no infinity."""
        wrong = (~self.full.isfinite().flatten(1).all(1)).long()
        return (
            torch.zeros(self.batch, dtype=torch.int64, device=wrong.device).index_add_(0, self.image_index, wrong) == 0
        )

    def select(self, images: Tensor) -> CamFields:
        """The images of a ``[B]`` bool mask alone."""
        keep = images[self.image_index]
        index = (images.long().cumsum(0) - 1)[self.image_index[keep]]
        return CamFields(self.full[keep], self.classes[keep], index, int(images.sum()))


class CamLabeller:
    """As :class:`wsis.labels.labeller.Labeller`, from the classifier alone."""

    needs_tags = True

    def __init__(
        self,
        cam_net: CamNet,
        config: Config,
        scales: Sequence[float],
        context: Callable[[], AbstractContextManager] = nullcontext,
    ) -> None:
        self.cam_net, self.config, self.scales, self.context = cam_net, config, tuple(scales), context

    @property
    def device(self) -> torch.device:
        return self.cam_net.classifier.weight.device

    def to(self, device: torch.device | str) -> CamLabeller:
        self.cam_net.to(device)
        return self

    @torch.no_grad()
    def fields(
        self,
        images: Sequence[Tensor],
        classes: Sequence[Sequence[int]],
        pyramids: Sequence[Sequence[Tensor]] | None = None,
    ) -> CamFields:
        """Run the net on images of one size, one by one on the CPU."""
        step = 1 if self.device.type == "cpu" else len(images)
        maps = []
        with self.context():
            for start in range(0, len(images), step):
                part = slice(start, start + step)
                levels = None if pyramids is None else pyramids[part]
                maps += multi_scale_cams(self.cam_net, images[part], classes[part], self.scales, levels)
        counts = torch.tensor([len(item) for item in classes], dtype=torch.int64)
        index = torch.repeat_interleave(torch.arange(len(classes)), counts)
        flat = torch.tensor([number for item in classes for number in item], dtype=torch.int64)
        full = torch.cat([item.full for item in maps])
        return CamFields(full, flat.to(full.device), index.to(full.device), len(images))

    @torch.no_grad()
    def spread(
        self, fields: CamFields, size: tuple[int, int], *, instances: bool = True, semantic: bool = False
    ) -> Propagated:
        """The winning class of every pixel, and its components."""
        full, index = fields.full, fields.image_index
        count = torch.bincount(index, minlength=fields.batch)
        most = int(count.max())
        rank = torch.arange(len(index), device=index.device) - (count.cumsum(0) - count)[index]
        dense = full.new_zeros((fields.batch, most, *size))
        dense[index, rank] = full
        slot = torch.zeros((fields.batch, most), dtype=torch.int64, device=index.device)
        slot[index, rank] = torch.arange(len(index), device=index.device)
        value, channel = dense.max(1)
        chosen = slot.gather(1, channel.flatten(1)).view_as(channel) + 1
        winner = torch.where(value > self.config.background, chosen, torch.zeros_like(chosen))
        table, area, box, maps = None, None, None, None
        if instances:
            table, area, box = component_table(winner, value, fields.classes, self.config.min_area)
        if semantic:
            maps = torch.cat([fields.classes.new_zeros(1), fields.classes + 1])[winner]
        nothing = index.new_zeros(0)
        return Propagated(table, area, box, maps, 0, full.new_zeros((0, *size)), nothing, nothing)
