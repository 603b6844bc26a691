"""AP of a centre and offset network on images that its training does not see."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from wsis.data.image_set import ImageSet
from wsis.errors import DataFault
from wsis.evaluation import instance_voc
from wsis.labels import center_offset
from wsis.labels.center_offset.network import network_fields
from wsis.models import CenterOffsetNet
from wsis.structures import Instances, Points

from .center_offset_training import CenterOffsetSamples

__all__ = ["measure_ap"]


@torch.no_grad()
def measure_ap(
    net: CenterOffsetNet,
    data: ImageSet,
    places: Sequence[int],
    config: center_offset.Config,
    weak: CenterOffsetSamples | None,
) -> dict[str, float]:
    """VOC AP at 25 and 50 % of what the network finds for the classes of the image labels.

    Args:
        net: in eval mode.
        data: pictures.
        places: which of them.
        config: thresholds of the decoding.
        weak: compare with the pseudo labels that these make (no mask is read); None: with the masks of the data.
    """
    found, truth = [], []
    device = next(net.parameters()).device
    for index in places:
        try:
            image = torch.from_numpy(data.load_image(index)).permute(2, 0, 1)
            labels = torch.from_numpy(data.label_vector(index))[None]
            target = data.load_instances(index) if weak is None else _pseudo(weak, index, labels, config, image)
        except DataFault:
            continue
        fields = network_fields(net, image[None], long_side=config.network_side)
        found.append(_cpu(center_offset.decode(fields, labels.to(device), config)[0]))
        truth.append(target)
    figures = instance_voc.evaluate(found, truth, (0.25, 0.5), num_classes=len(data.categories))
    return {name: float(torch.nan_to_num(torch.tensor(figures[f"map_{name[2:]}"]))) for name in ("ap25", "ap50")}


def _pseudo(
    weak: CenterOffsetSamples, index: int, labels: torch.Tensor, config: center_offset.Config, image: torch.Tensor
) -> Instances:
    """The instances of the pseudo labels: regions of the semantic map with exactly one point."""
    semantic, rows = weak.weak_labels(index, tuple(image.shape[1:]))
    points = Points.from_rows([rows])
    found = center_offset.pseudo_instances(torch.from_numpy(semantic)[None], points, labels, config=config)
    return found.to_instances()[0]


def _cpu(instances: Instances) -> Instances:
    return Instances(instances.masks.cpu(), instances.labels.cpu(), instances.scores.cpu())
