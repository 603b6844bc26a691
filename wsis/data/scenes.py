"""Made-up scenes: pictures of textured objects on a cluttered background, with exact instance masks.

A scene is decided by ``(seed, split, index)`` alone and is the same on every machine. Objects of one class
stand in groups that touch or overlap; later ones hide earlier ones. Plain shapes without a pattern lie about
as distractors.
"""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from wsis.data.atomic import PathLike, make_folder, write_bytes, write_json, write_png
from wsis.data.categories import Categories
from wsis.data.config import DataConfig
from wsis.data.image_set import ImageSet, Record
from wsis.data.scene_painter import (
    CLASS_NAMES,
    Shape,
    paint_background,
    paint_light,
    paint_shape,
    shape_gauge,
)
from wsis.errors import ConfigError
from wsis.structures import Instances

__all__ = ["Scene", "SceneSet", "make_scene", "open_scenes", "write_scenes"]

MAX_CLASSES = len(CLASS_NAMES)
_FINE = 2
_MIN_VISIBLE = 0.45
_CACHE_BYTES = 1 << 28
_HUES = 12


@dataclass(frozen=True)
class Scene:
    """One made-up picture.

    Attributes:
        image: ``[H, W, 3]`` uint8 RGB.
        ids: ``[H, W]`` uint8, 0 = background, else the instance; later instances lie on top.
        classes: class ``0..C-1`` of the ids ``1..N``.
    """

    image: np.ndarray
    ids: np.ndarray
    classes: tuple[int, ...]

    @property
    def labels(self) -> tuple[int, ...]:
        """The classes present."""
        return tuple(sorted(set(self.classes)))

    @property
    def semantic(self) -> np.ndarray:
        """``[H, W]`` uint8: 0 background, else class + 1."""
        return np.array((0, *(c + 1 for c in self.classes)), dtype=np.uint8)[self.ids]

    @property
    def instances(self) -> Instances:
        """The masks, one per id."""
        if not self.classes:
            return Instances.empty(self.ids.shape)
        numbers = np.arange(1, len(self.classes) + 1)[:, None, None]
        return Instances(torch.from_numpy(self.ids[None] == numbers), torch.tensor(self.classes))


def make_scene(
    seed: int,
    index: int,
    *,
    split: str = "train",
    num_classes: int = 5,
    min_side: int = 112,
    max_side: int = 160,
) -> Scene:
    """The scene number ``index``: one to six objects of one to three classes.

    Args:
        seed: another seed gives other scenes.
        index: number of the scene.
        split: scenes of different splits are different.
        num_classes: 1 to 8.
        min_side, max_side: bounds of height and width in pixels.
    """
    if not 1 <= num_classes <= MAX_CLASSES:
        raise ValueError(f"make_scene: num_classes must be 1 to {MAX_CLASSES}, got {num_classes}")
    if not 16 <= min_side <= max_side:
        raise ValueError(f"make_scene: expected 16 <= min_side <= max_side, got {min_side} and {max_side}")
    entropy = [seed, zlib.crc32(split.encode()), index]
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence(entropy)))
    height, width = (int(v) for v in rng.integers(min_side, max_side + 1, 2))
    background = paint_background(rng, height, width)
    canvas = np.repeat(np.repeat(background, _FINE, axis=0), _FINE, axis=1)
    for _ in range(int(rng.integers(2, 6))):
        paint_shape(canvas, _distractor(rng, height, width, num_classes), _FINE)
    shapes, ids = _arrange(rng, height, width, num_classes)
    for shape in shapes:
        paint_shape(canvas, shape, _FINE)
    fine = canvas.reshape(height, _FINE, width, _FINE, 3)
    coarse = (fine[:, 0, :, 0] + fine[:, 0, :, 1] + fine[:, 1, :, 0] + fine[:, 1, :, 1]) / 4.0
    return Scene(paint_light(coarse, rng), ids, tuple(shape.kind for shape in shapes))


