"""From activation maps, boundary and displacement to instances and semantic maps (IRNet, CVPR 2019).

The displacement field gathers pixels into clusters (section 4.1 of the paper), each class map is cut along
the clusters, every piece is spread by a random walk that boundaries stop (section 4.2), and each pixel takes
the strongest piece or the background (section 4.3). ``instances_from_cam`` and ``semantic_from_cam`` do one
image; ``propagate`` does a batch of images of one size, with all channels of all images in one flat table.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from wsis import ops
from wsis.errors import ConfigError
from wsis.labels.crf_refinement import crf_refinement
from wsis.labels.winners import STRIDE, component_table, strongest
from wsis.structures import InstanceMap, Instances

__all__ = [
    "Config",
    "Propagated",
    "Walks",
    "cluster_pixels",
    "component_table",
    "decide",
    "grid_size",
    "instance_channels",
    "instances_from_cam",
    "propagate",
    "semantic_from_cam",
    "walk_maps",
]



@dataclass(frozen=True)
class Config:
    """Thresholds of the propagation, the paper's values.

    Attributes:
        background: score of the background channel when instances are decided.
        semantic_background: score of the background channel when semantic maps are decided.
        weak_displacement: a pixel displaced by less than this many cells belongs to a centroid.
        trace_steps: moves along the displacement field before a pixel has arrived.
        radius: cells farther apart than this (strictly) are no neighbours in the random walk.
        beta: power of the affinities.
        walk_steps: steps of the random walk.
        walk_tol: allowed error of the walk against exact steps, relative to the largest value.
        min_area: a component smaller than this share of the image gets score 0.
        score: max, the largest value of a component as in the paper, or mean, which ranks those of different images
            better where boundaries are soft.
        crf: trust in the instances when a dense CRF draws them to the photograph's edges; 0 = no CRF, as in the paper.
        semantic_crf: the same for semantic maps.
    """

    background: float = 0.25
    semantic_background: float = 0.25
    weak_displacement: float = 2.5
    trace_steps: int = 300
    radius: int = 5
    beta: float = 10.0
    walk_steps: int = 256
    walk_tol: float = 1e-5
    min_area: float = 0.01
    score: str = "max"
    crf: float = 0.0
    semantic_crf: float = 0.0

    def __post_init__(self) -> None:
        limits = {
            "background": (0.0, 1.0),
            "semantic_background": (0.0, 1.0),
            "weak_displacement": (0.0, math.inf),
            "trace_steps": (0, 100_000),
            "radius": (2, 64),
            "beta": (0.0, 1e6),
            "walk_steps": (0, 1 << 20),
            "walk_tol": (1e-8, 0.1),
            "min_area": (0.0, 1.0),
            "crf": (0.0, 0.999),
            "semantic_crf": (0.0, 0.999),
        }
        problems = [
            f"irnet.Config: {name} = {getattr(self, name)!r}, expected {low:g} to {high:g}"
            for name, (low, high) in limits.items()
            if not low <= getattr(self, name) <= high
        ]
        if self.score not in ("max", "mean"):
            problems.append(f"irnet.Config: score = {self.score!r}, expected max or mean")
        if problems:
            raise ConfigError(problems)


class Propagated(NamedTuple):
    """What one batch became.

    Attributes:
        instances: rows in the order image, class, cluster, component (raster order of the first pixel).
        area: ``[M]`` int64, pixels of each instance.
        box_xyxy: ``[M, 4]`` int64, half-open.
        semantic: ``[B, H, W]`` int64 (0 background, class + 1), or None when not asked for.
        pieces: how many rows of ``walked`` are pieces of instances; the rest are the class maps.
        walked: ``[N, h, w]`` float32, the spread maps, before division by the maximum.
        walked_image: ``[N]`` int64, image of each map.
        walked_class: ``[N]`` int64, class of each map.
    """

    instances: InstanceMap | None
    area: Tensor | None
    box_xyxy: Tensor | None
    semantic: Tensor | None
    pieces: int
    walked: Tensor
    walked_image: Tensor
    walked_class: Tensor


def grid_size(size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of the stride-4 grid of an image of ``(height, width)``."""
    return (size[0] - 1) // STRIDE + 1, (size[1] - 1) // STRIDE + 1


