"""Masks as polygons: rings along the borders of pixels, simplified as far as is asked for.

Corners lie on the grid between pixels (``0..W``, ``0..H``), so that without simplification exactly the pixels of the
mask have their centre inside. Formats that know one ring per object get parts and holes joined by seams of no width.
"""

from __future__ import annotations

import cv2
import numpy as np

__all__ = ["join_rings", "mask_rings", "rings_area"]

Ring = np.ndarray
"""``[n, 2]`` float64 corners ``(x, y)``; outer rings run with the inside on their right on the screen, holes the
other way."""


def mask_rings(mask: np.ndarray, tolerance: float = 0.0) -> list[list[Ring]]:
    """The parts of a mask, largest first.

    Args:
        mask: ``[H, W]`` bool.
        tolerance: how far a simplified ring may lie from the border, in pixels; 0 = exact.

    Returns:
        For every 4-connected part its outer ring and then its holes; no part for an empty mask.
    """
    mask = np.asarray(mask, dtype=bool)
    if not mask.any():
        return []
    _, parts = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    grouped: dict[int, list[tuple[float, Ring]]] = {}
    for ring, (y, x) in _trace(mask):
        area = _area(ring)
        kept = _simplified(ring, tolerance) if tolerance > 0 else ring
        if area > 0 or len(kept) >= 3:
            grouped.setdefault(int(parts[y, x]), []).append((area, kept if len(kept) >= 3 else ring))
    ordered = sorted(grouped.values(), key=lambda rings: -max(area for area, _ in rings))
    return [[ring for _, ring in sorted(rings, key=lambda pair: -pair[0])] for rings in ordered]


def join_rings(rings: list[Ring]) -> Ring:
    """One ring out of several, each joined at the nearest corners by a seam there and back."""
    joined, *rest = rings
    for ring in rest:
        apart = ((joined[:, None, :] - ring[None, :, :]) ** 2).sum(axis=2)
        i, j = np.unravel_index(int(apart.argmin()), apart.shape)
        turned = np.concatenate((ring[j:], ring[: j + 1]))
        joined = np.concatenate((joined[: i + 1], turned, joined[i:]))
    return joined


def rings_area(rings: list[Ring]) -> float:
    """What rings enclose, in pixels; holes count against it."""
    return float(sum(_area(ring) for ring in rings))


def _trace(mask: np.ndarray) -> list[tuple[Ring, tuple[int, int]]]:
    """Closed rings of the border, corners only, each with ``(y, x)`` of a pixel of the mask beside it.

    Every side of a pixel of the mask that faces a pixel outside of it is a directed edge with the inside on its
    right; where four edges meet the ring stays with its pixel, which makes diagonal neighbours separate parts.
    """
    width = mask.shape[1]
    padded = np.pad(mask, 1)
    inside = padded[1:-1, 1:-1]
    sides = (
        (padded[:-2, 1:-1], (0, 0), (0, 1)),
        (padded[1:-1, 2:], (0, 1), (1, 1)),
        (padded[2:, 1:-1], (1, 1), (1, 0)),
        (padded[1:-1, :-2], (1, 0), (0, 0)),
    )
    starts, ends, pixels, ways = [], [], [], []
    for way, (beyond, first, last) in enumerate(sides):
        y, x = np.nonzero(inside & ~beyond)
        starts.append((y + first[0]) * (width + 1) + x + first[1])
        ends.append((y + last[0]) * (width + 1) + x + last[1])
        pixels.append(y * width + x)
        ways.append(np.full(len(y), way))
    start, end, pixel, way = (np.concatenate(one) for one in (starts, ends, pixels, ways))
    following = _following(start, end, way).tolist()
    straight = (way[following] == way).tolist()
    corners, owners = end.tolist(), pixel.tolist()
    rings, seen = [], bytearray(len(following))
    for first in range(len(following)):
        if seen[first]:
            continue
        ring, edge = [], first
        while not seen[edge]:
            seen[edge] = 1
            if not straight[edge]:
                ring.append(corners[edge])
            edge = following[edge]
        points = np.stack([np.array(ring) % (width + 1), np.array(ring) // (width + 1)], axis=1).astype(np.float64)
        rings.append((points, divmod(owners[first], width)))
    return rings


def _following(start: np.ndarray, end: np.ndarray, way: np.ndarray) -> np.ndarray:
    """The edge after each edge: the one that begins where it ends; of two, the one that turns right."""
    order = np.lexsort((way, start))
    low = np.searchsorted(start[order], end, side="left")
    high = np.searchsorted(start[order], end, side="right")
    first, second = order[low], order[np.minimum(high, len(order)) - 1]
    right = (way + 1) % 4
    return np.where(way[second] == right, second, first)


def _simplified(ring: Ring, tolerance: float) -> Ring:
    points = ring.astype(np.float32).reshape(-1, 1, 2)
    return cv2.approxPolyDP(points, tolerance, True)[:, 0, :].astype(np.float64)


def _area(ring: Ring) -> float:
    """Positive for outer rings, negative for holes."""
    x, y = ring[:, 0], ring[:, 1]
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)