def _arrange(
    rng: np.random.Generator, height: int, width: int, num_classes: int
) -> tuple[list[Shape], np.ndarray]:
    """Groups of objects, each object visible by at least :data:`_MIN_VISIBLE` of its area; and the id map."""
    shapes: list[Shape] = []
    ids = np.zeros((height, width), dtype=np.uint8)
    areas: list[int] = []
    kinds = rng.permutation(num_classes)[: 1 + int(rng.choice(3, p=(0.45, 0.38, 0.17)))]
    left = 6
    for position, kind in enumerate(kinds):
        count = min(int(rng.choice((1, 2, 3), p=(0.30, 0.42, 0.28))), left - (len(kinds) - 1 - position))
        left -= count
        base_radius = min(height, width) * (0.13 + 0.13 * rng.random())
        group: list[Shape] = []
        for _ in range(count):
            for _ in range(30):
                shape = _object(rng, height, width, int(kind), base_radius, group)
                new = _place(shape, ids, areas, len(shapes) + 1)
                if new is not None:
                    ids, area = new
                    areas.append(area)
                    shapes.append(shape)
                    group.append(shape)
                    break
    return shapes, ids


def _place(shape: Shape, ids: np.ndarray, areas: Sequence[int], number: int) -> tuple[np.ndarray, int] | None:
    """The id map with ``shape`` on top and its whole area, or ``None`` if it would hide too much."""
    height, width = ids.shape
    mask = shape_gauge(shape, np.arange(height, dtype=np.float64), np.arange(width, dtype=np.float64)) <= 1.0
    area = int(mask.sum())
    if area < min(48, 0.004 * height * width):
        return None
    new = np.where(mask, np.uint8(number), ids)
    visible = np.bincount(new.reshape(-1), minlength=number + 1)
    if any(visible[k + 1] < _MIN_VISIBLE * areas[k] for k in range(len(areas))):
        return None
    return new, area


def _object(
    rng: np.random.Generator, height: int, width: int, kind: int, base_radius: float, group: Sequence[Shape]
) -> Shape:
    """An object anywhere, or beside one of its group."""
    radius = base_radius * (0.80 + 0.45 * rng.random())
    margin = 0.55 * radius
    if group and rng.random() < 0.8:
        other = group[int(rng.integers(0, len(group)))]
        angle = rng.integers(-1000, 1001, 2) / 1000.0
        length = max(float(np.sqrt(angle[0] * angle[0] + angle[1] * angle[1])), 0.05)
        reach = (radius + other.radius) * (0.62 + 0.30 * rng.random())
        y = other.center_yx[0] + reach * float(angle[0]) / length
        x = other.center_yx[1] + reach * float(angle[1]) / length
        y, x = min(max(y, margin), height - 1 - margin), min(max(x, margin), width - 1 - margin)
    else:
        y = margin + (height - 1 - 2 * margin) * rng.random()
        x = margin + (width - 1 - 2 * margin) * rng.random()
    hue = int(rng.integers(0, _HUES)) / _HUES
    base = _hsv(hue, 0.42 + 0.25 * rng.random(), 175.0 + 60.0 * rng.random())
    accent = _hsv(
        kind / MAX_CLASSES + 0.08 * (rng.random() - 0.5),
        0.75 + 0.2 * rng.random(),
        60.0 + 50.0 * rng.random(),
    )
    turn = int(rng.integers(0, 64))
    return Shape(kind, (y, x), radius, turn, base, accent, rng.random())


def _distractor(rng: np.random.Generator, height: int, width: int, num_classes: int) -> Shape:
    """A small plain shape."""
    radius = min(height, width) * (0.03 + 0.07 * rng.random())
    y, x = height * rng.random(), width * rng.random()
    base = _hsv(rng.random(), 0.15 + 0.35 * rng.random(), 90.0 + 110.0 * rng.random())
    return Shape(int(rng.integers(0, num_classes)), (y, x), radius, int(rng.integers(0, 64)), base, None, 0.0)


def _hsv(hue: float, saturation: float, value: float) -> tuple[float, float, float]:
    """RGB ``0..value`` of a hue in turns."""
    result = []
    for offset in (5.0, 3.0, 1.0):
        k = (offset + 6.0 * (hue % 1.0)) % 6.0
        result.append(value - value * saturation * max(0.0, min(k, 4.0 - k, 1.0)))
    return (result[0], result[1], result[2])


