"""Oracle of :func:`wsis.ops.instance_stats`: one mask after another."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["instance_stats"]


def instance_stats(
    ids: Tensor, scores: Tensor | None = None, *, sizes: Tensor | None = None
) -> tuple[Tensor | None, ...]:
    """The columns of :class:`wsis.ops.InstanceStats`, made from the mask of each id."""
    rows: list[list[object]] = [[] for _ in range(8)]
    for b in range(ids.shape[0]):
        height, width = ids.shape[1:] if sizes is None else map(int, sizes[b])
        image = ids[b, :height, :width]
        for value in sorted(set(image.reshape(-1).tolist()) - {0}):
            y, x = (image == value).nonzero(as_tuple=True)
            row = [b, int(value), len(y), (int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1)]
            row.append((float(y.double().mean()), float(x.double().mean())))
            if scores is not None:
                inside = scores[b][y, x].double()
                first = inside.tolist().index(inside.max())
                row += [float(inside.max()), float(inside.mean()), (int(y[first]), int(x[first]))]
            for column, cell in zip(rows, row):
                column.append(cell)
    shapes = [(-1,), (-1,), (-1,), (-1, 4), (-1, 2), (-1,), (-1,), (-1, 2)]
    float_dtype = torch.float64 if scores is None else scores.dtype
    dtypes = [torch.int64] * 4 + [torch.float64, float_dtype, float_dtype, torch.int64]
    return tuple(
        None
        if scores is None and k >= 5
        else torch.tensor(column, dtype=dtype, device=ids.device).reshape(shape)
        for k, (column, shape, dtype) in enumerate(zip(rows, shapes, dtypes))
    )
