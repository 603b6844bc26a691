"""The mean displacement that IRNet subtracts when it labels (Ahn, Cho, Kwak, CVPR 2019, section 4.1)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from wsis.models import IRNet

__all__ = ["measure_mean_displacement"]

_BATCH = 32
_CHUNK = 4


@torch.no_grad()
def measure_mean_displacement(net: IRNet, crops: Iterable[Tensor]) -> Tensor:
    """Measure, store in ``net.mean_shift`` and return the mean displacement ``[2]`` (y, x) in cells.

    The displacement only counts in differences while the net learns, so its mean is free; without this step a
    trace would drift. It is the mean of the means of batches of 32 crops.

    Args:
        net: trained; left in eval mode.
        crops: ``[3, S, S]`` normalised crops of one size.
    """
    net.eval()
    mean = net.mean_shift.running_mean
    mean.zero_()
    batches: list[Tensor] = []
    pending: list[Tensor] = []
    sums: list[Tensor] = []

    def flush() -> None:
        images = torch.stack(pending).to(mean.device).contiguous(memory_format=torch.channels_last)
        sums.extend(net(images).displacement.float().mean((2, 3)))
        pending.clear()

    for crop in crops:
        pending.append(crop)
        if len(pending) == _CHUNK:
            flush()
        if len(sums) == _BATCH:
            batches.append(torch.stack(sums).mean(0))
            sums.clear()
    if pending:
        flush()
    if sums:
        batches.append(torch.stack(sums).mean(0))
    if batches:
        mean.copy_(torch.stack(batches).mean(0))
    return mean.detach().cpu().clone()
