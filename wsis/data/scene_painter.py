"""Painting of made-up scenes with exact masks.

Only additions, multiplications, divisions and square roots of float64 arrays, table look-ups and integers are
used, no library function whose last bit depends on the machine: the same seed gives the same bytes
everywhere.

An object is a shape in its own coordinates ``(u, v)`` given by a *gauge*: 0 in the middle, 1 on the outline.
One base colour fills it, of any hue whatever the class; the pattern of its class is painted over the core
only (gauge below :data:`CORE`), so a classifier learns from the core and the rim has to be found by other
means.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__ = ["CLASS_NAMES", "CORE", "Shape", "paint_background", "paint_light", "paint_shape", "shape_gauge"]

CORE = 0.62
_TURNS = 64
_COS = [round(math.cos(2 * math.pi * k / _TURNS), 6) for k in range(_TURNS)]
_SIN = [round(math.sin(2 * math.pi * k / _TURNS), 6) for k in range(_TURNS)]
_FOLD = [(round(math.cos(a), 6), round(math.sin(a), 6)) for a in (math.pi / 5, 2 * math.pi / 5)]


@dataclass(frozen=True)
class Shape:
    """One object or distractor.

    Attributes:
        kind: class number, an index into :data:`CLASS_NAMES`.
        center_yx: pixels.
        radius: pixels from the middle to the farthest point of the outline, nearly.
        turn: rotation in 64ths of a full turn.
        base: RGB 0..255 of the body.
        accent: RGB of the pattern; ``None`` leaves the body plain (distractors).
        phase: shift of the pattern, 0..1.
    """

    kind: int
    center_yx: tuple[float, float]
    radius: float
    turn: int
    base: tuple[float, float, float]
    accent: tuple[float, float, float] | None
    phase: float


def _disc(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.sqrt(u * u + v * v)


def _box(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.maximum(np.abs(u), np.abs(v)) / 0.80


def _triangle(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    side = np.abs(u) * 0.866025 - v * 0.5
    return np.maximum(v, side) / 0.56


def _ring(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.abs(np.sqrt(u * u + v * v) - 0.69) / 0.31


def _star(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Five points, by folding the plane onto one tenth of the star."""
    x, y = np.abs(u), -v
    for c, s in ((_FOLD[0][0], _FOLD[0][1]), (-_FOLD[0][0], _FOLD[0][1])):
        over = np.maximum(x * c - y * s, 0.0)
        x, y = x - 2 * over * c, y + 2 * over * s
    x = np.abs(x)
    tip, inner = 1.0, 0.52
    ix, iy = inner * _FOLD[0][1], inner * _FOLD[0][0]
    nx, ny = tip - iy, ix
    return (x * nx + y * ny) / (tip * ny)


