"""The pictures of ``docs/kernels.md``, from a made-up scene: ``python docs/make_pictures.py``."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from wsis import ops
from wsis.data.artifacts import write_png
from wsis.data.scenes import SceneSet

OUT = Path(__file__).parent / "images"


def main() -> None:
    scene = SceneSet(12, min_side=120, max_side=160)
    index = max(range(len(scene)), key=lambda k: len(scene.load_instances(k)))
    image, instances = scene.load_image(index), scene.load_instances(index)
    write_png(OUT / "kernel_paths.png", paths())
    write_png(OUT / "kernel_walk.png", walk(image, instances))
    write_png(OUT / "kernel_trace.png", trace(image, instances))
    write_png(OUT / "kernel_centers.png", centers(image, instances, len(scene.categories)))


def paths(radius: int = 5, chosen: tuple[int, int] = (2, 3), cell: int = 36) -> np.ndarray:
    """The half disc, one pair, and the cells of its path."""
    side = 2 * radius - 1
    canvas = np.full((side * cell, side * cell, 3), 255, dtype=np.uint8)
    half = {tuple(row) for row in ops.neighbor_offsets(radius).tolist()}
    dy, dx = chosen
    for y in range(1 - radius, radius):
        for x in range(1 - radius, radius):
            color = (210, 228, 240) if (y, x) in half else (245, 245, 245)
            inside = 0 <= y <= dy and 0 <= x <= dx
            if inside and (dy * x - dx * y) ** 2 / (dy * dy + dx * dx) < 1:
                color = (240, 190, 60)
            if (y, x) in ((0, 0), chosen):
                color = (200, 70, 40)
            top, left = ((value + radius - 1) * cell for value in (y, x))
            canvas[top + 1 : top + cell - 1, left + 1 : left + cell - 1] = color
    return canvas


def _grid(instances: object, labels: torch.Tensor | None = None) -> torch.Tensor:
    """``[h, w]`` ids (from 1) or other values of the objects at stride 4."""
    masks = instances.masks[:, ::4, ::4]
    values = torch.arange(1, len(masks) + 1) if labels is None else labels
    return torch.where(masks.any(0), values[masks.int().argmax(0)], 0)


def _colored(values: np.ndarray, size: int = 4) -> np.ndarray:
    scaled = (255 * values / max(float(values.max()), 1e-6)).clip(0, 255).astype(np.uint8)
    large = np.kron(scaled, np.ones((size, size), np.uint8))
    return cv2.cvtColor(cv2.applyColorMap(large, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB)


def _row(*pictures: np.ndarray) -> np.ndarray:
    height = min(picture.shape[0] for picture in pictures)
    gap = np.full((height, 6, 3), 255, dtype=np.uint8)
    parts = [part for picture in pictures for part in (picture[:height], gap)]
    return np.concatenate(parts[:-1], axis=1)


def walk(image: np.ndarray, instances: object) -> np.ndarray:
    ids = _grid(instances).float()[None, None]
    low, high = -F.max_pool2d(-ids, 3, 1, 1), F.max_pool2d(ids, 3, 1, 1)
    boundary = (0.05 + 0.9 * (low != high).float())[0]
    y, x = ops.instance_stats(_grid(instances)[None].int()).centroid_yx[0].round().int().tolist()
    seed = torch.zeros_like(boundary)
    seed[0, y - 1 : y + 2, x - 1 : x + 2] = 1
    steps = [seed[0]] + [ops.random_walk(seed, boundary, num_steps=count)[0] for count in (2, 6, 32)]
    return _row(_to_grid(image, boundary), _colored(boundary[0].numpy()), *(_colored(s.sqrt().numpy()) for s in steps))


def _to_grid(image: np.ndarray, like: torch.Tensor) -> np.ndarray:
    height, width = (4 * side for side in like.shape[-2:])
    return cv2.copyMakeBorder(image, 0, height - image.shape[0], 0, width - image.shape[1], cv2.BORDER_REPLICATE)


def _field(instances: object) -> torch.Tensor:
    ids = _grid(instances)[None].int()
    stats = ops.instance_stats(ids)
    field = torch.zeros(1, 2, *ids.shape[1:])
    y, x = torch.meshgrid(*(torch.arange(n).float() for n in ids.shape[1:]), indexing="ij")
    for number, (cy, cx) in zip(stats.id.tolist(), stats.centroid_yx.tolist()):
        own = ids[0] == number
        field[0, :, own] = torch.stack([cy - y[own], cx - x[own]]).clamp(-6, 6)
    return field


def trace(image: np.ndarray, instances: object, size: int = 6) -> np.ndarray:
    field = _field(instances)
    ends = ops.trace_displacement(field)[0]
    canvas = cv2.resize(_to_grid(image, field), None, fx=size / 4, fy=size / 4)
    arrows = (canvas * 0.5 + 110).clip(0, 255).astype(np.uint8)
    for y in range(1, field.shape[2], 3):
        for x in range(1, field.shape[3], 3):
            dy, dx = field[0, :, y, x].tolist()
            if dy or dx:
                start, end = (x * size, y * size), (round((x + dx * 0.5) * size), round((y + dy * 0.5) * size))
                cv2.arrowedLine(arrows, start, end, (20, 60, 160), 1, cv2.LINE_AA, tipLength=0.35)
    moved = field.square().sum(1)[0] > 0
    number = (ends[0] * field.shape[3] + ends[1]) * moved
    _, ranks = torch.unique(number, return_inverse=True)
    return _row(canvas, arrows, _colored(ranks.numpy().astype(np.float32), size))


def centers(image: np.ndarray, instances: object, num_classes: int) -> np.ndarray:
    ids = torch.where(instances.masks.any(0), instances.masks.int().argmax(0) + 1, 0)[None]
    target = ops.center_target(_map(instances, ids), num_classes)
    heat = target.center[0].amax(0).numpy()
    length = target.offset[0].square().sum(0).sqrt().numpy()
    return _row(image, _colored(ids[0].numpy().astype(np.float32), 1), _colored(heat, 1), _colored(length, 1))


def _map(instances: object, ids: torch.Tensor) -> object:
    from wsis.structures import InstanceMap

    stats = ops.instance_stats(ids.int())
    rows = stats.id.long()
    center = stats.centroid_yx.floor()
    return InstanceMap(
        ids.int(), stats.image_index.long(), rows, instances.labels[rows - 1], torch.ones(len(rows)), center
    )


if __name__ == "__main__":
    main()
