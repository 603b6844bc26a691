"""Self-refinement of BESTIE as usually written: image by image, class by class, component by component.

Each component is a full-size mask with distances of every pixel of the image to each of its centres; OpenCV finds
components and clusters, NumPy does the rest. The running maximum is that of ``torch.nn.functional.max_pool2d``, as in
the published code, or OpenCV's ``dilate``, which is separable and the fastest known to us. (The published code does the
rest in PyTorch with a read-back for every number.)
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from wsis.labels.center_offset import Config

__all__ = ["refine"]


def refine(
    semantic_logits: np.ndarray,
    center: np.ndarray,
    offset: np.ndarray,
    semantic: np.ndarray,
    image_labels: np.ndarray,
    config: Config,
    maximum: str = "dilate",
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``[B, C + 1, H, W]``, ``[B, C, H, W]``, ``[B, 2, H, W]``, ``[B, H, W]``, ``[B, C]`` -> centre, offset, weight."""
    batch, classes, height, width = center.shape
    heat = np.zeros((batch, classes, height, width), np.float32)
    way = np.zeros((batch, 2, height, width), np.float32)
    weight = np.zeros((batch, 1, height, width), np.float32)
    grid = np.mgrid[:height, :width].astype(np.float32)
    reach = int(3 * config.sigma + 1)
    axis = np.arange(-reach, reach + 1)
    bell = np.exp(-(axis[:, None] ** 2 + axis[None] ** 2) / (2 * config.sigma**2)).astype(np.float32)
    for b in range(batch):
        logits = semantic_logits[b] - semantic_logits[b].max(0)
        softmax = np.exp(logits)
        softmax /= softmax.sum(0)
        target = grid + offset[b]
        weak = np.hypot(offset[b, 0], offset[b, 1]) < config.weak_offset
        for label in np.flatnonzero(image_labels[b]):
            count, parts = cv2.connectedComponents((semantic[b] == label + 1).astype(np.uint8), connectivity=8)
            for part in range(1, count):
                mask = parts == part
                if mask.sum() < config.min_area:
                    continue
                for pixels, at, score in _instances(
                    mask, center[b, label] * mask, target, weak & mask, softmax[label + 1], config, maximum
                ):
                    way[b, 0][pixels] = at[0] - grid[0][pixels]
                    way[b, 1][pixels] = at[1] - grid[1][pixels]
                    weight[b, 0][pixels] = score
                    _draw(heat[b, label], bell, at, reach)
    return heat, way, weight


def _running_maximum(heat: np.ndarray, window: int, maximum: str) -> np.ndarray:
    if maximum == "dilate":
        return cv2.dilate(heat, np.ones((window, window), np.uint8))
    return F.max_pool2d(torch.from_numpy(heat)[None, None], window, 1, window // 2)[0, 0].numpy()


def _centers(heat: np.ndarray, weak: np.ndarray, config: Config, maximum: str) -> list[tuple[int, int]]:
    """Peaks of a component's centre map, then centroids of its clusters of weak offsets; raises ``heat`` there."""
    highest = _running_maximum(heat, config.window, maximum)
    peaks = np.argwhere((heat > config.refine_threshold) & (heat == highest))
    centers = [(int(y), int(x)) for y, x in peaks]
    found = len(centers)
    low, high = config.cluster_areas
    _, _, stats, middle = cv2.connectedComponentsWithStats(weak.astype(np.uint8), connectivity=4)
    for k in range(1, len(stats)):
        x, y = (int(v) for v in middle[k])
        if not low <= stats[k, cv2.CC_STAT_AREA] <= high or heat[y, x] <= config.cluster_threshold:
            continue
        if all((y - q) ** 2 + (x - p) ** 2 > config.cluster_distance**2 for q, p in centers[:found]):
            centers.append((y, x))
    for y, x in centers[found:]:
        heat[y, x] = 1
    return centers


def _instances(
    mask: np.ndarray,
    heat: np.ndarray,
    target: np.ndarray,
    weak: np.ndarray,
    probability: np.ndarray,
    config: Config,
    maximum: str,
) -> list[tuple[np.ndarray, tuple[int, int], float]]:
    """``(mask, centre, weight)`` of the instances of one component."""
    centers = _centers(heat, weak, config, maximum)
    if not centers:
        return []
    at = np.array(centers, np.float32)[:, :, None, None]
    owner = ((target[None] - at) ** 2).sum(1).argmin(0)
    rows = []
    for k in range(len(centers)):
        pixels = mask & (owner == k)
        if not pixels.any():
            continue
        if k >= config.max_centers:
            return []
        inside = np.where(pixels, heat, -np.inf)
        top, seg = float(inside.max()), float(probability[pixels].mean())
        if top < config.refine_threshold:
            y, x = np.nonzero(mask)
            rows.append((pixels, (int(y.mean()), int(x.mean())), seg))
        else:
            y, x = np.unravel_index(inside.argmax(), inside.shape)
            rows.append((pixels, (int(y), int(x)), min(max(top * seg, 0.0), 1.0)))
    return rows


def _draw(heat: np.ndarray, bell: np.ndarray, at: tuple[int, int], reach: int) -> None:
    """Raises ``heat`` to the Gaussian around ``at``."""
    (height, width), (cy, cx) = heat.shape, at
    top, bottom, left, right = (
        max(cy - reach, 0),
        min(cy + reach + 1, height),
        max(cx - reach, 0),
        min(cx + reach + 1, width),
    )
    patch = bell[top - cy + reach : bottom - cy + reach, left - cx + reach : right - cx + reach]
    view = heat[top:bottom, left:right]
    np.maximum(view, patch, out=view)
