"""Oracle of :func:`wsis.ops.connected_components`: flood fill, pixel by pixel."""

from __future__ import annotations

from collections import deque

import torch
from torch import Tensor

__all__ = ["connected_components"]


def connected_components(
    labels: Tensor, connectivity: int = 8, *, background: int | None = 0, sizes: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """``[B, H, W] -> (ids [B, H, W], counts [B])`` int32; a component is flooded from its first pixel."""
    steps = [(-1, 0), (0, -1), (0, 1), (1, 0)]
    if connectivity == 8:
        steps += [(-1, -1), (-1, 1), (1, -1), (1, 1)]
    batch, height, width = labels.shape
    ids = torch.zeros((batch, height, width), dtype=torch.int32)
    counts = torch.zeros(batch, dtype=torch.int32)
    for b in range(batch):
        rows, columns = (height, width) if sizes is None else map(int, sizes[b])
        image = labels[b, :rows, :columns].tolist()
        found = [[0] * columns for _ in range(rows)]
        count = 0
        for y in range(rows):
            for x in range(columns):
                if found[y][x] or (background is not None and image[y][x] == background):
                    continue
                count += 1
                found[y][x] = count
                queue = deque([(y, x)])
                while queue:
                    cy, cx = queue.popleft()
                    for dy, dx in steps:
                        ny, nx = cy + dy, cx + dx
                        if not (0 <= ny < rows and 0 <= nx < columns) or found[ny][nx]:
                            continue
                        if image[ny][nx] == image[y][x]:
                            found[ny][nx] = count
                            queue.append((ny, nx))
        if rows and columns:
            ids[b, :rows, :columns] = torch.tensor(found, dtype=torch.int32)
        counts[b] = count
    return ids.to(labels.device), counts.to(labels.device)
