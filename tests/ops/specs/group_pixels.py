"""Spec of ``group_pixels``."""

from __future__ import annotations

import torch

from tests.ops.spec import BadInput, Call, OpSpec, Sample, generator
from wsis import ops
from wsis.reference import group_pixels as reference
from wsis.structures import Points


def table(rows: list[list[tuple[float, float]]]) -> Points:
    """Points from ``(y, x)`` pairs of each image."""
    return Points.from_rows([[(x, y, 0, 1.0) for y, x in image] for image in rows])


def sample(seed: int, batch: int, height: int, width: int, count: int, whole: bool = False) -> Sample:
    g = generator(seed)
    offsets = torch.randn(batch, 2, height, width, generator=g) * 4
    if whole:
        offsets = offsets.round()
    foreground = torch.randint(0, 4, (batch, (height + 3) // 4, (width + 3) // 4), generator=g)
    foreground = foreground.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, :height, :width]
    rows = [
        [(int(y), int(x)) for y, x in torch.randint(0, 2**20, (count, 2), generator=g) % torch.tensor([height, width])]
        for _ in range(batch)
    ]
    return Sample((offsets, table(rows), foreground))


def samples(seed: int) -> list[Sample]:
    return [
        sample(seed, 2, 9, 13, 7),
        sample(seed, 1, 17, 12, 5, whole=True),
        sample(seed, 3, 1, 300, 4),
        sample(seed, 1, 33, 1, 3),
        sample(seed, 1, 1, 1, 1),
        sample(seed, 2, 5, 6, 0),
        Sample((sample(seed, 1, 8, 8, 6).args[0].double(), *sample(seed, 1, 8, 8, 6).args[1:]), note="float64"),
    ]


def bad_inputs() -> list[BadInput]:
    good = sample(0, 2, 5, 6, 3)
    offsets, centers, foreground = good.args

    def moved(**change: torch.Tensor) -> Points:
        columns = {name: getattr(centers, name) for name in ("image_index", "y", "x", "label", "score")}
        return Points(**(columns | change))

    nan = offsets.clone()
    nan[0, 0, 0, 0] = float("nan")
    six = torch.full((6,), 6)
    return [
        BadInput((offsets[0], centers, foreground), ValueError, "offsets must have shape", good=good),
        BadInput((offsets[:, :1], centers, foreground), ValueError, "offsets must have shape"),
        BadInput((offsets.int(), centers, foreground), TypeError, "offsets must be float32, float64, got int32"),
        BadInput((offsets.half(), centers, foreground), TypeError, "got float16"),
        BadInput((nan, centers, foreground), ValueError, "offsets must be finite, got 1 NaN"),
        BadInput((offsets, centers, foreground[:1]), ValueError, "foreground must have shape"),
        BadInput((offsets, centers, foreground[..., :5]), ValueError, "foreground must have shape"),
        BadInput((offsets, centers, foreground.float()), TypeError, "foreground must be"),
        BadInput((offsets, moved(y=six), foreground), ValueError, r"centers.y must be 0..4 .*got 6"),
        BadInput((offsets, moved(x=six), foreground), ValueError, r"centers.x must be 0..5 .*got 6"),
        BadInput((offsets, moved(x=-six), foreground), ValueError, "got -6"),
        BadInput((offsets, moved(image_index=six), foreground), ValueError, r"image_index must be 0..1 .*got 6"),
        BadInput((offsets, moved(image_index=six.float()), foreground), TypeError, "image_index must be"),
    ]


def calls(sample: Sample) -> list[Call]:
    offsets, centers, foreground = sample.args
    foreground = foreground.to(torch.int32)
    key = (centers.image_index << 32) + foreground[centers.image_index, centers.y, centers.x]
    order = torch.argsort(key, stable=True)
    center_yx = torch.stack((centers.y, centers.x), 1).to(offsets.dtype)[order]
    name = torch.arange(1, len(centers) + 1, dtype=torch.int32)[order]
    return [Call(torch.ops.wsis.group_pixels.default, (offsets, foreground, center_yx, key[order], name))]


def invariants(sample: Sample, ids: torch.Tensor) -> None:
    _, centers, foreground = sample.args
    assert (ids[foreground == 0] == 0).all()
    for b in range(ids.shape[0]):
        rows = centers.image_index == b
        own = foreground[b, centers.y[rows], centers.x[rows]]
        found = ids[b][ids[b] > 0].long()
        assert torch.equal(own[found - 1].long(), foreground[b][ids[b] > 0].long())


SPEC = OpSpec(
    name="group_pixels",
    op=ops.group_pixels,
    reference=reference.group_pixels,
    samples=samples,
    bad_inputs=bad_inputs,
    calls=calls,
    invariants=invariants,
    exact=True,
    empty=lambda: [sample(0, 0, 4, 5, 0), sample(0, 2, 0, 5, 0), sample(0, 2, 4, 0, 0)],
    compile=False,
)
