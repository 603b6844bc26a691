"""Oracle of :func:`wsis.ops.dense_crf`: a dictionary of lattice vertices, and NumPy.

Which simplex a pixel falls into is decided in float32, as everywhere (another precision is another function);
the mean field itself runs in any precision.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

__all__ = ["Filter", "dense_crf", "dense_crf_marginals"]


def elevate(features: np.ndarray) -> np.ndarray:
    """``[N, d]`` features -> ``[N, d + 1]`` coordinates on the plane whose coordinates sum to 0."""
    count, d = features.shape
    deviation = np.float32(np.sqrt(2 / 3) * (d + 1))
    elevated = np.zeros((count, d + 1), np.float32)
    total = np.zeros(count, np.float32)
    for j in range(d, 0, -1):
        scaled = features[:, j - 1] * np.float32(1 / np.sqrt(j * (j + 1)) * deviation)
        elevated[:, j] = total - np.float32(j) * scaled
        total = total + scaled
    elevated[:, 0] = total
    return elevated


def enclosing_simplex(elevated: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``[N, d + 1]`` -> keys ``[N, d + 1, d + 1]`` of the vertices by remainder, and barycentric weights."""
    count, n = elevated.shape
    inverse = np.float32(1) / np.float32(n)
    nearest = (n * np.rint(elevated * inverse)).astype(np.float32)
    order = np.argsort(-(elevated - nearest), axis=1, kind="stable")
    rank = np.argsort(order, axis=1, kind="stable")
    rank = rank + np.rint(nearest.sum(1) / n).astype(np.int64)[:, None]
    corner = nearest.astype(np.int64) + n * (rank < 0) - n * (rank >= n)
    rank = rank + n * (rank < 0) - n * (rank >= n)
    keys = np.stack([corner + np.where(rank <= n - 1 - k, k, k - n) for k in range(n)], axis=1)

    rest = (elevated - corner.astype(np.float32)) * inverse
    descending = np.take_along_axis(rest, np.argsort(rank, axis=1), axis=1)
    weights = np.zeros((count, n), np.float32)
    weights[:, 0] = descending[:, n - 1] + (np.float32(1) - descending[:, 0])
    for k in range(1, n):
        weights[:, k] = descending[:, n - 1 - k] - descending[:, n - k]
    return keys, weights


class Filter:
    """``F(Q) = m G(m Q)`` for one image and one set of features ``[N, d]``."""

    def __init__(self, features: np.ndarray, dtype: type) -> None:
        keys, weights = enclosing_simplex(elevate(features.astype(np.float32)))
        self.weights = weights.astype(dtype)
        numbers: dict[tuple[int, ...], int] = {}
        self.vertex = np.array(
            [[numbers.setdefault(tuple(key), len(numbers)) for key in corners] for corners in keys.tolist()]
        )
        self.count, n = len(numbers), keys.shape[1]
        self.neighbors = np.full((n, 2, self.count), self.count)
        for key, number in numbers.items():
            for axis in range(n):
                for side, sign in enumerate((-1, 1)):
                    other = tuple(c + (-sign * (n - 1) if j == axis else sign) for j, c in enumerate(key))
                    self.neighbors[axis, side, number] = numbers.get(other, self.count)
        self.norm = np.ones(len(features), dtype)
        self.norm = 1 / np.sqrt(self.gaussian(np.ones((len(features), 1), dtype)) + dtype(1e-20))

    def gaussian(self, values: np.ndarray) -> np.ndarray:
        """``[N, L] -> [N, L]``: splat, blur along every axis in turn, slice. The last vertex row stays 0."""
        lattice = np.zeros((self.count + 1, values.shape[1]), values.dtype)
        for k in range(self.vertex.shape[1]):
            np.add.at(lattice, self.vertex[:, k], self.weights[:, k, None] * values)
        for before, after in self.neighbors:
            lattice[:-1] += (lattice[before] + lattice[after]) / 2
        return sum(self.weights[:, k, None] * lattice[self.vertex[:, k]] for k in range(self.vertex.shape[1]))

    def __call__(self, values: np.ndarray) -> np.ndarray:
        return self.norm * self.gaussian(self.norm * values)


def softmax(logits: np.ndarray) -> np.ndarray:
    exponent = np.exp(logits - logits.max(1, keepdims=True))
    return exponent / exponent.sum(1, keepdims=True)


def mean_field(
    filters: list[tuple[float, Filter]],
    labels: np.ndarray,
    num_labels: int,
    gt_prob: float,
    steps: int,
    dtype: type,
) -> np.ndarray:
    """``[N]`` labels -> ``[N, num_labels]`` marginals."""
    off = np.log((1 - gt_prob) / (num_labels - 1))
    unary = np.full((len(labels), num_labels), off, dtype)
    unary[np.arange(len(labels)), labels] = np.log(gt_prob)
    marginals = softmax(unary)
    for _ in range(steps):
        marginals = softmax(unary + sum(dtype(weight) * kernel(marginals) for weight, kernel in filters))
    return marginals


def dense_crf_marginals(
    images: Tensor,
    labels: Tensor,
    num_labels: Tensor,
    *,
    gt_prob: float = 0.7,
    steps: int = 10,
    spatial: tuple[float, float] = (3.0, 3.0),
    bilateral: tuple[float, float, float] = (50.0, 5.0, 10.0),
    image_index: Tensor | None = None,
    sizes: Tensor | None = None,
    dtype: type = np.float64,
) -> Tensor:
    """``[S, max(num_labels), H, W]``, one map after the other."""
    maps, height, width = labels.shape
    counts = [int(n) for n in num_labels]
    index = range(maps) if image_index is None else [int(b) for b in image_index]
    out = torch.zeros(maps, max(counts, default=1), height, width, dtype=torch.float64)
    for s, b in zip(range(maps), index):
        h, w = (height, width) if sizes is None else (int(n) for n in sizes[b])
        if counts[s] == 1:
            out[s, 0, :h, :w] = 1
        if counts[s] == 1 or h * w == 0:
            continue
        y, x = (grid.reshape(-1).astype(np.float32) for grid in np.mgrid[:h, :w])
        rgb = images[b, :, :h, :w].reshape(3, -1).numpy().astype(np.float32)
        near = np.stack([x, y], 1) / np.float32(spatial[0])
        alike = [
            x / np.float32(bilateral[0]),
            y / np.float32(bilateral[0]),
            *(rgb / np.float32(bilateral[1])),
        ]
        filters = [(spatial[1], Filter(near, dtype)), (bilateral[2], Filter(np.stack(alike, 1), dtype))]
        flat = labels[s, :h, :w].reshape(-1).numpy().astype(np.int64)
        marginals = mean_field(filters, flat, counts[s], gt_prob, steps, dtype)
        out[s, : counts[s], :h, :w] = torch.from_numpy(
            marginals.T.reshape(counts[s], h, w).astype(np.float64)
        )
    return out


def dense_crf(images: Tensor, labels: Tensor, num_labels: Tensor, **options) -> Tensor:
    """The most probable label of each pixel, the first of equals, in the dtype of ``labels``."""
    if labels.numel() == 0:
        return labels.clone()
    return dense_crf_marginals(images, labels, num_labels, **options).argmax(1).to(labels.dtype)
