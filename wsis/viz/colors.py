"""Colours that are even to the eye: distinct ones for instances, a ramp for heat, a wheel for directions.

All are made in OKLCH (B. Ottosson, "A perceptual color space for image processing", 2020): equal steps of
lightness, chroma and hue look equal, so no class stands out by its number alone.
"""

from __future__ import annotations

from functools import cache

import numpy as np

__all__ = ["distinct_colors", "heat_ramp", "ink_on", "oklch_to_rgb", "wheel_colors"]

_GOLDEN_ANGLE = np.pi * (3 - np.sqrt(5))
_LIGHTNESS = np.array([0.72, 0.84, 0.64])
_CHROMA = 0.17

_HEAT_STOPS = np.array(
    [
        [0.00, 0.13, 0.03, 285.0],
        [0.25, 0.34, 0.15, 295.0],
        [0.50, 0.57, 0.21, 360.0],
        [0.75, 0.77, 0.17, 415.0],
        [1.00, 0.97, 0.08, 465.0],
    ]
)
"""Position, lightness, chroma, hue in degrees."""


def oklch_to_rgb(lightness: np.ndarray, chroma: np.ndarray, hue: np.ndarray) -> np.ndarray:
    """OKLCH (lightness in [0, 1], chroma, hue in radians; any shape) -> ``[..., 3]`` uint8 sRGB, clipped."""
    a, b = chroma * np.cos(hue), chroma * np.sin(hue)
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    linear = np.stack(
        [
            4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
            -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
            -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
        ],
        axis=-1,
    ).clip(0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return (encoded * 255).round().astype(np.uint8)


def distinct_colors(count: int, start: int = 0) -> np.ndarray:
    """``[count, 3]`` uint8; neighbours in the list differ most and number ``k`` is always the same colour."""
    number = np.arange(start, start + count)
    lightness = _LIGHTNESS[number % len(_LIGHTNESS)]
    return oklch_to_rgb(lightness, np.full(count, _CHROMA), 0.5 + number * _GOLDEN_ANGLE)


@cache
def heat_ramp() -> np.ndarray:
    """``[256, 3]`` uint8: dark violet over red and orange to pale yellow, lightness rising evenly."""
    position = np.linspace(0, 1, 256)
    lightness, chroma, hue = (np.interp(position, _HEAT_STOPS[:, 0], _HEAT_STOPS[:, k]) for k in (1, 2, 3))
    ramp = oklch_to_rgb(lightness, chroma, np.deg2rad(hue))
    ramp.flags.writeable = False
    return ramp


def wheel_colors(angle: np.ndarray, strength: np.ndarray) -> np.ndarray:
    """Directions as colours: hue from ``angle`` (radians), white at ``strength`` 0, full colour at 1."""
    strength = np.clip(strength, 0, 1)
    return oklch_to_rgb(0.98 - 0.30 * strength, 0.19 * strength, angle)


def ink_on(color: np.ndarray) -> tuple[int, int, int]:
    """Near-black or white, whichever is easier to read on ``color`` (``[3]`` uint8)."""
    luminance = np.dot((np.asarray(color) / 255.0) ** 2.2, (0.2126, 0.7152, 0.0722))
    return (16, 16, 20) if luminance > 0.22 else (255, 255, 255)
