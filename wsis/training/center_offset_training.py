"""How the centre and offset network learns from pseudo labels and repairs them (BESTIE, CVPR 2022, section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from wsis.data.artifacts import safe_join
from wsis.data.image_set import ImageSet
from wsis.data.images import read_index_map
from wsis.data.points import PointSource
from wsis.errors import DataFault
from wsis.labels import center_offset
from wsis.losses.center_offset import WEIGHTS, CenterOffsetLoss, center_offset_loss
from wsis.models import CenterOffsetNet, CenterOffsetOutput
from wsis.structures import Points

from . import augment
from .color import photometric_distortion
from .config import OptimConfig
from .modules import Training, channels_last

__all__ = ["CenterOffsetSamples", "CenterOffsetTraining"]


class CenterOffsetTraining(Training):
    """The losses on pseudo labels and, with ``refine``, on labels made from the network's own output in every step.

    Nothing between the network's output and its loss is read back by the host. A batch may hold images under image
    labels and under points; the losses of both kinds are then averaged by their numbers of images.

    Args:
        net: the network.
        optim: optimiser and schedule; new layers are all but the backbone.
        steps: steps of the whole training.
        config: thresholds of the labels.
        refine: repair the labels while training.
        seed: of dropout, together with the step.
        gradient_from: first stage of a small body that learns.
        hardest: share of the pixels in the semantic loss.
        weights: factors of the semantic, centre and offset loss.
        guidance: centres count inside labelled instances alone.
    """

    net: CenterOffsetNet
    synchronised_norm = True

    def __init__(
        self,
        net: CenterOffsetNet,
        optim: OptimConfig,
        steps: int,
        config: center_offset.Config | None = None,
        refine: bool = True,
        seed: int = 0,
        gradient_from: int = 0,
        hardest: float = 0.2,
        weights: tuple[float, float, float] = WEIGHTS,
        guidance: bool = True,
    ):
        super().__init__(net, optim, steps)
        self.config, self.refine, self.seed = config or center_offset.Config(), refine, seed
        self.gradient_from, self.hardest, self.weights = gradient_from, hardest, weights
        self.guidance = guidance

    def parameter_groups(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        known = {id(p) for p in self.net.published_parameters()}
        new = [p for p in self.net.parameters() if id(p) not in known]
        return self.net.stage_parameters(self.gradient_from), new

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        super().on_train_batch_start(batch, batch_idx)
        torch.manual_seed((self.seed * 1_000_003 + self.step * 1_009 + self.global_rank) % 2**63)

    def loss(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        prediction = self.net(channels_last(batch["image"]), self.gradient_from)
        prediction = CenterOffsetOutput(*(x.float() for x in prediction))
        by_point = batch["by_point"]
        groups = {name: [i for i, point in enumerate(by_point) if point == flag] for name, flag in _KINDS.items()}
        parts, total = [], 0.0
        for supervision, members in groups.items():
            if members:
                one = self._group(prediction, batch, members, supervision)
                share = len(members) / len(by_point)
                total = total + share * one.total
                parts.append([share * value.detach() for value in one[1:]])
        semantic, center, offset = (sum(values) for values in zip(*parts))
        return {"loss": total, "semantic": semantic, "center": center, "offset": offset}

    def _group(
        self, prediction: CenterOffsetOutput, batch: dict[str, Any], members: Sequence[int], supervision: str
    ) -> CenterOffsetLoss:
        """The loss of the images under one kind of supervision."""
        semantic, labels, rows = batch["semantic"], batch["labels"], batch["points"]
        if len(members) < len(rows):
            index = torch.tensor(members, device=semantic.device)
            prediction = CenterOffsetOutput(*(x[index] for x in prediction))
            semantic, labels, rows = semantic[index], labels[index], [rows[i] for i in members]
        points = Points.from_rows(rows, semantic.device)
        options = {"config": self.config, "validate": False}
        pseudo = center_offset.pseudo_targets(semantic, points, labels, supervision=supervision, **options)
        refined = None
        if self.refine:
            given = points if supervision == "point" else None
            refined = center_offset.refine(prediction, semantic, labels, given, **options)
        options = {"weights": self.weights, "hardest": self.hardest, "guidance": self.guidance}
        return center_offset_loss(prediction, semantic, pseudo, refined, supervision=supervision, **options)


_KINDS = {"image": False, "point": True}


class CenterOffsetSamples:
    """``(epoch, index)`` to a crop of image, semantic map and points.

    In the order of the paper's code: colours; the long side to ``long_side`` and the short one to the next
    ``32 k + 1``; a scale of 0.7, 0.8 .. 1.3; padding up to the crop at random sides (the image with the mean colour,
    the map with background); crop; mirror. Points that leave the crop are dropped.

    Args:
        data: pictures with image labels.
        semantic: folder of the semantic maps, ``<id>.png``.
        points: the point cues.
        confidence: points with at most this confidence are not used.
        by_point: ids under point supervision; None = all, empty = none.
        normalization: of the network.
        long_side, crop: in pixels.
        seed: of every draw.
    """

    def __init__(
        self,
        data: ImageSet,
        semantic: str,
        points: PointSource,
        confidence: float,
        by_point: frozenset[str] | None,
        normalization: tuple,
        long_side: int,
        crop: int,
        seed: int,
    ):
        self.data, self.semantic, self.points, self.confidence = data, semantic, points, confidence
        self.by_point, self.normalization = by_point, normalization
        self.long_side, self.crop, self.seed = long_side, crop, seed

    def __call__(self, epoch: int, index: int) -> dict[str, Any]:
        record, image = self.data[index], self.data.load_image(index)
        semantic, rows = self.weak_labels(index, image.shape[:2])
        rng = augment.draw(self.seed, epoch, index)
        pixels, maps, rows = self._transform(photometric_distortion(image, rng), semantic, rows, rng)
        return {
            "id": record.id,
            "image": augment.normalise(pixels, self.normalization),
            "semantic": torch.from_numpy(maps),
            "labels": torch.from_numpy(self.data.label_vector(index)),
            "points": rows,
            "by_point": self.by_point is None or record.id in self.by_point,
        }

    def weak_labels(self, index: int, size: tuple[int, int]) -> tuple[np.ndarray, list[tuple[float, ...]]]:
        """The semantic map and the points of an image of this size; ``DataFault`` if they cannot be used."""
        record = self.data[index]
        try:
            path = safe_join(self.semantic, record.id + ".png")
            semantic = read_index_map(path, len(self.data.categories), size=size)
            rows = list(self.points.read(record.id, size, record.labels).above(self.confidence))
        except DataFault as fault:
            raise fault.renamed(record.id) from fault
        return semantic.astype(np.uint8), rows

    def _transform(
        self, image: np.ndarray, semantic: np.ndarray, rows: list[tuple[float, ...]], rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, list[tuple[float, ...]]]:
        height, width = image.shape[:2]
        scale = int(rng.integers(7, 14)) / 10
        sides = [max(1, round(side * scale)) for side in training_size((height, width), self.long_side)]
        pixels = np.asarray(Image.fromarray(image).resize(sides[::-1], Image.Resampling.BILINEAR))
        maps = np.asarray(Image.fromarray(semantic).resize(sides[::-1], Image.Resampling.NEAREST))
        ratio = (sides[1] / width, sides[0] / height)
        rows = [(int(x * ratio[0]), int(y * ratio[1]), label, score) for x, y, label, score in rows]
        crop = self.crop
        top, left = (augment.place(side, crop, rng) for side in sides)
        out = np.empty((crop, crop, 3), dtype=np.uint8)
        out[:] = np.array(self.normalization[0]).astype(np.uint8)
        labels = np.zeros((crop, crop), dtype=np.uint8)
        for target, source in ((out, pixels), (labels, maps)):
            part = source[max(top, 0) : max(top, 0) + crop, max(left, 0) : max(left, 0) + crop]
            target[max(-top, 0) :, max(-left, 0) :][: part.shape[0], : part.shape[1]] = part
        rows = [(x - left, y - top, label, score) for x, y, label, score in rows]
        rows = [row for row in rows if 0 <= row[0] < crop and 0 <= row[1] < crop]
        if rng.integers(2):
            out, labels = out[:, ::-1], np.ascontiguousarray(labels[:, ::-1])
            rows = [(crop - 1 - x, y, label, score) for x, y, label, score in rows]
        return out, labels, rows


def training_size(size: tuple[int, int], long_side: int) -> tuple[int, int]:
    """The long side becomes ``long_side``, the short one ``floor(short * long_side / long)`` raised to the next
    ``32 k + 1``."""
    short = min(size) * long_side // max(size)
    short = (short + 30) // 32 * 32 + 1
    return (short, long_side) if size[0] <= size[1] else (long_side, short)
