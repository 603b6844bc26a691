"""Connected components of label maps: the pixels of one value that hang together."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from wsis import _library
from wsis.ops._checks import INTEGERS, check_device, check_int, check_sizes, check_tensor

__all__ = ["Components", "connected_components"]

_library.load()

_OP = "connected_components"
LABEL_DTYPES = (torch.bool, *INTEGERS, torch.uint16)
MAX_PIXELS = 2**31 - 1


class Components(NamedTuple):
    """Result of :func:`connected_components`.

    Attributes:
        ids: ``[B, H, W]`` int32, 0 = background, components from 1 in each image.
        counts: ``[B]`` int32, components of each image.
    """

    ids: Tensor
    counts: Tensor


def connected_components(
    labels: Tensor, connectivity: int = 8, *, background: int | None = 0, sizes: Tensor | None = None
) -> Components:
    """Number the connected components of label maps; neighbours join only if their labels are equal.

    Args:
        labels: ``[B, H, W]`` bool or integers; at most ``2**31 - 1`` pixels an image.
        connectivity: 4 (pixels that share an edge) or 8 (an edge or a corner).
        background: the label whose pixels belong to no component; None: there is no such label.
        sizes: ``[B, 2]`` integers (height, width) of padded images; what lies outside is background.

    Returns:
        :class:`Components` on the device of ``labels``. Ids run from 1 in raster order of the first pixel of
        each component.

    Raises:
        TypeError, ValueError: an argument is not as described.
    """
    check_tensor(_OP, "labels", labels, ("B", "H", "W"), LABEL_DTYPES)
    check_int(_OP, "connectivity", connectivity, 4, 8)
    if connectivity not in (4, 8):
        raise ValueError(f"{_OP}: connectivity must be 4 or 8, got {connectivity}")
    if background is not None:
        low, high = _value_range(labels.dtype)
        check_int(_OP, "background", background, low, high)
    batch, height, width = labels.shape
    if height * width > MAX_PIXELS:
        raise ValueError(f"{_OP}: labels must be at most {MAX_PIXELS} pixels an image, got {height * width}")
    sizes = check_sizes(_OP, sizes, batch, height, width)
    check_device(_OP, labels=labels, sizes=sizes)
    return Components(*torch.ops.wsis.connected_components.default(labels, sizes, connectivity, background))


def _value_range(dtype: torch.dtype) -> tuple[int, int]:
    if dtype == torch.bool:
        return 0, 1
    info = torch.iinfo(dtype)
    return info.min, info.max


@torch.library.register_fake("wsis::connected_components")
def _(
    labels: Tensor, sizes: Tensor | None, connectivity: int, background: int | None
) -> tuple[Tensor, Tensor]:
    batch, height, width = labels.shape
    ids = labels.new_empty((batch, height, width), dtype=torch.int32)
    return ids, labels.new_empty((batch,), dtype=torch.int32)