def instances_from_cam(
    cams: Tensor,
    classes: Tensor,
    boundary: Tensor,
    displacement: Tensor,
    image_size: tuple[int, int],
    config: Config | None = None,
    image: Tensor | None = None,
) -> Instances:
    """Instances of one image (paper, section 4.3).

    Args:
        cams: ``[K, h, w]`` float, strided activation maps of the classes present, at least 0.
        classes: ``[K]`` integers, their classes ``0..C-1``.
        boundary: ``[h, w]`` float, class boundary probability.
        displacement: ``[2, h, w]`` float ``(y, x)`` in cells, from the pixel to its centre.
        image_size: ``(H, W)`` with ``h = (H - 1) // 4 + 1``, likewise ``w``.
        config: thresholds.
        image: ``[3, H, W]`` uint8 RGB, needed where ``config.crf`` is above 0.

    Returns:
        One row per component, by class, cluster and raster order; score 0 marks components under
        ``min_area``. No active cell or no class: no rows.

    Raises:
        ValueError, TypeError: wrong shapes or types, values that are not finite.
    """
    owner = "instances_from_cam"
    cams, classes, size = _one_image(owner, cams, classes, boundary, image_size)
    if not isinstance(displacement, Tensor) or tuple(displacement.shape) != (2, *boundary.shape):
        got = list(displacement.shape) if isinstance(displacement, Tensor) else type(displacement).__name__
        raise ValueError(f"{owner}: displacement must be [2, h, w] with [h, w] = {list(boundary.shape)}, got {got}")
    index = torch.zeros_like(classes)
    images = _image_for_crf(owner, image, size, "crf", config or Config())
    fields = boundary[None].float(), displacement[None].float()
    made = propagate(cams, classes, index, *fields, size, config or Config(), images=images)
    return made.instances.to_instances()[0]


def semantic_from_cam(
    cams: Tensor,
    classes: Tensor,
    boundary: Tensor,
    image_size: tuple[int, int],
    config: Config | None = None,
    image: Tensor | None = None,
) -> Tensor:
    """Semantic map of one image: ``[H, W]`` uint8, 0 background, class + 1.

    Arguments and errors as :func:`instances_from_cam`; classes above 253 do not fit beside the ignore value
        255.
    """
    owner = "semantic_from_cam"
    cams, classes, size = _one_image(owner, cams, classes, boundary, image_size)
    if classes.numel() and int(classes.max()) > 253:
        raise ValueError(f"{owner}: classes must be at most 253 to fit a uint8 map, got {int(classes.max())}")
    index = torch.zeros_like(classes)
    images = _image_for_crf(owner, image, size, "semantic_crf", config or Config())
    made = propagate(cams, classes, index, boundary[None].float(), None, size, config or Config(), images=images)
    return made.semantic[0].to(torch.uint8)


def propagate(
    cams: Tensor,
    classes: Tensor,
    image_index: Tensor,
    boundary: Tensor,
    displacement: Tensor | None,
    size: tuple[int, int],
    config: Config,
    *,
    semantic: bool = False,
    images: Tensor | None = None,
) -> Propagated:
    """Instances and semantic maps of a batch of images of one size.

    Args:
        cams: ``[M, h, w]`` float32, the maps of all images, ascending in ``image_index``.
        classes: ``[M]`` int64.
        image_index: ``[M]`` int64.
        boundary: ``[B, h, w]`` float32.
        displacement: ``[B, 2, h, w]`` float32; None: semantic maps only.
        size: ``(H, W)`` of every image.
        config: thresholds.
        semantic: make the semantic maps beside the instances.
        images: ``[B, 3, H, W]`` uint8 RGB, needed where ``config.crf`` or ``config.semantic_crf`` is above 0.
    """
    walks = walk_maps(cams, classes, image_index, boundary, displacement, config, semantic=semantic)
    made = displacement is not None
    maps = classes if semantic or not made else None
    return decide(walks, boundary.shape[0], size, config, instances=made, classes=maps, images=images)


