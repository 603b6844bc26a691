"""Training targets of a centre and offset network from instances (BESTIE, CVPR 2022, section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor

from wsis import _library
from wsis.ops._checks import (
    FLOATS,
    INTEGERS,
    check_device,
    check_finite,
    check_float,
    check_index,
    check_int,
    check_tensor,
)
from wsis.structures import CenterOffsetTarget, InstanceMap

__all__ = ["center_target"]

_library.load()

_OP = "center_target"
_MAX_SIGMA = 100.0


def center_target(instances: InstanceMap, num_classes: int, sigma: float = 6.0) -> CenterOffsetTarget:
    """A Gaussian at every centre, and at every pixel of an instance the way to its centre.

    Args:
        instances: id map and table; ``center_yx`` is finite and truncated to whole pixels. A row whose id does not
            occur in the map still draws its Gaussian; pixels of an id without a row have no target.
        num_classes: channels of the heatmap; labels lie below it.
        sigma: width of the Gaussian in pixels, 0.01..100.

    Returns:
        :class:`CenterOffsetTarget`: ``center [B, C, H, W]``, ``exp(-d^2 / (2 sigma^2))`` of each instance in its class,
        cut to ``|dy|, |dx| <= int(3 sigma + 1)``, combined by maximum; ``offset [B, 2, H, W]``, centre minus pixel;
        ``weight [B, 1, H, W]``, the instance's score; 0 elsewhere.

    Raises:
        TypeError, ValueError: an argument is not as described.
    """
    if not isinstance(instances, InstanceMap):
        raise TypeError(f"{_OP}: instances must be an InstanceMap, got {type(instances).__name__}")
    check_int(_OP, "num_classes", num_classes, 0, 2**31 - 1)
    check_float(_OP, "sigma", sigma, 0.01, _MAX_SIGMA)
    key, label, score, center = _table(instances, num_classes)
    reach = int(3 * sigma + 1)
    distance = torch.arange(2 * reach * reach + 1, dtype=torch.float64, device=key.device)
    bell = torch.exp(-distance / (2 * sigma * sigma)).to(torch.float32)
    return CenterOffsetTarget(
        *torch.ops.wsis.center_target.default(
            instances.ids.to(torch.int32), key, label, score, center, bell, num_classes, reach
        )
    )


def _table(instances: InstanceMap, num_classes: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The columns the kernel reads, checked and sorted by image and id."""
    rows = instances.image_index.shape[0]
    check_tensor(_OP, "instances.ids", instances.ids, ("B", "H", "W"), INTEGERS)
    for name in ("image_index", "id", "label"):
        check_tensor(_OP, f"instances.{name}", getattr(instances, name), (rows,), INTEGERS)
    check_tensor(_OP, "instances.score", instances.score, (rows,), FLOATS)
    check_tensor(_OP, "instances.center_yx", instances.center_yx, (rows, 2), (*FLOATS, *INTEGERS))
    image, identity, label = (
        t.to(torch.int64) for t in (instances.image_index, instances.id, instances.label)
    )
    score, center = instances.score, instances.center_yx
    check_device(_OP, ids=instances.ids, image_index=image, id=identity, label=label, score=score, center_yx=center)
    check_index(_OP, "instances.image_index", image, instances.ids.shape[0], "the images of the id map")
    check_index(_OP, "instances.id", identity, 2**31, "int32")
    check_index(_OP, "instances.label", label, num_classes, f"num_classes is {num_classes}")
    check_finite(_OP, "instances.center_yx", center)
    key = (image << 32) + identity
    order = torch.argsort(key, stable=True)
    # Centres far outside draw nothing; the clamp keeps their arithmetic small.
    center = center.clamp(-(2**24), 2**24).to(torch.int64)
    return key[order], label[order], score.to(torch.float32)[order], center[order]


@torch.library.register_fake("wsis::center_target")
def _(
    ids: Tensor,
    key: Tensor,
    label: Tensor,
    score: Tensor,
    center_yx: Tensor,
    bell: Tensor,
    num_classes: int,
    reach: int,
) -> tuple[Tensor, Tensor, Tensor]:
    batch, height, width = ids.shape
    return (
        score.new_empty(batch, num_classes, height, width),
        score.new_empty(batch, 2, height, width),
        score.new_empty(batch, 1, height, width),
    )