class SceneSet(ImageSet):
    """Scenes as a data set; they are made when asked for, and the last ones are kept in memory.

    Args:
        num: number of scenes.
        seed, split, num_classes, min_side, max_side: see :func:`make_scene`.
    """

    def __init__(
        self,
        num: int,
        seed: int = 0,
        split: str = "train",
        num_classes: int = 5,
        min_side: int = 112,
        max_side: int = 160,
    ) -> None:
        self.categories = Categories(CLASS_NAMES[:num_classes])
        self.num, self.seed, self.split = num, seed, split
        self.num_classes, self.min_side, self.max_side = num_classes, min_side, max_side
        self.notes = (f"{num} made-up scenes, seed {seed}, split {split}",)
        self._cache: OrderedDict[int, Scene] = OrderedDict()
        self._cached_bytes = 0
        self._labels: dict[int, tuple[int, ...]] = {}

    def __len__(self) -> int:
        return self.num

    def __getitem__(self, index: int) -> Record:
        index = range(self.num)[index]
        if index not in self._labels:
            self.scene(index)
        return Record(self._id(index), None, self._labels[index])

    def _id(self, index: int) -> str:
        return f"{self.split}_{index:06d}"

    @property
    def ids(self) -> Sequence[str]:
        return [self._id(index) for index in range(self.num)]

    @property
    def has_masks(self) -> bool:
        return True

    def scene(self, index: int) -> Scene:
        """The :class:`Scene` number ``index``."""
        index = range(self.num)[index]
        scene = self._cache.get(index)
        if scene is None:
            scene = make_scene(
                self.seed,
                index,
                split=self.split,
                num_classes=self.num_classes,
                min_side=self.min_side,
                max_side=self.max_side,
            )
            self._cache[index] = scene
            self._labels[index] = scene.labels
            self._cached_bytes += scene.image.nbytes + scene.ids.nbytes
            while self._cached_bytes > _CACHE_BYTES and len(self._cache) > 1:
                _, old = self._cache.popitem(last=False)
                self._cached_bytes -= old.image.nbytes + old.ids.nbytes
        return scene

    def load_image(self, index: int) -> np.ndarray:
        return self.scene(index).image.copy()

    def load_semantic(self, index: int) -> np.ndarray:
        return self.scene(index).semantic

    def load_instances(self, index: int) -> Instances:
        return self.scene(index).instances


def open_scenes(config: DataConfig) -> SceneSet:
    """The set that ``config`` describes; an empty split is ``train``."""
    for name in ("root", "list", "tags", "classes"):
        if getattr(config, name):
            raise ConfigError(f"data.{name}: got {getattr(config, name)!r}, but kind=scenes reads no files")
    return SceneSet(
        config.num, config.seed, config.split or "train", config.num_classes, config.min_side, config.max_side
    )


def write_scenes(root: PathLike, sets: Sequence[SceneSet], image_format: str = "png") -> None:
    """Write scenes as a folder in VOC layout, readable as ``kind=voc``.

    Args:
        root: the folder; made if missing.
        sets: one set per split; all with the same classes.
        image_format: ``png`` (exact) or ``jpg``.
    """
    root = Path(root)
    if image_format not in ("png", "jpg"):
        raise ValueError(f"write_scenes: image_format must be png or jpg, got {image_format!r}")
    folders = ("JPEGImages", "SegmentationClass", "SegmentationObject", "ImageSets/Segmentation")
    for folder in folders:
        make_folder(root / folder)
    categories = sets[0].categories
    palette = categories.palette()
    labels: dict[str, list[int]] = {}
    for scenes in sets:
        for index, name in enumerate(scenes.ids):
            scene = scenes.scene(index)
            labels[name] = list(scene.labels)
            if image_format == "png":
                write_png(root / "JPEGImages" / f"{name}.png", scene.image)
            else:
                buffer = BytesIO()
                Image.fromarray(scene.image).save(buffer, format="JPEG", quality=92)
                write_bytes(root / "JPEGImages" / f"{name}.jpg", buffer.getvalue())
            write_png(root / "SegmentationClass" / f"{name}.png", scene.semantic, palette)
            write_png(root / "SegmentationObject" / f"{name}.png", scene.ids, palette)
        text = "".join(f"{name}\n" for name in scenes.ids)
        write_bytes(root / "ImageSets/Segmentation" / f"{scenes.split}.txt", text.encode())
    write_json(root / "image_labels.json", labels)
    write_bytes(root / "classes.txt", "".join(f"{name}\n" for name in categories.names).encode())