class Walks(NamedTuple):
    """Maps after the random walk: ``[N, h, w]``, image ``[N]`` and class ``[N]`` of each, and how many are pieces of
    instances (they come first; the rest are the class maps)."""

    walked: Tensor
    of_image: Tensor
    of_class: Tensor
    pieces: int


def walk_maps(
    cams: Tensor,
    classes: Tensor,
    image_index: Tensor,
    boundary: Tensor,
    displacement: Tensor | None,
    config: Config,
    *,
    semantic: bool = False,
    clusters: Tensor | None = None,
) -> Walks:
    """The first half of :func:`propagate`, in which no background has a say: clusters (where ``clusters`` does not give
    them, as of :func:`cluster_pixels`), pieces, random walk."""
    seeds, rows, pieces = [], [], 0
    if displacement is not None:
        clusters = cluster_pixels(displacement, config) if clusters is None else clusters
        parts, part_of = instance_channels(cams, image_index, clusters)
        seeds.append(parts)
        rows.append(part_of)
        pieces = parts.shape[0]
    if semantic or displacement is None:
        seeds.append(cams)
        rows.append(torch.arange(cams.shape[0], device=cams.device))
    row = torch.cat(rows)
    of_image = image_index[row]
    walked = ops.random_walk(
        torch.cat(seeds) * (1 - boundary)[of_image],
        boundary,
        of_image,
        radius=config.radius,
        beta=config.beta,
        num_steps=config.walk_steps,
        tol=config.walk_tol,
    )
    return Walks(walked, of_image, classes[row], pieces)


def decide(
    walks: Walks,
    batch: int,
    size: tuple[int, int],
    config: Config,
    *,
    instances: bool = True,
    classes: Tensor | None = None,
    images: Tensor | None = None,
) -> Propagated:
    """The second half of :func:`propagate`: every pixel takes the strongest map or the background.

    Args:
        walks: from :func:`walk_maps`.
        batch: images.
        size: ``(H, W)`` of every image.
        config: thresholds; those of the walk do not matter any more.
        instances: make instances.
        classes: ``[M]`` int64, classes of the maps; given, semantic maps are made.
        images: ``[B, 3, H, W]`` uint8 RGB, for the CRF.
    """
    walked, of_image, of_class, pieces = walks
    table, area, box, maps = None, None, None, None
    if instances:
        own = (walked[:pieces], of_image[:pieces], of_class[:pieces])
        table, area, box = _instances(*own, batch, size, config, images)
    if classes is not None:
        winner, _ = strongest(walked[pieces:], of_image[pieces:], batch, size, config.semantic_background)
        if config.semantic_crf > 0:
            winner = crf_refinement(images, winner, of_image[pieces:], config.semantic_crf)
        maps = torch.cat([classes.new_zeros(1), of_class[pieces:] + 1])[winner]
    return Propagated(table, area, box, maps, pieces, walked, of_image, of_class)


def cluster_pixels(displacement: Tensor, config: Config | None = None) -> Tensor:
    """The cluster in which every pixel's trace ends, ``[B, 2, h, w]`` -> ``[B, h, w]`` int64.

    Ids run from 0 without gaps in each image, in raster order of the centroids; the pixels that arrive at no
    centroid, if there are any, are cluster 0 (paper, section 4.1).
    """
    config = config or Config()
    ends = ops.trace_displacement(displacement, config.trace_steps).long()
    weak = displacement.square().sum(1).sqrt() < config.weak_displacement
    centroids, counts = ops.connected_components(weak.to(torch.int32), 4)
    batch, height, width = centroids.shape
    flat_ends = (ends[:, 0] * width + ends[:, 1]).flatten(1)
    reached = centroids.long().flatten(1).gather(1, flat_ends)
    most = int(counts.max()) + 1 if counts.numel() else 1
    present = torch.zeros((batch, most), dtype=torch.int64, device=reached.device).scatter_(1, reached, 1)
    return (present.cumsum(1) - 1).gather(1, reached).view(batch, height, width)


