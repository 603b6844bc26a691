"""Pictures of instances and fields, as arrays: for ``predict``, the demo, the report and notebooks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from wsis.viz.colors import distinct_colors, heat_ramp, ink_on, wheel_colors

__all__ = [
    "colorize_displacement",
    "colorize_heat",
    "contact_sheet",
    "displacement_wheel",
    "mark_points",
    "overlay_heat",
    "overlay_instances",
    "resize",
]

Box = tuple[int, int, int, int]


def overlay_instances(
    image: Any,
    instances: Any,
    categories: Sequence[str] | None = None,
    *,
    alpha: float = 0.45,
    min_score: float = 0.0,
    by_class: bool = False,
    captions: bool = True,
    min_side: int = 384,
) -> np.ndarray:
    """An image with its instances: tinted, outlined, named.

    Args:
        image: ``[H, W, 3]`` uint8 RGB.
        instances: object with ``masks [N, H, W]``, ``labels [N]`` and ``scores [N]``.
        categories: class names (a :class:`wsis.data.categories.Categories` will do); numbers without.
        alpha: strength of the tint, 0 = outlines only.
        min_score: instances below it are left out.
        by_class: one colour per class instead of one per instance.
        captions: write class and score on each instance.
        min_side: images whose long side is shorter are enlarged to it, so that captions stay legible.

    Returns:
        ``[H', W', 3]`` uint8; the size of the image unless it was enlarged.

    Raises:
        ValueError: if the image is not ``[H, W, 3]`` uint8 or the masks have another size.
    """
    photo = _checked_image("overlay_instances", image)
    masks = torch.as_tensor(instances.masks).cpu().numpy() != 0
    labels = torch.as_tensor(instances.labels).cpu().numpy()
    scores = getattr(instances, "scores", None)
    scores = np.ones(len(labels), np.float32) if scores is None else torch.as_tensor(scores).cpu().numpy()
    if masks.shape[1:] != photo.shape[:2]:
        raise ValueError(
            f"overlay_instances: masks must have the image's size {list(photo.shape[:2])}, got {list(masks.shape)}"
        )
    names = list(categories) if categories is not None else None
    factor = max(1.0, min_side / max(photo.shape[:2]))
    size = tuple(max(1, round(side * factor)) for side in photo.shape[:2])
    canvas = resize(photo, size)
    order = [int(n) for n in np.argsort(scores, kind="stable") if scores[n] >= min_score and masks[n].any()]
    colors = distinct_colors(int(labels.max(initial=0)) + 1)[labels] if by_class else distinct_colors(len(labels))
    scaled = {n: _smooth_mask(masks[n], size) for n in order}
    for n in order:
        tinted = canvas[scaled[n]] * (1 - alpha) + colors[n] * alpha
        canvas[scaled[n]] = tinted.round().astype(np.uint8)
    for n in order:
        _outline(canvas, scaled[n], colors[n])
    if captions:
        texts = {n: _caption(int(labels[n]), float(scores[n]), names) for n in order}
        canvas = _write_captions(canvas, {n: scaled[n] for n in reversed(order)}, texts, colors)
    return canvas


def colorize_heat(values: Any, size: tuple[int, int] | None = None, *, top: float | None = 1.0) -> np.ndarray:
    """A map of strengths as a picture.

    Args:
        values: ``[h, w]``, or ``[K, h, w]`` of which the largest counts.
        size: ``(height, width)`` of the picture, bilinear; the map's own without.
        top: the value of the brightest colour; ``None`` takes the largest value.

    Returns:
        ``[H, W, 3]`` uint8. Values that are not finite count as 0.
    """
    strength = _strength("colorize_heat", values, top)
    if size is not None:
        strength = resize(strength, size)
    return heat_ramp()[(strength * 255).round().astype(np.int64)]


def overlay_heat(image: Any, values: Any, *, alpha: float = 0.75, top: float | None = 1.0) -> np.ndarray:
    """An image under a map of strengths (see :func:`colorize_heat`): the stronger, the less of it shows."""
    photo = _checked_image("overlay_heat", image)
    strength = resize(_strength("overlay_heat", values, top), photo.shape[:2])
    heat = heat_ramp()[(strength * 255).round().astype(np.int64)]
    grey = photo.mean(axis=2, keepdims=True) * 0.45 + photo * 0.40
    weight = alpha * np.sqrt(strength)[..., None]
    return (grey * (1 - weight) + heat * weight).round().astype(np.uint8)


def colorize_displacement(
    displacement: Any, size: tuple[int, int] | None = None, *, reach: float | None = None
) -> np.ndarray:
    """A displacement or offset field as a picture: the hue says where to, the strength how far.

    Args:
        displacement: ``[2, h, w]`` ``(y, x)``.
        size: ``(height, width)`` of the picture, nearest; the field's own without.
        reach: length that gets the full colour; the 98th percentile without.

    Returns:
        ``[H, W, 3]`` uint8, white where the field is 0; read it with :func:`displacement_wheel`.
    """
    field = torch.as_tensor(displacement).detach().cpu().numpy().astype(np.float32)
    if field.ndim != 3 or field.shape[0] != 2:
        raise ValueError(f"colorize_displacement: displacement must be [2, h, w], got {list(field.shape)}")
    field = np.nan_to_num(field, nan=0.0, posinf=0.0, neginf=0.0)
    length = np.hypot(field[0], field[1])
    if reach is None:
        reach = float(np.percentile(length, 98)) if length.size else 1.0
    picture = wheel_colors(np.arctan2(field[0], field[1]), length / max(reach, 1e-6))
    return picture if size is None else resize(picture, size, smooth=False)


def mark_points(image: Any, points: Iterable[Sequence[float]]) -> np.ndarray:
    """A copy of an image with a white ring, edged in black, around each point ``(x, y, ...)``."""
    canvas = _checked_image("mark_points", image).copy()
    radius = max(4, round(max(canvas.shape) / 100))
    for x, y, *_ in points:
        for color, width in (((16, 16, 20), 3), ((255, 255, 255), 1)):
            cv2.circle(canvas, (int(x), int(y)), radius, color, width, cv2.LINE_AA)
    return canvas


def displacement_wheel(side: int = 64) -> np.ndarray:
    """The key of :func:`colorize_displacement`: ``[side, side, 4]`` uint8 RGBA, a disc of all directions."""
    axis = (np.arange(side) + 0.5) / side * 2 - 1
    y, x = np.meshgrid(axis, axis, indexing="ij")
    radius = np.hypot(y, x)
    edge = ((1 - radius) * side / 2 + 0.5).clip(0, 1)
    alpha = (edge * 255).round().astype(np.uint8)
    return np.dstack([wheel_colors(np.arctan2(y, x), radius), alpha])


def contact_sheet(
    panels: Iterable[tuple[str, Any]],
    *,
    columns: int | None = None,
    panel_width: int = 320,
    gap: int = 12,
    background: tuple[int, int, int] = (18, 19, 23),
) -> np.ndarray:
    """Several pictures with captions as one picture.

    Args:
        panels: ``(caption, [H, W, 3] uint8)`` pairs; an empty caption leaves the line out of that panel.
        columns: panels per row; all in one row without, at most four.
        panel_width: width that every panel is brought to; heights follow.
        gap: pixels around and between panels.
        background: RGB colour behind them.

    Returns:
        ``[H, W, 3]`` uint8.

    Raises:
        ValueError: without panels, and for panels that are not ``[H, W, 3]`` uint8.
    """
    tiles = []
    for number, (caption, picture) in enumerate(panels):
        array = _checked_image(f"contact_sheet: panels[{number}]", picture)
        height = max(1, round(array.shape[0] * panel_width / array.shape[1]))
        tiles.append((caption, resize(array, (height, panel_width), smooth=array.shape[1] > panel_width // 2)))
    if not tiles:
        raise ValueError("contact_sheet: panels must not be empty")
    columns = min(columns or 4, len(tiles))
    rows = [tiles[i : i + columns] for i in range(0, len(tiles), columns)]
    line = round(panel_width * 0.075) + 8
    heights = [max(tile.shape[0] for _, tile in row) + (line if any(c for c, _ in row) else 0) for row in rows]
    sheet = Image.new("RGB", (columns * (panel_width + gap) + gap, sum(heights) + gap * (len(rows) + 1)), background)
    draw, font = ImageDraw.Draw(sheet), _font(max(11, round(panel_width * 0.05)))
    ink, y = ink_on(np.array(background)), gap
    for row, height in zip(rows, heights):
        captioned = any(caption for caption, _ in row)
        for column, (caption, tile) in enumerate(row):
            x = gap + column * (panel_width + gap)
            draw.text((x + 1, y + line / 2 - 2), caption, fill=ink, font=font, anchor="lm")
            sheet.paste(Image.fromarray(tile), (x, y + (line if captioned else 0)))
        y += height + gap
    return np.array(sheet)


def resize(array: np.ndarray, size: tuple[int, int], *, smooth: bool = True) -> np.ndarray:
    """``[h, w]`` or ``[h, w, 3]`` (uint8 or float32) at another ``(height, width)``.

    Smooth: averaged when it shrinks, bilinear when it grows. Not smooth: nearest.
    """
    height, width = int(size[0]), int(size[1])
    if array.shape[:2] == (height, width):
        return array.copy()
    shrinks = height * width < array.shape[0] * array.shape[1]
    method = (cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR) if smooth else cv2.INTER_NEAREST
    return cv2.resize(np.ascontiguousarray(array), (width, height), interpolation=method)


def _checked_image(owner: str, image: Any) -> np.ndarray:
    array = image.detach().cpu().numpy() if isinstance(image, torch.Tensor) else np.asarray(image)
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8 or 0 in array.shape:
        raise ValueError(f"{owner}: image must be [H, W, 3] uint8 with pixels, got {array.dtype} {list(array.shape)}")
    return array


def _strength(owner: str, values: Any, top: float | None) -> np.ndarray:
    """``[h, w]`` float32 in ``[0, 1]``."""
    array = torch.as_tensor(values).detach().cpu().numpy().astype(np.float32)
    if array.ndim == 3:
        array = array.max(axis=0) if array.shape[0] else np.zeros(array.shape[1:], np.float32)
    if array.ndim != 2 or not array.size:
        raise ValueError(f"{owner}: values must be [h, w] or [K, h, w] with pixels, got {list(array.shape)}")
    array = np.nan_to_num(array, nan=0.0, posinf=0.0, neginf=0.0)
    top = float(array.max()) if top is None else top
    return (array / max(top, 1e-12)).clip(0, 1)


def _smooth_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return resize(mask.astype(np.float32), size) > 0.5 if mask.shape != size else mask


def _outline(canvas: np.ndarray, mask: np.ndarray, color: np.ndarray) -> None:
    """Draw the mask's border: a dark line, and a thinner one of its colour."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    width = max(1, round(max(canvas.shape) / 300))
    cv2.drawContours(canvas, contours, -1, (16, 16, 20), width + 2, cv2.LINE_AA)
    cv2.drawContours(canvas, contours, -1, tuple(int(c) for c in color), width, cv2.LINE_AA)


