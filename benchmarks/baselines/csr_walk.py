"""The random walk as steps with a sparse SciPy matrix."""

from __future__ import annotations

import numpy as np
import scipy.sparse
import torch

from wsis import ops

__all__ = ["random_walk", "transition"]


def transition(boundary: np.ndarray, radius: int = 5, beta: float = 10.0) -> scipy.sparse.csr_matrix:
    """``[hw, hw]``: the transposed transition matrix, so that a step is ``matrix @ columns``."""
    height, width = boundary.shape
    affinity = ops.edge_to_affinity(torch.from_numpy(boundary)[None], radius)[0].numpy() ** boundary.dtype.type(beta)
    cells = np.arange(height * width).reshape(height, width)
    rows, columns, values = [cells.ravel()], [cells.ravel()], [np.ones(cells.size, boundary.dtype)]
    for plane, (dy, dx) in zip(affinity, ops.neighbor_offsets(radius).tolist()):
        left, right = max(-dx, 0), width - max(dx, 0)
        source = cells[: height - dy, left:right].ravel()
        target = cells[dy:, left + dx : right + dx].ravel()
        weight = plane[: height - dy, left:right].ravel()
        rows += [source, target]
        columns += [target, source]
        values += [weight, weight]
    index = (np.concatenate(rows), np.concatenate(columns))
    matrix = scipy.sparse.csr_matrix((np.concatenate(values), index), shape=(cells.size, cells.size))
    degree = np.asarray(matrix.sum(1), dtype=boundary.dtype).ravel()
    return scipy.sparse.csr_matrix(scipy.sparse.diags(1 / degree) @ matrix)


def random_walk(seeds: np.ndarray, boundary: np.ndarray, num_steps: int = 256) -> np.ndarray:
    """``[K, h, w], [h, w] -> [K, h, w]``, building the matrix included."""
    matrix = transition(boundary)
    columns = np.ascontiguousarray(seeds.reshape(len(seeds), -1).T)
    for _ in range(num_steps):
        columns = matrix @ columns
    return columns.T.reshape(seeds.shape)