def _cross(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    a, b = np.abs(u), np.abs(v)
    return np.minimum(np.maximum(a / 0.95, b / 0.38), np.maximum(a / 0.38, b / 0.95))


def _gem(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    a, b = np.abs(u), np.abs(v)
    return np.maximum(a, a * 0.5 + b * 0.866025) / 0.84


def _leaf(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    a = np.abs(u) + 0.62
    return (np.sqrt(a * a + v * v) - 0.62) / 0.56


def _stripes(u: np.ndarray, v: np.ndarray, phase: float) -> np.ndarray:
    return _part(v * 3.2 + phase) < 0.5


def _checks(u: np.ndarray, v: np.ndarray, phase: float) -> np.ndarray:
    return (_part(u * 2.2 + phase) < 0.5) ^ (_part(v * 2.2 + phase) < 0.5)


def _dots(u: np.ndarray, v: np.ndarray, phase: float) -> np.ndarray:
    a, b = _part(u * 3.0 + phase) - 0.5, _part(v * 3.0 + phase) - 0.5
    return a * a + b * b < 0.11


def _spokes(u: np.ndarray, v: np.ndarray, phase: float) -> np.ndarray:
    """Four pairs of sectors around the middle."""
    return (u * v > 0) ^ ((u - v) * (u + v) > 0)


def _circles(u: np.ndarray, v: np.ndarray, phase: float) -> np.ndarray:
    return _part(np.sqrt(u * u + v * v) * 4.5 + phase) < 0.5


def _grid(u: np.ndarray, v: np.ndarray, phase: float) -> np.ndarray:
    return (_part(u * 3.4 + phase) < 0.34) | (_part(v * 3.4 + phase) < 0.34)


def _zigzag(u: np.ndarray, v: np.ndarray, phase: float) -> np.ndarray:
    return _part(v * 2.6 + np.abs(_part(u * 2.2 + phase) - 0.5) * 1.6) < 0.5


def _veins(u: np.ndarray, v: np.ndarray, phase: float) -> np.ndarray:
    return (_part((v + np.abs(u)) * 3.0 + phase) < 0.4) | (np.abs(u) < 0.07)


def _part(x: np.ndarray) -> np.ndarray:
    return x - np.floor(x)


_Gauge = Callable[[np.ndarray, np.ndarray], np.ndarray]
_Pattern = Callable[[np.ndarray, np.ndarray, float], np.ndarray]
_KINDS: tuple[tuple[str, _Gauge, _Pattern], ...] = (
    ("ball", _disc, _stripes),
    ("crate", _box, _checks),
    ("tent", _triangle, _dots),
    ("ring", _ring, _spokes),
    ("star", _star, _circles),
    ("cross", _cross, _grid),
    ("gem", _gem, _zigzag),
    ("leaf", _leaf, _veins),
)
CLASS_NAMES = tuple(name for name, _, _ in _KINDS)


def _local(shape: Shape, y: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Object coordinates of the pixel rows ``y [n]`` and columns ``x [m]``, each ``[n, m]``."""
    dy = (y[:, None] - shape.center_yx[0]) / shape.radius
    dx = (x[None, :] - shape.center_yx[1]) / shape.radius
    c, s = _COS[shape.turn], _SIN[shape.turn]
    return dx * c + dy * s, dy * c - dx * s


def shape_gauge(shape: Shape, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Gauge of ``shape`` at rows ``y [n]`` and columns ``x [m]``: ``[n, m]``, at most 1 inside."""
    return _KINDS[shape.kind][1](*_local(shape, y, x))


def paint_shape(canvas: np.ndarray, shape: Shape, scale: int) -> None:
    """Paint ``shape`` and its soft shadow onto ``canvas [scale * H, scale * W, 3]`` float64, in place."""
    rows, y = _window(shape.center_yx[0], shape.radius, canvas.shape[0], scale)
    columns, x = _window(shape.center_yx[1], shape.radius, canvas.shape[1], scale)
    if y.size == 0 or x.size == 0:
        return
    area = canvas[rows, columns]
    shift = 0.10 * shape.radius
    shadow = np.clip((1.16 - shape_gauge(shape, y - shift, x - 0.6 * shift)) / 0.30, 0.0, 1.0)
    area *= (1.0 - 0.42 * shadow)[:, :, None]
    u, v = _local(shape, y, x)
    gauge = _KINDS[shape.kind][1](u, v)
    inside = gauge <= 1.0
    color = np.empty(area.shape)
    color[:] = shape.base
    if shape.accent is not None:
        core = (gauge <= CORE) & _KINDS[shape.kind][2](u, v, shape.phase)
        color[core] = shape.accent
    height = (y[:, None] - shape.center_yx[0]) / shape.radius
    width = (x[None, :] - shape.center_yx[1]) / shape.radius
    light = 1.0 - 0.16 * height - 0.10 * width
    light = light * np.where(gauge > 0.91, 0.66, 1.0)
    color *= light[:, :, None]
    area[inside] = color[inside]


def paint_background(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """``[height, width, 3]`` float64: two muted colours mixed by smooth noise, with grain and streaks."""
    low, high = _muted(rng), _muted(rng)
    mix = 0.55 * _smooth_noise(rng, height, width, 3) + 0.30 * _smooth_noise(rng, height, width, 7)
    mix = mix + 0.15 * _smooth_noise(rng, height, width, 19)
    canvas = low + (high - low) * mix[:, :, None]
    grain = _smooth_noise(rng, height, width, 41) - 0.5
    canvas = canvas + 26.0 * grain[:, :, None]
    for _ in range(int(rng.integers(2, 7))):
        _streak(canvas, rng)
    return canvas


def paint_light(canvas: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """``canvas`` under uneven light and with sensor noise, as ``[H, W, 3]`` uint8."""
    height, width = canvas.shape[:2]
    light = 0.82 + 0.36 * _smooth_noise(rng, height, width, 2)
    noise = rng.integers(-5, 6, (height, width, 3)) + rng.integers(-5, 6, (height, width, 3))
    return np.clip(np.floor(canvas * light[:, :, None] + noise + 0.5), 0, 255).astype(np.uint8)


def _window(center: float, radius: float, length: int, scale: int) -> tuple[slice, np.ndarray]:
    """The fine rows that a shape and its shadow can touch, and their coordinates in pixels."""
    low = max(0, math.floor((center - 1.35 * radius) * scale))
    high = min(length, math.ceil((center + 1.5 * radius) * scale) + 1)
    return slice(low, max(low, high)), (np.arange(low, high) + 0.5) / scale - 0.5


def _muted(rng: np.random.Generator) -> np.ndarray:
    gray = 60.0 + 120.0 * rng.random()
    return gray + 44.0 * (rng.random(3) - 0.5)


def _smooth_noise(rng: np.random.Generator, height: int, width: int, cells: int) -> np.ndarray:
    """Random values on a grid of ``cells``, smoothly interpolated: ``[height, width]`` in 0..1."""
    grid = rng.integers(0, 256, (cells + 1, cells + 1)) / 255.0
    y, ty = _cells(height, cells)
    x, tx = _cells(width, cells)
    top = grid[y][:, x] * (1 - tx) + grid[y][:, x + 1] * tx
    low = grid[y + 1][:, x] * (1 - tx) + grid[y + 1][:, x + 1] * tx
    return top * (1 - ty[:, None]) + low * ty[:, None]


def _cells(length: int, cells: int) -> tuple[np.ndarray, np.ndarray]:
    position = (np.arange(length) + 0.5) * (cells / length)
    cell = np.minimum(position.astype(np.int64), cells - 1)
    t = position - cell
    return cell, t * t * (3.0 - 2.0 * t)


def _streak(canvas: np.ndarray, rng: np.random.Generator) -> None:
    """A straight band of another muted colour, in place."""
    height, width = canvas.shape[:2]
    turn = int(rng.integers(0, _TURNS))
    y0, x0 = height * rng.random(), width * rng.random()
    thick = (0.004 + 0.02 * rng.random()) * (height + width)
    color = _muted(rng)
    distance = (np.arange(height)[:, None] - y0) * _COS[turn] + (np.arange(width)[None, :] - x0) * _SIN[turn]
    weight = 0.7 * np.clip((thick - np.abs(distance)) / 1.5, 0.0, 1.0)
    canvas += (color - canvas) * weight[:, :, None]