def instance_channels(cams: Tensor, image_index: Tensor, clusters: Tensor) -> tuple[Tensor, Tensor]:
    """The maps cut along the clusters, without the pieces in which nothing is active.

    Args:
        cams: ``[M, h, w]``; image_index: ``[M]``; clusters: ``[B, h, w]`` int64.

    Returns:
        ``[N, h, w]`` pieces, map-major then cluster, and ``[N]`` int64, the map of each piece.
    """
    of_cam = clusters[image_index]
    most = int(clusters.max()) + 1 if clusters.numel() else 1
    top = cams.new_zeros((cams.shape[0], most))
    top.scatter_reduce_(1, of_cam.flatten(1), cams.flatten(1), "amax")
    row, cluster = (top > 0).nonzero(as_tuple=True)
    return cams[row] * (of_cam[row] == cluster.view(-1, 1, 1)), row


def _instances(
    walked: Tensor,
    of_image: Tensor,
    of_class: Tensor,
    batch: int,
    size: tuple[int, int],
    config: Config,
    images: Tensor | None,
) -> tuple[InstanceMap, Tensor, Tensor]:
    """Components of the winning pieces."""
    winner, value = strongest(walked, of_image, batch, size, config.background)
    if config.crf > 0:
        winner = crf_refinement(images, winner, of_image, config.crf)
    return component_table(winner, value, of_class, config.min_area, config.score)


def _one_image(
    owner: str, cams: Tensor, classes: Tensor, boundary: Tensor, image_size: tuple[int, int]
) -> tuple[Tensor, Tensor, tuple[int, int]]:
    """Check the arguments of the one-image functions; classes come back as int64 on the maps' device."""
    for name, tensor, dims, what in (("cams", cams, 3, "[K, h, w]"), ("boundary", boundary, 2, "[h, w]")):
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{owner}: {name} must be a tensor {what}, got {type(tensor).__name__}")
        if tensor.dim() != dims or not tensor.is_floating_point():
            raise ValueError(f"{owner}: {name} must be float {what}, got {tensor.dtype} {list(tensor.shape)}")
    classes = torch.as_tensor(classes, device=cams.device)
    if classes.dim() != 1 or classes.shape[0] != cams.shape[0]:
        raise ValueError(f"{owner}: classes must be [K] with K = {cams.shape[0]} maps, got {list(classes.shape)}")
    if classes.numel() and (classes.is_floating_point() or classes.is_complex() or classes.dtype == torch.bool):
        raise TypeError(f"{owner}: classes must be integers, got {classes.dtype}")
    if classes.numel() and int(classes.min()) < 0:
        raise ValueError(f"{owner}: classes must be at least 0, got {int(classes.min())}")
    size = (int(image_size[0]), int(image_size[1]))
    if min(size) < 1:
        raise ValueError(f"{owner}: image_size must be at least (1, 1), got {size}")
    want = grid_size(size)
    for name, got in (("cams", tuple(cams.shape[1:])), ("boundary", tuple(boundary.shape))):
        if got != want:
            raise ValueError(f"{owner}: {name} must have the stride-4 grid {want} of image_size {size}, got {got}")
    return cams.float(), classes.long(), size


def _image_for_crf(owner: str, image: Tensor | None, size: tuple[int, int], name: str, config: Config) -> Tensor | None:
    """The photograph as a batch of one where the CRF needs it."""
    trust = getattr(config, name)
    if trust == 0:
        return None
    if not isinstance(image, Tensor) or image.dtype != torch.uint8 or tuple(image.shape) != (3, *size):
        got = f"{image.dtype} {list(image.shape)}" if isinstance(image, Tensor) else type(image).__name__
        want = f"[3, {size[0]}, {size[1]}] uint8"
        raise ValueError(f"{owner}: config.{name} = {trust:g} needs image as {want}, got {got}")
    return image[None]
