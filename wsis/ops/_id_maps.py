"""What the ops on id maps share: checks, and ids made small and consecutive where they are not."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from wsis.ops._checks import INTEGERS, check_tensor

__all__ = ["DenseIds", "check_id_map", "dense_ids"]

ID_DTYPES = (torch.bool, *INTEGERS)
MAX_PIXELS = 2**31 - 1


class DenseIds(NamedTuple):
    """Ids that fit a table.

    Attributes:
        ids: ``[B, H, W]`` int32.
        capacity: the largest id.
        names: ``[capacity + 1]`` original ids, or None where the ids were small enough already.
    """

    ids: Tensor
    capacity: int
    names: Tensor | None

    def original(self, ids: Tensor) -> Tensor:
        """Original values (int64) of ids of this map."""
        return ids if self.names is None else self.names[ids]


def check_id_map(op: str, ids: Tensor) -> tuple[int, int, int]:
    """``B, H, W`` of an id map. Raises: TypeError, ValueError: no ``[B, H, W]`` of bool or integers."""
    check_tensor(op, "ids", ids, ("B", "H", "W"), ID_DTYPES)
    batch, height, width = ids.shape
    if height * width > MAX_PIXELS:
        raise ValueError(f"{op}: ids must have at most {MAX_PIXELS} pixels an image, got {height * width}")
    return batch, height, width


def dense_ids(op: str, ids: Tensor) -> DenseIds:
    """``ids`` as int32, none above the pixels of an image: larger ones are renumbered, keeping the order.

    Raises:
        ValueError: a negative id.
    """
    if ids.dtype == torch.bool:
        ids = ids.to(torch.uint8)
    if ids.numel() == 0:
        return DenseIds(ids.to(torch.int32), 0, None)
    low, high = (int(v) for v in torch.aminmax(ids))
    if low < 0:
        raise ValueError(f"{op}: ids must be 0 (no instance) or positive, got {low}")
    if high <= max(ids.shape[1] * ids.shape[2], 256):
        return DenseIds(ids.to(torch.int32), high, None)
    values, inverse = torch.unique(ids, return_inverse=True)
    names = values.to(torch.int64)
    if low > 0:
        names, inverse = torch.cat((names.new_zeros(1), names)), inverse + 1
    return DenseIds(inverse.to(torch.int32), names.numel() - 1, names)
