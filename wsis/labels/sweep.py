"""One image under many settings of the propagation; what settings share is computed once.

Centroids and clusters are those of ``weak_displacement``, the walk is that of its length and power, and of the
maps after a walk the backgrounds take what they need; all maps that a CRF refines share one lattice. Every setting
has the bits that :func:`wsis.labels.irnet.propagate` gives it alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from wsis.labels.crf_refinement import refine_channels
from wsis.labels.irnet import Config, Walks, cluster_pixels, walk_maps
from wsis.labels.winners import component_table, contenders, tops
from wsis.structures import InstanceMap

__all__ = ["Swept", "sweep"]

_CHUNK_PIXELS = 1 << 25


class Swept(NamedTuple):
    """What each of ``S`` settings makes of the image, as if every setting were an image of a batch.

    Attributes:
        instances: rows ascending in ``image_index``, the number of the setting.
        area: ``[M]`` int64; box_xyxy: ``[M, 4]`` int64, half-open.
        semantic: ``[S, H, W]`` int64, 0 background, class + 1.
    """

    instances: InstanceMap
    area: Tensor
    box_xyxy: Tensor
    semantic: Tensor


@torch.no_grad()
def sweep(
    cams: Tensor,
    classes: Tensor,
    boundary: Tensor,
    displacement: Tensor,
    size: tuple[int, int],
    settings: Sequence[Config],
    image: Tensor | None = None,
) -> list[Swept]:
    """Instances and semantic maps of one image under every setting.

    Args:
        cams: ``[K, h, w]`` float32; classes: ``[K]`` int64; boundary: ``[h, w]``; displacement: ``[2, h, w]``.
        size: ``(H, W)`` of the image.
        settings: they may differ in everything but ``min_area`` and ``score``.
        image: ``[3, H, W]`` uint8 RGB, where a setting has a CRF.

    Returns:
        The settings in order, in parts that fit the memory (one, unless images are huge or settings are many).
    """
    if any((one.min_area, one.score) != (settings[0].min_area, settings[0].score) for one in settings):
        raise ValueError("sweep: settings must have one min_area and one score")
    walks = _Walked(cams, classes, boundary, displacement, size)
    step = max(1, _CHUNK_PIXELS // max(1, size[0] * size[1]))
    return [_swept(walks, settings[k : k + step], image) for k in range(0, len(settings), step)]


class _Walked:
    """The maps of one image after the walks asked for so far, and which of them win where."""

    def __init__(
        self, cams: Tensor, classes: Tensor, boundary: Tensor, displacement: Tensor, size: tuple[int, int]
    ) -> None:
        self.cams, self.classes, self.boundary, self.displacement = cams, classes, boundary, displacement
        self.size = size
        self._clusters: dict[tuple, Tensor] = {}
        self._walks: dict[tuple, Walks] = {}
        self._tops: dict[tuple, tuple[Tensor, Tensor]] = {}

    def maps(self, setting: Config) -> Walks:
        """The walked maps of a setting."""
        near = (setting.weak_displacement, setting.trace_steps)
        key = (*near, setting.walk_steps, setting.beta, setting.radius, setting.walk_tol)
        if key not in self._walks:
            self._tops.clear()
            if near not in self._clusters:
                self._clusters[near] = cluster_pixels(self.displacement[None], setting)
            index = torch.zeros_like(self.classes)
            fields = (self.cams, self.classes, index, self.boundary[None], self.displacement[None])
            self._walks[key] = walk_maps(*fields, setting, semantic=True, clusters=self._clusters[near])
        return self._walks[key]

    def winners(self, setting: Config, semantic: bool) -> tuple[Tensor, Tensor]:
        """``[H, W]`` winning channel (0 = background, else piece or class map + 1) and its value."""
        walks = self.maps(setting)
        part = slice(walks.pieces, None) if semantic else slice(0, walks.pieces)
        background = setting.semantic_background if semantic else setting.background
        walked, of_image = walks.walked[part], walks.of_image[part]
        rows = contenders(walked, of_image, 1, background)
        key = (id(walks), semantic, rows.numel())
        if key not in self._tops:
            self._tops[key] = tops(walked, of_image, 1, self.size, rows)
        winner, value = (maps[0] for maps in self._tops[key])
        return torch.where(value > background, winner, 0), value


def _swept(walks: _Walked, settings: Sequence[Config], image: Tensor | None) -> Swept:
    """The settings of one part."""
    both = [(walks.winners(setting, False), walks.winners(setting, True)[0]) for setting in settings]
    pieces = torch.tensor([walks.maps(setting).pieces for setting in settings])
    winner = _refined(torch.stack([own[0] for own, _ in both]), pieces, [one.crf for one in settings], image)
    classes = torch.full_like(pieces, len(walks.classes))
    semantic = torch.stack([maps for _, maps in both])
    semantic = _refined(semantic, classes, [one.semantic_crf for one in settings], image)
    value = torch.stack([own[1] for own, _ in both])
    first = (pieces.cumsum(0) - pieces).view(-1, 1, 1)
    of_class = torch.cat([(one := walks.maps(setting)).of_class[: one.pieces] for setting in settings])
    winner = torch.where(winner > 0, winner + first, 0)
    table = component_table(winner, value, of_class, settings[0].min_area, settings[0].score)
    return Swept(*table, torch.cat([walks.classes.new_zeros(1), walks.classes + 1])[semantic])


def _refined(winner: Tensor, count: Tensor, trusts: Sequence[float], image: Tensor | None) -> Tensor:
    """``[S, H, W]`` after the CRF of each setting's trust; equal maps of one trust are refined once."""
    for trust in sorted({one for one in trusts if one > 0}):
        if image is None:
            raise ValueError(f"sweep: a CRF of trust {trust:g} needs image, got None")
        places = torch.tensor([k for k, one in enumerate(trusts) if one == trust])
        maps, same = _distinct(winner[places])
        most, photograph = count.max().expand(len(maps)), same.new_zeros(len(maps))
        winner[places] = refine_channels(image[None], maps, most, trust, photograph)[same]
    return winner


def _distinct(maps: Tensor) -> tuple[Tensor, Tensor]:
    """The maps without repetition, and which of them each map is."""
    digests = [hashlib.blake2b(one.cpu().numpy().data).digest() for one in maps]
    numbers = {digest: number for number, digest in enumerate(dict.fromkeys(digests))}
    return maps[[digests.index(digest) for digest in numbers]], torch.tensor([numbers[digest] for digest in digests])
