"""Tracing as a loop of NumPy steps over whole maps, one image at a time."""

from __future__ import annotations

import numpy as np

__all__ = ["trace_displacement"]


def _trace_image(field: np.ndarray, num_steps: int) -> np.ndarray:
    height, width = field.shape[1:]
    y, x = np.meshgrid(np.arange(height, dtype=np.float32), np.arange(width, dtype=np.float32), indexing="ij")
    for _ in range(num_steps):
        y0, x0 = np.floor(y).astype(np.int32), np.floor(x).astype(np.int32)
        y1, x1 = np.ceil(y).astype(np.int32), np.ceil(x).astype(np.int32)
        fy, fx = y - y0, x - x0
        moved = [
            plane[y0, x0] * (1 - fy) * (1 - fx)
            + plane[y0, x1] * (1 - fy) * fx
            + plane[y1, x0] * fy * (1 - fx)
            + plane[y1, x1] * fy * fx
            for plane in field
        ]
        y, x = np.clip(y + moved[0], 0, height - 1), np.clip(x + moved[1], 0, width - 1)
    return np.stack([y, x]).round().astype(np.int32)


def trace_displacement(displacement: np.ndarray, num_steps: int = 300) -> np.ndarray:
    """``[B, 2, h, w]`` float32 -> ``[B, 2, h, w]`` int32 end cells ``(y, x)``."""
    return np.stack([_trace_image(field, num_steps) for field in displacement])
