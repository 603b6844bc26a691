"""From pictures and their tags to instances and semantic maps: the nets and the propagation, one batch at a
time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from wsis.labels.cam import multi_scale_cams
from wsis.labels.fields import boundary_and_displacement
from wsis.labels.irnet import Config, Propagated, propagate
from wsis.models import CamNet, IRNet

__all__ = ["Fields", "Labeller"]


class Fields(NamedTuple):
    """What the nets say of ``B`` images of one size, the maps of all images in one flat table.

    Attributes:
        cams: ``[M, h, w]`` float32, strided activation maps, ascending in ``image_index``.
        classes: ``[M]`` int64; image_index: ``[M]`` int64.
        boundary: ``[B, h, w]`` float32; displacement: ``[B, 2, h, w]`` float32.
        images: ``[B, 3, H, W]`` uint8, where a CRF will need them.
    """

    cams: Tensor
    classes: Tensor
    image_index: Tensor
    boundary: Tensor
    displacement: Tensor
    images: Tensor | None = None

    def finite(self) -> Tensor:
        """``[B]`` bool, images whose fields hold no NaN and no infinity."""
        good = self.boundary.isfinite().flatten(1).all(1) & self.displacement.isfinite().flatten(1).all(1)
        wrong = ~self.cams.isfinite().flatten(1).all(1)
        return good & (torch.zeros_like(good, dtype=torch.int64).index_add_(0, self.image_index, wrong.long()) == 0)

    def select(self, images: Tensor) -> Fields:
        """The images of a ``[B]`` bool mask alone."""
        keep = images[self.image_index]
        place = images.long().cumsum(0) - 1
        index = place[self.image_index[keep]]
        pictures = None if self.images is None else self.images[images.to(self.images.device)]
        nets = (self.boundary[images], self.displacement[images])
        return Fields(self.cams[keep], self.classes[keep], index, *nets, pictures)

    def arrays(self, image: int, made: Propagated) -> dict[str, np.ndarray]:
        """Everything the report and a sweep of thresholds need of one image.

        ``classes [K]``, ``cam [K, h, w]``, ``boundary [h, w]``, ``displacement [2, h, w]``; where made, ``walk
        [N, h, w]`` (pieces of instances) with their classes ``walk_label [N]``, and ``walk_class [K, h, w]``.
        """
        own = self.image_index == image
        mine = made.walked_image == image
        kept = {
            "classes": self.classes[own],
            "cam": self.cams[own],
            "boundary": self.boundary[image],
            "displacement": self.displacement[image],
        }
        pieces, whole = mine[: made.pieces], mine[made.pieces :]
        if pieces.any():
            kept["walk"] = made.walked[: made.pieces][pieces]
            kept["walk_label"] = made.walked_class[: made.pieces][pieces]
        if whole.any():
            kept["walk_class"] = made.walked[made.pieces :][whole]
        return {name: tensor.cpu().numpy() for name, tensor in kept.items()}


class Labeller:
    """Two trained nets and the thresholds of the propagation.

    Args:
        cam_net, irnet: in eval mode, on one device.
        config: thresholds.
        scales: of the image pyramid of the activation maps.
        min_side: see :func:`wsis.labels.fields.boundary_and_displacement`.
        context: makes the context in which the nets run (autocast).
    """

    needs_tags = True

    def __init__(
        self,
        cam_net: CamNet,
        irnet: IRNet,
        config: Config,
        scales: Sequence[float],
        min_side: int,
        context: Callable[[], AbstractContextManager] = nullcontext,
    ) -> None:
        self.cam_net, self.irnet, self.config = cam_net, irnet, config
        self.scales, self.min_side, self.context = tuple(scales), min_side, context

    @property
    def device(self) -> torch.device:
        return self.cam_net.classifier.weight.device

    def to(self, device: torch.device | str) -> Labeller:
        """Move both nets."""
        self.cam_net.to(device)
        self.irnet.to(device)
        return self

    @torch.no_grad()
    def fields(
        self,
        images: Sequence[Tensor],
        classes: Sequence[Sequence[int]],
        pyramids: Sequence[Sequence[Tensor]] | None = None,
    ) -> Fields:
        """Run the nets on images of one size: ``B`` times ``[3, H, W]`` uint8, and the classes of each. ``pyramids``:
        see :func:`wsis.labels.cam.multi_scale_cams`.

        On the CPU images go through the nets one by one: the last bits of a convolution depend on how many
        images it is given, and a batch is not faster there.
        """
        step = 1 if self.device.type == "cpu" else len(images)
        maps, boundary, displacement = [], [], []
        with self.context():
            for start in range(0, len(images), step):
                part = list(images[start : start + step])
                levels = None if pyramids is None else pyramids[start : start + step]
                maps += multi_scale_cams(self.cam_net, part, classes[start : start + step], self.scales, levels)
                pair = boundary_and_displacement(self.irnet, torch.stack(part), self.min_side)
                boundary.append(pair.boundary)
                displacement.append(pair.displacement)
        counts = torch.tensor([len(item) for item in classes], dtype=torch.int64)
        index = torch.repeat_interleave(torch.arange(len(classes)), counts)
        flat = torch.tensor([number for item in classes for number in item], dtype=torch.int64)
        cams = torch.cat([item.strided for item in maps])
        fields = (flat.to(cams.device), index.to(cams.device), torch.cat(boundary), torch.cat(displacement))
        with_crf = self.config.crf > 0 or self.config.semantic_crf > 0
        return Fields(cams, *fields, torch.stack(list(images)).to(cams.device) if with_crf else None)

    @torch.no_grad()
    def spread(
        self, fields: Fields, size: tuple[int, int], *, instances: bool = True, semantic: bool = False
    ) -> Propagated:
        """Instances, semantic maps or both of images of ``size``."""
        return propagate(
            fields.cams,
            fields.classes,
            fields.image_index,
            fields.boundary,
            fields.displacement if instances else None,
            size,
            self.config,
            semantic=semantic,
            images=fields.images,
        )
