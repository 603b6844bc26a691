"""A centre and offset network as a labeller: pictures to instances and semantic maps, one batch at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import compress
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from wsis import ops
from wsis.labels.center_offset.config import Config
from wsis.labels.center_offset.inference import decode_map, predicted_labels
from wsis.labels.center_offset.inputs import Fields
from wsis.labels.center_offset.network import network_fields
from wsis.labels.irnet import Propagated
from wsis.models import CenterOffsetNet
from wsis.structures import InstanceMap, Points

__all__ = ["CenterOffsetFields", "CenterOffsetLabeller"]


class CenterOffsetFields(NamedTuple):
    """What the network says of ``B`` images of one size.

    Attributes:
        semantic, center, offset: as :class:`wsis.labels.center_offset.inputs.Prediction`.
        present: ``[B, C]`` bool, the classes to look for; None = all.
        points: of each image ``(x, y, class, confidence)``, the centres of its instances; None = as the maps show.
    """

    semantic: Tensor
    center: Tensor
    offset: Tensor
    present: Tensor | None
    points: tuple[Sequence[Sequence[float]], ...] | None = None

    def finite(self) -> Tensor:
        """``[B]`` bool, images whose maps hold no NaN and no infinity."""
        maps = (self.semantic, self.center, self.offset)
        return torch.stack([item.isfinite().flatten(1).all(1) for item in maps]).all(0)

    def select(self, images: Tensor) -> CenterOffsetFields:
        """The images of a ``[B]`` bool mask alone."""
        maps = (None if item is None else item[images] for item in self[:4])
        points = None if self.points is None else tuple(compress(self.points, images.tolist()))
        return CenterOffsetFields(*maps, points)

    def arrays(self, image: int, made: Propagated) -> dict[str, np.ndarray]:
        """What the report needs of one image: ``classes [K]``, ``center [K, h, w]`` and ``offset [2, h, w]`` at a
        quarter of the image's resolution, offsets in pixels of the image."""
        probability = self.semantic[image].softmax(0)[1:]
        chosen = probability.flatten(1).amax(1) > 0.5
        if self.present is not None:
            chosen = self.present[image]
        classes = chosen.nonzero().squeeze(1)
        maps = {
            "center": self.center[image, classes],
            "offset": self.offset[image],
            "probability": probability[classes],
        }
        small = {name: item[:, ::4, ::4].half().cpu().numpy() for name, item in maps.items()}
        return {"classes": classes.cpu().numpy(), **small}


class CenterOffsetLabeller:
    """As :class:`wsis.labels.labeller.Labeller`, from a centre and offset network.

    Args:
        net: in eval mode.
        config: thresholds.
        use_tags: only the classes of the image labels; else whatever the network sees.
        mirror: average class probabilities and centre maps with those of the mirrored picture.
        context: makes the context in which the net runs (autocast).
    """

    def __init__(
        self,
        net: CenterOffsetNet,
        config: Config,
        use_tags: bool = True,
        mirror: bool = False,
        context: Callable[[], AbstractContextManager] = nullcontext,
    ) -> None:
        self.net, self.config, self.mirror, self.context = net, config, mirror, context
        self.needs_tags = use_tags

    @property
    def device(self) -> torch.device:
        return next(self.net.parameters()).device

    def to(self, device: torch.device | str) -> CenterOffsetLabeller:
        self.net.to(device)
        return self

    @torch.no_grad()
    def fields(
        self,
        images: Sequence[Tensor],
        classes: Sequence[Sequence[int]],
        points: Sequence[Sequence[Sequence[float]]] | None = None,
    ) -> CenterOffsetFields:
        """Run the net on images of one size, one by one on the CPU; ``points`` as in the result."""
        step = 1 if self.device.type == "cpu" else len(images)
        parts = []
        with self.context():
            for start in range(0, len(images), step):
                some = torch.stack(list(images[start : start + step]))
                parts.append(network_fields(self.net, some, self.mirror, self.config.network_side))
        maps = [torch.cat(item) for item in zip(*parts)]
        present = None
        if self.needs_tags:
            present = torch.zeros((len(images), self.net.num_classes), dtype=torch.bool)
            for row, numbers in enumerate(classes):
                present[row, list(numbers)] = True
            present = present.to(self.device)
        return CenterOffsetFields(*maps, present, None if points is None else tuple(points))

    @torch.no_grad()
    def spread(
        self,
        fields: CenterOffsetFields,
        size: tuple[int, int],
        *,
        instances: bool = True,
        semantic: bool = False,
    ) -> Propagated:
        """Decode: instances, semantic maps or both of images of ``size``."""
        maps = Fields(fields.semantic, fields.center, fields.offset)
        table, area, box, labels = None, None, None, None
        if instances:
            given = None if fields.points is None else Points.from_rows(fields.points, self.device)
            table = decode_map(maps, fields.present, self.config, points=given)
            area, box = _areas_and_boxes(table)
        if semantic:
            labels = predicted_labels("decode", maps, fields.present, None).long()
        none = torch.zeros(0, dtype=torch.int64, device=self.device)
        return Propagated(table, area, box, labels, 0, fields.center.new_zeros((0, *size)), none, none)


def _areas_and_boxes(table: InstanceMap) -> tuple[Tensor, Tensor]:
    """``[M]`` areas and ``[M, 4]`` half-open boxes of the rows."""
    stats = ops.instance_stats(table.ids)
    span = int(table.ids.max()) + 1 if table.ids.numel() else 1
    known, order = torch.sort(stats.image_index.long() * span + stats.id.long())
    row = order[torch.searchsorted(known, table.image_index * span + table.id)]
    return stats.area[row], stats.box_xyxy[row]
