"""One small input per operator, with its oracle; for the self-test of ``wsis doctor``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from wsis.reference import (
    center_target,
    class_scores,
    connected_components,
    dense_crf,
    edge_to_affinity,
    filter_ids,
    group_pixels,
    instance_stats,
    inter_pixel_loss,
    mask_iou,
    mask_rle,
    peaks,
    random_walk,
    trace_displacement,
    weighted_error,
)
from wsis.structures import InstanceMap, Points

__all__ = ["EXAMPLES", "Example"]


@dataclass(frozen=True)
class Example:
    """A call that the operator and its oracle must answer alike.

    Attributes:
        oracle: the slow twin.
        arguments: makes the positional arguments, on the CPU.
        tolerance: largest difference allowed.
        options: keyword arguments.
    """

    oracle: Callable[..., Any]
    arguments: Callable[[], Sequence[Any]]
    tolerance: float = 0.0
    options: dict[str, Any] = field(default_factory=dict)


def scene() -> dict[str, Any]:
    """Made-up inputs of two images, 24 x 28, the same every time."""
    generator = torch.Generator().manual_seed(7)

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    rows, columns = torch.meshgrid(torch.arange(24.0), torch.arange(28.0), indexing="ij")
    pull = torch.stack([12 - rows, 14 - columns])[None] * 0.3
    labels = torch.randint(0, 3, (2, 6, 7), generator=generator).repeat_interleave(4, 1).repeat_interleave(4, 2)
    index, name = torch.tensor([0, 0, 1]), torch.tensor([1, 2, 1])
    labels = labels.to(torch.int32)
    center = torch.tensor([[5.0, 6.0], [12.5, 20.0], [9.0, 3.0]])
    return {
        "boundary": 0.5 * rand(2, 24, 28),
        "seeds": rand(3, 24, 28),
        "index": index,
        "displacement": torch.cat([pull, -pull * 0.5]) + rand(2, 2, 24, 28) - 0.5,
        "labels": labels,
        "images": torch.randint(0, 256, (2, 3, 24, 28), generator=generator, dtype=torch.uint8),
        "scores": rand(2, 24, 28),
        "logits": 4 * rand(2, 24, 28) - 2,
        "heat": rand(2, 2, 24, 28),
        "semantic": rand(2, 3, 24, 28),
        "instances": InstanceMap(labels, index, name, name - 1, torch.tensor([0.5, 0.7, 0.9]), center),
        "points": Points(index, torch.tensor([5, 12, 9]), torch.tensor([6, 20, 3]), name - 1, torch.ones(3)),
        "counts": torch.tensor([3, 3]),
    }


def _take(*names: str) -> Callable[[], Sequence[Any]]:
    return lambda: [scene()[name] for name in names]


def _propagate(x: Tensor, edge: Tensor, radius: int = 5, beta: float = 10, exp_times: int = 8) -> Tensor:
    """The drop-in function by its definition."""
    edge = edge.reshape(1, *edge.shape[-2:])
    flat = x.reshape(-1, *x.shape[-2:]) * (1 - edge)
    index = torch.zeros(flat.shape[0], dtype=torch.int64)
    walk = random_walk.random_walk(flat, edge, index, radius=radius, beta=beta, num_steps=2**exp_times)
    return walk[:, None]


def _peak_mask(heatmap: Tensor, window: int, threshold: float = 0.0) -> Tensor:
    image, label, y, x, _ = peaks.peaks(heatmap, window, threshold)
    mask = torch.zeros(heatmap.shape, dtype=torch.bool)
    mask[image, label, y, x] = True
    return mask


def _codes() -> list[dict[str, Any]]:
    return mask_rle.mask_rle(scene()["labels"])


EXAMPLES: dict[str, Example] = {
    "neighbor_offsets": Example(edge_to_affinity.neighbor_offsets, lambda: [5]),
    "edge_to_affinity": Example(edge_to_affinity.edge_to_affinity, _take("boundary"), options={"radius": 5}),
    "random_walk": Example(random_walk.random_walk, _take("seeds", "boundary", "index"), 1e-4),
    "propagate_to_edge": Example(_propagate, lambda: [scene()["seeds"], scene()["boundary"][:1]], 1e-4),
    "inter_pixel_loss": Example(
        inter_pixel_loss.inter_pixel_loss, _take("logits", "displacement", "labels"), 1e-4, {"radius": 5}
    ),
    "trace_displacement": Example(trace_displacement.trace_displacement, _take("displacement")),
    "connected_components": Example(
        connected_components.connected_components, _take("labels"), options={"connectivity": 4}
    ),
    "instance_stats": Example(instance_stats.instance_stats, _take("labels", "scores"), 1e-5),
    "filter_ids": Example(filter_ids.filter_ids, _take("labels"), options={"min_area": 20}),
    "dense_crf": Example(dense_crf.dense_crf, _take("images", "labels", "counts")),
    "dense_crf_marginals": Example(dense_crf.dense_crf_marginals, _take("images", "labels", "counts"), 1e-4),
    "mask_iou": Example(mask_iou.mask_iou, lambda: [scene()["heat"][0] > 0.3, scene()["heat"][0] > 0.6]),
    "mask_rle": Example(mask_rle.mask_rle, _take("labels")),
    "rle_to_mask": Example(mask_rle.rle_to_mask, lambda: [_codes()]),
    "rle_to_ids": Example(mask_rle.rle_to_ids, lambda: [_codes(), 2, (24, 28)]),
    "peaks": Example(peaks.peaks, _take("heat"), options={"window": 5, "threshold": 0.3}),
    "peak_mask": Example(_peak_mask, _take("heat"), options={"window": 5, "threshold": 0.3}),
    "class_scores": Example(class_scores.class_scores, _take("semantic", "heat", "labels"), 1e-5),
    "weighted_error": Example(
        weighted_error.weighted_error,
        lambda: [scene()["heat"], [scene()["displacement"]], [scene()["scores"][:, None]]],
        1e-5,
        {"power": 2},
    ),
    "group_pixels": Example(group_pixels.group_pixels, _take("displacement", "points", "labels")),
    "center_target": Example(center_target.center_target, _take("instances"), 1e-5, {"num_classes": 2, "sigma": 3.0}),
}
"""By operator; a test sees to it that none is missing."""
