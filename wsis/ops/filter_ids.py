"""Instances of an id map by their area: those of a wanted size keep an id, the others vanish."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from wsis import _library
from wsis.ops._checks import check_device, check_int, check_tensor

__all__ = ["FilteredIds", "filter_ids"]

_library.load()

_OP = "filter_ids"
_LARGEST = 2**31 - 1


class FilteredIds(NamedTuple):
    """Result of :func:`filter_ids`.

    Attributes:
        ids: ``[B, H, W]`` int32, 0 = none, the kept ids numbered from 1 in each image, in their order.
        counts: ``[B]`` int32, how many each image keeps; at most ``H * W / min_area``.
    """

    ids: Tensor
    counts: Tensor


def filter_ids(ids: Tensor, min_area: int = 1, max_area: int | None = None) -> FilteredIds:
    """Keep the ids that cover ``min_area`` to ``max_area`` pixels, both included, and number them anew.

    Nothing is read back from the device, and the number of ids that are left has a bound known beforehand:
    what a table with room for every instance needs.

    Args:
        ids: ``[B, H, W]`` int32 in ``0..H * W``, such as those of ``connected_components``; a value outside
            counts as 0. At most ``2**31 - 2`` pixels an image.
        min_area: smallest area, in pixels.
        max_area: largest area; None: no limit.

    Raises:
        TypeError, ValueError: an argument is not as described.
    """
    check_tensor(_OP, "ids", ids, ("B", "H", "W"), (torch.int32,))
    check_device(_OP, ids=ids)
    check_int(_OP, "min_area", min_area, 0, _LARGEST)
    if max_area is None:
        max_area = _LARGEST
    check_int(_OP, "max_area", max_area, 0, _LARGEST)
    if ids.shape[1] * ids.shape[2] >= _LARGEST:
        raise ValueError(
            f"{_OP}: ids must have at most {_LARGEST - 1} pixels an image, got {ids.shape[1] * ids.shape[2]}"
        )
    return FilteredIds(*torch.ops.wsis.filter_ids.default(ids, min_area, max_area))


@torch.library.register_fake("wsis::filter_ids")
def _(ids: Tensor, min_area: int, max_area: int) -> tuple[Tensor, Tensor]:
    return ids.new_empty(ids.shape), ids.new_empty((ids.shape[0],))