def _caption(label: int, score: float, names: list[str] | None) -> str:
    name = names[label] if names is not None and 0 <= label < len(names) else f"class {label}"
    return f"{name} {score:.2f}"


def _write_captions(
    canvas: np.ndarray, masks: dict[int, np.ndarray], texts: dict[int, str], colors: np.ndarray
) -> np.ndarray:
    """Chips with the texts, each in its instance and clear of the chips before it."""
    picture = Image.fromarray(canvas)
    draw = ImageDraw.Draw(picture)
    font = _font(max(11, round(max(canvas.shape) / 36)))
    placed: list[Box] = []
    for n, mask in masks.items():
        left, top, right, bottom = draw.textbbox((0, 0), texts[n], font=font)
        pad = 3
        width, height = int(right - left) + 2 * pad + 2, int(bottom - top) + 2 * pad
        box = _place(mask, (height, width), placed)
        placed.append(box)
        draw.rounded_rectangle(box, radius=3, fill=tuple(int(c) for c in colors[n]))
        draw.text((box[0] + pad + 1 - left, box[1] + pad - top), texts[n], fill=ink_on(colors[n]), font=font)
    return np.array(picture)


def _place(mask: np.ndarray, size: tuple[int, int], placed: list[Box]) -> Box:
    """``(left, top, right, bottom)`` of a box at the top of the mask, moved down past those in its way."""
    height, width = size
    rows = np.flatnonzero(mask.any(axis=1))
    first = int(rows[0])
    columns = np.flatnonzero(mask[min(first + height, int(rows[-1]))])
    columns = columns if columns.size else np.flatnonzero(mask.any(axis=0))
    middle = int(columns.mean())
    left = max(0, min(middle - width // 2, mask.shape[1] - width))
    top = max(0, min(first + 2, mask.shape[0] - height))
    while any(
        left < r and b_left < left + width and top < b and b_top < top + height for b_left, b_top, r, b in placed
    ):
        top += 2
        if top + height > mask.shape[0]:
            top = max(0, min(first + 2, mask.shape[0] - height))
            break
    return left, top, left + width, top + height


@cache
def _font(pixels: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=pixels)
