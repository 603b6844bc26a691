"""Colour changes of training pictures; every draw comes from the generator that is handed in."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageEnhance

__all__ = ["color_jitter", "photometric_distortion"]


def color_jitter(image: Image.Image, rng: np.random.Generator, strength: float = 0.3, hue: float = 0.1) -> Image.Image:
    """Brightness, contrast and saturation by factors in ``1 +- strength`` and hue by ``+- hue`` of the colour circle,
    in random order."""
    names = ("Brightness", "Contrast", "Color", "hue")
    for index in rng.permutation(len(names)):
        if names[index] == "hue":
            image = _turn_hue(image, rng.uniform(-hue, hue))
        else:
            image = getattr(ImageEnhance, names[index])(image).enhance(rng.uniform(1 - strength, 1 + strength))
    return image


def photometric_distortion(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Brightness +-16, contrast x0.5 to 1.5 and hue +-36 degrees, each with probability 1/2; contrast comes before or,
    with probability 1/2, after the hue (BESTIE's training, as of the published code).

    Args:
        image: ``[H, W, 3]`` uint8.
    """
    values = image.astype(np.float32)
    if rng.integers(2):
        values = values + rng.uniform(-16, 16)
    contrast = rng.uniform(0.5, 1.5) if rng.integers(2) else 1.0
    first = bool(rng.integers(2))
    if first:
        values = values * contrast
    if rng.integers(2):
        turned = _turn_hue(Image.fromarray(_bytes(values)), rng.uniform(-0.1, 0.1))
        values = np.asarray(turned, dtype=np.float32)
    if not first:
        values = values * contrast
    return _bytes(values)


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.clip(values, 0, 255).astype(np.uint8)


def _turn_hue(image: Image.Image, turn: float) -> Image.Image:
    """The hue moved by ``turn`` of the whole circle."""
    hue, saturation, value = image.convert("HSV").split()
    moved = (np.asarray(hue).astype(np.int16) + round(255 * turn)) % 256
    return Image.merge("HSV", (Image.fromarray(moved.astype(np.uint8)), saturation, value)).convert("RGB")
