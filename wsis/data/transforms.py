"""From a picture to a training sample, decided by ``(seed, epoch, index)`` alone.

The sizes, ranges and the order are those of IRNet (Ahn et al., CVPR 2019): resize (bicubic, antialiased when
it shrinks), normalise, mirror, crop at a random place, shorter sides placed at random in zeros. Zeros stand
*after* normalisation; a seed map is padded with 255.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from wsis.data.categories import IGNORE

__all__ = [
    "CamTransform",
    "IrnTransform",
    "normalize",
    "resize_image",
    "resize_labels",
    "sample_rng",
    "seed_grid",
    "top_left_crop",
]

Triple = tuple[float, float, float]


def sample_rng(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The generator of one sample; independent of batch order, workers and everything drawn before."""
    for name, value in (("seed", seed), ("epoch", epoch), ("index", index)):
        if value < 0:
            raise ValueError(f"sample_rng: {name} must be at least 0, got {value}")
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, epoch, index])))


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """``image [H, W, 3]`` uint8 at ``size = (height, width)``, Pillow bicubic."""
    height, width = size
    if image.shape[:2] == (height, width):
        return image
    resized = Image.fromarray(np.ascontiguousarray(image)).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(resized)


def resize_labels(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """``labels [H, W]`` uint8 at ``size = (height, width)``, Pillow nearest."""
    height, width = size
    if labels.shape == (height, width):
        return labels
    resized = Image.fromarray(np.ascontiguousarray(labels)).resize((width, height), Image.Resampling.NEAREST)
    return np.asarray(resized)


def normalize(image: np.ndarray, mean: Triple, std: Triple) -> Tensor:
    """``image [H, W, 3]`` uint8 as ``[3, H, W]`` float32, ``(x - mean) / std``; both in units of 0..255."""
    tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1).to(torch.float32)
    shift = torch.tensor(mean, dtype=torch.float32).view(3, 1, 1)
    scale = torch.tensor(std, dtype=torch.float32).view(3, 1, 1)
    return ((tensor - shift) / scale).contiguous()


def seed_grid(seeds: np.ndarray, stride: int = 4) -> np.ndarray:
    """``seeds [H, W]`` on the feature grid, ``[(H - 1) // stride + 1, ...]``: pixel ``stride * i + stride //
    2``.

    The last cell of a side that is no multiple of ``stride`` takes the last pixel where the formula leaves
    the map.
    """
    rows, columns = (
        np.minimum(stride * np.arange((side - 1) // stride + 1) + stride // 2, side - 1)
        for side in seeds.shape
    )
    return seeds[rows[:, None], columns]


def top_left_crop(image: np.ndarray, crop: int, mean: Triple, std: Triple) -> Tensor:
    """``[3, crop, crop]``: the top left part, normalised, zeros where the picture ends."""
    part = normalize(image[:crop, :crop], mean, std)
    result = torch.zeros((3, crop, crop))
    result[:, : part.shape[1], : part.shape[2]] = part
    return result


@dataclass(frozen=True)
class CamTransform:
    """Samples for the classifier (algorithms of IRNet's first stage).

    Attributes:
        mean, std: of the backbone, in units of 0..255.
        crop: side of the sample.
        long_side: the long side becomes a uniform integer in this range, both ends included.
        flip: whether to mirror every second sample.
    """

    mean: Triple
    std: Triple
    crop: int = 512
    long_side: tuple[int, int] = (320, 640)
    flip: bool = True

    def __post_init__(self) -> None:
        _check_crop("CamTransform", self.crop)
        _check_range("CamTransform", "long_side", self.long_side)

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> Tensor:
        """``image [H, W, 3]`` uint8 -> ``[3, crop, crop]`` float32."""
        long_side = int(rng.integers(self.long_side[0], self.long_side[1] + 1))
        image = resize_image(image, _scaled(image.shape[:2], long_side / max(image.shape[:2])))
        if self.flip and rng.random() < 0.5:
            image = image[:, ::-1]
        source, target = _random_window(image.shape[:2], self.crop, rng)
        return _place(image[source], target, self.crop, self.mean, self.std)


@dataclass(frozen=True)
class IrnTransform:
    """Samples for IRNet: a picture with its seed map.

    Attributes:
        mean, std: of the backbone, in units of 0..255.
        crop: side of the sample, a multiple of 4.
        scale: both sides are multiplied by a uniform number of this range.
        flip: whether to mirror every second sample.
    """

    mean: Triple
    std: Triple
    crop: int = 512
    scale: tuple[float, float] = (0.5, 1.5)
    flip: bool = True

    def __post_init__(self) -> None:
        _check_crop("IrnTransform", self.crop)
        if self.crop % 4:
            raise ValueError(f"IrnTransform: crop must be a multiple of 4, got {self.crop}")
        _check_range("IrnTransform", "scale", self.scale)

    def __call__(
        self, image: np.ndarray, seeds: np.ndarray, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """A crop and its seeds on the feature grid.

        Args:
            image: ``[H, W, 3]`` uint8.
            seeds: ``[H, W]`` uint8: 0 background, ``1..C``, 255 unknown.
            rng: decides the sample.

        Returns:
            ``[3, crop, crop]`` float32 and ``[crop / 4, crop / 4]`` uint8.
        """
        if image.shape[:2] != seeds.shape:
            raise ValueError(
                f"IrnTransform: seeds must have the size of the image {list(image.shape[:2])}, "
                f"got {list(seeds.shape)}"
            )
        size = _scaled(seeds.shape, self.scale[0] + (self.scale[1] - self.scale[0]) * rng.random())
        image, seeds = resize_image(image, size), resize_labels(seeds, size)
        if self.flip and rng.random() < 0.5:
            image, seeds = image[:, ::-1], seeds[:, ::-1]
        source, target = _random_window(size, self.crop, rng)
        padded = np.full((self.crop, self.crop), IGNORE, dtype=np.uint8)
        padded[target] = seeds[source]
        sample = _place(image[source], target, self.crop, self.mean, self.std)
        return sample, torch.from_numpy(np.ascontiguousarray(seed_grid(padded)))


def _check_crop(owner: str, crop: int) -> None:
    if not isinstance(crop, int) or crop < 1:
        raise ValueError(f"{owner}: crop must be a positive whole number, got {crop!r}")


def _check_range(owner: str, name: str, value: tuple[float, float]) -> None:
    if len(value) != 2 or not 0 < value[0] <= value[1] < float("inf"):
        raise ValueError(f"{owner}: {name} must be (low, high) with 0 < low <= high, got {value!r}")


def _scaled(size: tuple[int, ...], scale: float) -> tuple[int, int]:
    """Sides times ``scale``, rounded half to even, at least one pixel."""
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _random_window(
    size: tuple[int, ...], crop: int, rng: np.random.Generator
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where to cut from a picture of ``size`` and where to put it in the ``crop x crop`` sample."""
    source, target = [], []
    for side in (int(size[0]), int(size[1])):
        length = min(side, crop)
        offset = int(rng.integers(0, abs(side - crop) + 1))
        cut, put = (offset, 0) if side > crop else (0, offset)
        source.append(slice(cut, cut + length))
        target.append(slice(put, put + length))
    return (source[0], source[1]), (target[0], target[1])


def _place(image: np.ndarray, target: tuple[slice, slice], crop: int, mean: Triple, std: Triple) -> Tensor:
    result = torch.zeros((3, crop, crop))
    result[(slice(None), *target)] = normalize(image, mean, std)
    return result
