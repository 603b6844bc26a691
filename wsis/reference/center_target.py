"""Oracle of :func:`wsis.ops.center_target`: one instance at a time, one whole image at a time."""

from __future__ import annotations

import torch

from wsis.structures import CenterOffsetTarget, InstanceMap

__all__ = ["center_target"]


def center_target(instances: InstanceMap, num_classes: int, sigma: float = 6.0) -> CenterOffsetTarget:
    """Of several rows with one id in one image, the first says where its pixels go."""
    batch, height, width = instances.ids.shape
    center = torch.zeros(batch, num_classes, height, width)
    offset, weight = torch.zeros(batch, 2, height, width), torch.zeros(batch, 1, height, width)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    seen = set()
    for m in range(len(instances)):
        b, name, label = (int(t[m]) for t in (instances.image_index, instances.id, instances.label))
        cy, cx = (int(v) for v in instances.center_yx[m])
        dy, dx = cy - y, cx - x
        bell = torch.exp(-(dy**2 + dx**2).double() / (2 * sigma**2)).float()
        bell[(dy.abs() > int(3 * sigma + 1)) | (dx.abs() > int(3 * sigma + 1))] = 0
        center[b, label] = torch.maximum(center[b, label], bell)
        if name == 0 or (b, name) in seen:
            continue
        seen.add((b, name))
        mask = instances.ids[b] == name
        offset[b, 0][mask], offset[b, 1][mask] = dy[mask].float(), dx[mask].float()
        weight[b, 0][mask] = instances.score[m].float()
    return CenterOffsetTarget(center, offset, weight)
