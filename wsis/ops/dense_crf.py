"""Refinement of label maps by a dense CRF (Kraehenbuehl and Koltun, NIPS 2011).

Mean field with two Gaussian kernels, one over positions and one over positions and colours, filtered on
permutohedral lattices (Adams, Baek and Davis 2010) with symmetric normalisation and Potts compatibility.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from wsis import _library
from wsis.ops._checks import INTEGERS, check_device, check_float, check_int, check_sizes, check_tensor

__all__ = ["MAX_LABELS", "dense_crf", "dense_crf_marginals"]

_library.load()

MAX_LABELS = 255
MAX_STEPS = 1000
MAX_PIXELS = 2**28
_LARGEST_WEIGHT = 1e4
_LATTICE_CELLS = {2: 2**17, 5: 2**13}


def dense_crf(
    images: Tensor,
    labels: Tensor,
    num_labels: Tensor | Sequence[int],
    *,
    gt_prob: float = 0.7,
    steps: int = 10,
    spatial: tuple[float, float] = (3.0, 3.0),
    bilateral: tuple[float, float, float] = (50.0, 5.0, 10.0),
    image_index: Tensor | Sequence[int] | None = None,
    sizes: Tensor | None = None,
) -> Tensor:
    """Refine label maps so that their borders follow the image's.

    The unary energy is ``-log gt_prob`` on the label of the map and ``-log((1 - gt_prob) / (n - 1))`` on the
    other ``n - 1``. Starting from its softmax, ``Q = softmax(-U + w1 F1(Q) + w2 F2(Q))`` is repeated
    ``steps`` times, ``F(Q) = m G(m Q)`` and ``m = 1 / sqrt(G(1) + 1e-20)``; each pixel takes its most
    probable label, of equal ones the first. One lattice per image serves all its label maps.

    Args:
        images: ``[B, 3, H, W]`` uint8, at most 2^28 pixels each.
        labels: integers, ``[B, H, W]`` one map per image, ``[B, T, H, W]`` T maps per image, or, with
            ``image_index``, ``[S, H, W]``. Values are ``0..num_labels - 1``.
        num_labels: ``[B]`` (with ``image_index``: ``[S]``) integers 1..255 (int8 maps: 128), labels of each
            map. A map with one label is all 0 and needs no CRF.
        gt_prob: trust in the maps, strictly between 0 and 1.
        steps: mean-field updates, 0..1000.
        spatial: standard deviation in pixels and weight of the kernel over positions.
        bilateral: standard deviations in pixels and in colour levels, and weight, of the kernel over both.
        image_index: ``[S]`` integers, the image that each map belongs to.
        sizes: ``[B, 2]`` integers (height, width) of padded images; the result is 0 outside.

    ``num_labels``, ``image_index`` and ``sizes`` are read by the host: give them as CPU tensors (or the first two
    as sequences) to spare a GPU the wait. Under ``torch.compile`` and while a CUDA graph is captured the labels'
    range is not checked; a label out of range then counts as none.

    Returns:
        Shape and dtype of ``labels``. The same bits for any number of threads and any batch.

    Raises:
        TypeError, ValueError: an argument is not as described; a standard deviation is so small for the
            image's size that its lattice does not fit the keys (131,072 cells across for ``spatial``, 8,192
            for ``bilateral``).
    """
    arguments = _arguments("dense_crf", images, labels, num_labels, image_index, sizes)
    parameters = _parameters("dense_crf", images, gt_prob, steps, spatial, bilateral)
    refined = torch.ops.wsis.dense_crf.default(*arguments, *parameters, 0)
    return refined.to(labels.dtype).view(labels.shape)


def dense_crf_marginals(
    images: Tensor,
    labels: Tensor,
    num_labels: Tensor | Sequence[int],
    *,
    gt_prob: float = 0.7,
    steps: int = 10,
    spatial: tuple[float, float] = (3.0, 3.0),
    bilateral: tuple[float, float, float] = (50.0, 5.0, 10.0),
    image_index: Tensor | Sequence[int] | None = None,
    sizes: Tensor | None = None,
    max_labels: int | None = None,
) -> Tensor:
    """The probabilities behind :func:`dense_crf`, with the same arguments.

    Args:
        max_labels: planes of the result, at least the largest of ``num_labels``; None: just that.

    Returns:
        Shape of ``labels`` with ``max_labels`` planes before the last two, float32; 0 for labels that a map
        does not have and outside ``sizes``.

    Raises:
        TypeError, ValueError: as :func:`dense_crf`, or ``max_labels`` is too small.
    """
    op = "dense_crf_marginals"
    arguments = _arguments(op, images, labels, num_labels, image_index, sizes)
    parameters = _parameters(op, images, gt_prob, steps, spatial, bilateral)
    largest = (
        int(arguments[2].max()) if arguments[2].numel() and (max_labels is None or _can_read(images)) else 1
    )
    max_labels = largest if max_labels is None else max_labels
    check_int(op, "max_labels", max_labels, 1, MAX_LABELS)
    if max_labels < largest:
        raise ValueError(
            f"{op}: max_labels must be at least the largest of num_labels ({largest}), got {max_labels}"
        )
    marginals = torch.ops.wsis.dense_crf.default(*arguments, *parameters, max_labels)
    return marginals.view(*labels.shape[:-2], max_labels, *labels.shape[-2:])


def _can_read(images: Tensor) -> bool:
    """Whether values may be looked at: not while a graph is traced or captured."""
    if images.is_meta or torch.compiler.is_compiling():
        return False
    return not (images.is_cuda and torch.cuda.is_current_stream_capturing())


def _table(op: str, name: str, value: Tensor | Sequence[int], rows: int) -> Tensor:
    """A column of integers per label map as int32, on the CPU."""
    if not isinstance(value, Tensor):
        if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
            raise TypeError(
                f"{op}: {name} must be a tensor or a sequence of integers, got {type(value).__name__}"
            )
        for i, entry in enumerate(value):
            check_int(op, f"{name}[{i}]", entry, -(2**31), 2**31 - 1)
        value = torch.tensor(list(value), dtype=torch.int32)
    check_tensor(op, name, value, (rows,), INTEGERS)
    return value.to(torch.int32) if value.is_meta else value.to("cpu", torch.int32)


def _arguments(
    op: str,
    images: Tensor,
    labels: Tensor,
    num_labels: Tensor | Sequence[int],
    image_index: Tensor | Sequence[int] | None,
    sizes: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
    """The tensor arguments, checked, flat and in the dtypes of the operator."""
    check_tensor(op, "images", images, ("B", 3, "H", "W"), (torch.uint8,))
    batch, _, height, width = images.shape
    if image_index is not None:
        check_tensor(op, "labels", labels, ("S", height, width), INTEGERS)
        rows, per_image = labels.shape[0], 1
        index = _table(op, "image_index", image_index, rows)
    else:
        several = isinstance(labels, Tensor) and labels.dim() == 4
        shape = (batch, "T", height, width) if several else (batch, height, width)
        check_tensor(op, "labels", labels, shape, INTEGERS)
        rows, per_image = batch, labels.shape[1] if several else 1
        index = torch.arange(batch, dtype=torch.int32)
    check_device(op, images=images, labels=labels)
    if height * width > MAX_PIXELS:
        raise ValueError(f"{op}: images must have at most {MAX_PIXELS} pixels, got {height * width}")
    counts = _table(op, "num_labels", num_labels, rows)
    sizes = check_sizes(op, sizes, batch, height, width)
    if sizes is not None and not sizes.is_meta:
        sizes = sizes.cpu()
    if per_image != 1:
        index, counts = index.repeat_interleave(per_image), counts.repeat_interleave(per_image)
    flat = labels.reshape(rows * per_image, height, width)
    if _can_read(images) and rows:
        _check_range(op, "image_index", index, 0, batch - 1)
        _check_range(op, "num_labels", counts, 1, min(MAX_LABELS, torch.iinfo(labels.dtype).max + 1))
        _check_labels(op, flat, counts, index, sizes)
    if labels.dtype != torch.uint8:
        flat = flat.clamp(-1, 127 if labels.dtype == torch.int8 else MAX_LABELS).to(torch.uint8)
    return images, flat, counts, index, sizes


def _check_range(op: str, name: str, table: Tensor, low: int, high: int) -> None:
    for i, value in enumerate(table.tolist()):
        if not low <= value <= high:
            raise ValueError(f"{op}: {name}[{i}] must be {low}..{high}, got {value}")


def _check_labels(op: str, labels: Tensor, counts: Tensor, index: Tensor, sizes: Tensor | None) -> None:
    """Every label inside its image is ``0..num_labels - 1``."""
    if labels.numel() == 0:
        return
    if sizes is not None:
        of_map = sizes[index.long()].to(labels.device)
        rows = torch.arange(labels.shape[1], device=labels.device)[:, None] < of_map[:, 0, None, None]
        columns = torch.arange(labels.shape[2], device=labels.device) < of_map[:, 1, None, None]
        labels = labels.where(rows & columns, 0)
    flat = labels.flatten(1)
    bounds = torch.stack([flat.amin(1), flat.amax(1)], 1).to("cpu", torch.int64)
    for s, ((low, high), count) in enumerate(zip(bounds.tolist(), counts.tolist())):
        if low < 0 or high >= count:
            raise ValueError(
                f"{op}: labels[{s}] must be 0..{count - 1} (num_labels[{s}] is {count}), "
                f"got {low if low < 0 else high}"
            )


def _pair(op: str, name: str, value: Sequence[float], parts: Sequence[str]) -> list[float]:
    if isinstance(value, (str, bytes, Tensor)) or not isinstance(value, Sequence) or len(value) != len(parts):
        raise TypeError(f"{op}: {name} must be the numbers ({', '.join(parts)}), got {value!r}")
    for part, number in zip(parts, value):
        if part == "weight":
            check_float(op, f"{name} weight", number, 0.0, _LARGEST_WEIGHT)
        else:
            check_float(op, f"{name} {part}", number, 1e-3, 1e6)
    return [float(number) for number in value]


def _parameters(
    op: str,
    images: Tensor,
    gt_prob: float,
    steps: int,
    spatial: Sequence[float],
    bilateral: Sequence[float],
) -> tuple[float, int, float, float, float, float, float]:
    check_float(op, "gt_prob", gt_prob, 1e-6, 1 - 1e-6)
    check_int(op, "steps", steps, 0, MAX_STEPS)
    sxy, weight = _pair(op, "spatial", spatial, ("sxy", "weight"))
    wide, srgb, strength = _pair(op, "bilateral", bilateral, ("sxy", "srgb", "weight"))
    if not torch.compiler.is_compiling():
        height, width = images.shape[2:]
        _check_lattice(op, "spatial", spatial, (height, width), [width / sxy, height / sxy])
        features = [width / wide, height / wide] + [255 / srgb] * 3
        _check_lattice(op, "bilateral", bilateral, (height, width), features)
    return float(gt_prob), steps, sxy, weight, wide, srgb, strength


def _check_lattice(
    op: str, name: str, value: Sequence[float], size: tuple[int, int], largest: Sequence[float]
) -> None:
    """The elevated coordinates of the lattice must fit its packed keys; ``largest``: largest features."""
    d = len(largest)
    scaled = [f * math.sqrt(2 / 3) * (d + 1) / math.sqrt((i + 1) * (i + 2)) for i, f in enumerate(largest)]
    cells = max(sum(scaled), *((i + 1) * f for i, f in enumerate(scaled)))
    if cells > _LATTICE_CELLS[d]:
        raise ValueError(
            f"{op}: {name} must be wide enough for a lattice of at most {_LATTICE_CELLS[d]} cells across an "
            f"image of {size[0]} x {size[1]}, got {tuple(value)}, which needs {cells:.0f}"
        )


@torch.library.register_fake("wsis::dense_crf")
def _(
    images: Tensor,
    labels: Tensor,
    num_labels: Tensor,
    image_index: Tensor,
    sizes: Tensor | None,
    gt_prob: float,
    steps: int,
    spatial_sxy: float,
    spatial_weight: float,
    bilateral_sxy: float,
    bilateral_srgb: float,
    bilateral_weight: float,
    max_labels: int,
) -> Tensor:
    maps, height, width = labels.shape
    if max_labels > 0:
        return labels.new_empty((maps, max_labels, height, width), dtype=torch.float32)
    return labels.new_empty((maps, height, width))
