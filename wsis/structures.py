"""What travels between the rooms of the house: frozen tables, checked once when they are made.

Coordinates are ``(y, x)``; classes are ``0..C-1``; instance ids start at 1 and 0 means "no instance".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["CenterOffsetTarget", "InstanceMap", "Instances", "Points"]


def _expect(owner: str, name: str, tensor: Tensor, shape: Sequence[int | None], what: str) -> None:
    """Raise unless ``tensor`` has the given shape (``None`` = any length)."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{owner}: {name} must be a tensor {what}, got {type(tensor).__name__}")
    fits = tensor.dim() == len(shape) and all(
        want is None or got == want for got, want in zip(tensor.shape, shape)
    )
    if not fits:
        raise ValueError(f"{owner}: {name} must be {what}, got shape {list(tensor.shape)}")


@dataclass(frozen=True)
class Instances:
    """The instances of one image as stacked masks; the form used at the doors (evaluation, export).

    Attributes:
        masks: ``[N, H, W]`` bool.
        labels: ``[N]`` int64, classes ``0..C-1``.
        scores: ``[N]`` float32 in ``[0, 1]``; ones when left out (ground truth).
    """

    masks: Tensor
    labels: Tensor
    scores: Tensor | None = None

    def __post_init__(self) -> None:
        _expect("Instances", "masks", self.masks, (None, None, None), "[N, H, W] bool")
        if self.masks.dtype != torch.bool:
            object.__setattr__(self, "masks", self.masks != 0)
        count = self.masks.shape[0]
        _expect("Instances", "labels", self.labels, (count,), f"[N] with N = {count} masks")
        if self.labels.is_floating_point() or self.labels.is_complex():
            raise TypeError(f"Instances: labels must be integers, got {self.labels.dtype}")
        object.__setattr__(self, "labels", self.labels.to(torch.int64))
        scores = self.scores
        if scores is None:
            scores = torch.ones(count, dtype=torch.float32, device=self.masks.device)
        _expect("Instances", "scores", scores, (count,), f"[N] with N = {count} masks")
        object.__setattr__(self, "scores", scores.to(torch.float32))

    def __len__(self) -> int:
        return self.masks.shape[0]

    @classmethod
    def empty(cls, size: tuple[int, int], device: torch.device | str = "cpu") -> Instances:
        """No instances on an image of ``size = (height, width)``."""
        return cls(
            torch.zeros((0, *size), dtype=torch.bool, device=device),
            torch.zeros(0, dtype=torch.int64, device=device),
            torch.zeros(0, dtype=torch.float32, device=device),
        )


@dataclass(frozen=True)
class InstanceMap:
    """The instances of a batch as an id map and a table; the form used inside the house.

    Row ``m`` of the table describes the pixels of image ``image_index[m]`` whose id is ``id[m]``.

    Attributes:
        ids: ``[B, H, W]`` int32, 0 = none, ids from 1 in each image.
        image_index: ``[M]`` int64.
        id: ``[M]`` int64, the value in ``ids``.
        label: ``[M]`` int64, classes ``0..C-1``.
        score: ``[M]`` float32.
        center_yx: ``[M, 2]`` float32, pixels; NaN where a centre has no meaning.
    """

    ids: Tensor
    image_index: Tensor
    id: Tensor
    label: Tensor
    score: Tensor
    center_yx: Tensor | None = None

    def __post_init__(self) -> None:
        _expect("InstanceMap", "ids", self.ids, (None, None, None), "[B, H, W] integers")
        rows = self.image_index.shape[0]
        for name in ("image_index", "id", "label", "score"):
            _expect("InstanceMap", name, getattr(self, name), (rows,), f"[M] with M = {rows} rows")
        center = self.center_yx
        if center is None:
            center = torch.full((rows, 2), float("nan"), device=self.ids.device)
        _expect("InstanceMap", "center_yx", center, (rows, 2), f"[M, 2] with M = {rows} rows")
        object.__setattr__(self, "center_yx", center)

    def __len__(self) -> int:
        return self.image_index.shape[0]

    def to_instances(self, sizes: Sequence[tuple[int, int]] | None = None) -> list[Instances]:
        """Stacked masks, one :class:`Instances` per image; ``sizes`` crops padded images."""
        result = []
        for b in range(self.ids.shape[0]):
            height, width = sizes[b] if sizes is not None else self.ids.shape[1:]
            rows = (self.image_index == b).nonzero().squeeze(1)
            masks = self.ids[b, :height, :width].unsqueeze(0) == self.id[rows].view(-1, 1, 1)
            result.append(Instances(masks, self.label[rows], self.score[rows]))
        return result


@dataclass(frozen=True)
class Points:
    """Point cues of a batch, one row each.

    Attributes:
        image_index: ``[N]`` int64, ascending.
        y, x: ``[N]`` int64, pixels.
        label: ``[N]`` int64, classes ``0..C-1``.
        score: ``[N]`` float32 confidence.
    """

    image_index: Tensor
    y: Tensor
    x: Tensor
    label: Tensor
    score: Tensor

    def __post_init__(self) -> None:
        rows = self.image_index.shape[0]
        for name in ("image_index", "y", "x", "label", "score"):
            _expect("Points", name, getattr(self, name), (rows,), f"[N] with N = {rows} rows")

    def __len__(self) -> int:
        return self.image_index.shape[0]

    @classmethod
    def from_rows(
        cls, rows: Iterable[Sequence[Sequence[float]]], device: torch.device | str = "cpu"
    ) -> Points:
        """From one list of ``(x, y, class, confidence)`` per image, the column order of a points file."""
        flat = [(b, *map(float, row)) for b, image in enumerate(rows) for row in image]
        for row in flat:
            if len(row) != 5:
                raise ValueError(
                    f"Points.from_rows: rows must be (x, y, class, confidence), got {len(row) - 1} columns"
                )
        table = torch.tensor(flat, dtype=torch.float64, device=device).reshape(-1, 5)
        index, x, y, label = (table[:, k].to(torch.int64) for k in range(4))
        return cls(index, y, x, label, table[:, 4].to(torch.float32))


@dataclass(frozen=True)
class CenterOffsetTarget:
    """Training targets of a centre/offset network (BESTIE, section 3.2).

    Attributes:
        center: ``[B, C, H, W]`` float32 Gaussian heatmaps with peak 1.
        offset: ``[B, 2, H, W]`` float32 ``(y, x)`` from the pixel to its centre, in pixels.
        weight: ``[B, 1, H, W]`` float32 per-pixel loss weight, 0 = not supervised.
    """

    center: Tensor
    offset: Tensor
    weight: Tensor

    def __post_init__(self) -> None:
        owner = "CenterOffsetTarget"
        _expect(owner, "center", self.center, (None, None, None, None), "[B, C, H, W]")
        batch, _, height, width = self.center.shape
        _expect(owner, "offset", self.offset, (batch, 2, height, width), "[B, 2, H, W]")
        _expect(owner, "weight", self.weight, (batch, 1, height, width), "[B, 1, H, W]")
