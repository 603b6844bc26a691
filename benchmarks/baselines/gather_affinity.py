"""Path affinities as a gather of all path cells and a maximum over each path, one group per path length."""

from __future__ import annotations

import torch
from torch import Tensor

from wsis.reference.edge_to_affinity import neighbor_offsets, path

__all__ = ["GatherAffinity"]


class GatherAffinity:
    """Precomputed indices for one size; ``edge_to_affinity``'s values for the sources whose half disc lies inside."""

    def __init__(self, height: int, width: int, radius: int) -> None:
        reach = radius - 1
        cells = torch.arange(height * width).view(height, width)
        self.shape = (height - reach, width - 2 * reach)
        groups: dict[int, list[Tensor]] = {}
        for dy, dx in neighbor_offsets(radius).tolist():
            steps = path(dy, dx)
            windows = [cells[y : y + self.shape[0], reach + x : reach + x + self.shape[1]].flatten() for y, x in steps]
            groups.setdefault(len(steps), []).append(torch.stack(windows))
        self.groups = [torch.stack(groups[length]) for length in sorted(groups)]

    def __call__(self, boundary: Tensor) -> Tensor:
        """``[B, h, w] -> [B, P, h - R + 1, w - 2 R + 2]``"""
        flat = boundary.flatten(1)
        parts = []
        for index in self.groups:
            offsets, length, sources = index.shape
            gathered = flat[:, index.flatten()].view(-1, length, sources).unsqueeze(0)
            pooled = torch.nn.functional.max_pool2d(gathered, (length, 1)).view(len(flat), offsets, sources)
            parts.append(1 - pooled)
        return torch.cat(parts, 1).unflatten(2, self.shape)
