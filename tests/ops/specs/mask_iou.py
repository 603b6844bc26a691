"""Spec of ``mask_iou``."""

from __future__ import annotations

import torch

from tests.ops.spec import BadInput, Call, OpSpec, Sample, generator
from wsis import ops
from wsis.reference import mask_iou as reference


def masks(seed: int, count: int, height: int, width: int, share: float = 0.4) -> torch.Tensor:
    return torch.rand(count, height, width, generator=generator(seed)) < share


def samples(seed: int) -> list[Sample]:
    strange = torch.randint(0, 4, (3, 9, 9), generator=generator(seed)).to(torch.uint8) * 85
    corner = torch.zeros(2, 20, 21, dtype=torch.bool)
    corner[0, :3, :4] = corner[1, -2:, -3:] = True
    index = torch.tensor([0, 1, 1, 3, 0])
    return [
        Sample((masks(seed, 5, 13, 17), masks(seed + 1, 3, 13, 17))),
        Sample((masks(seed, 5, 30, 40, 0.1), masks(seed + 1, 5, 30, 40, 0.9), index, index.flip(0).int())),
        Sample((strange, strange), note="bytes other than 0 and 1"),
        Sample((corner, masks(seed, 4, 20, 21)), note="masks with a few words only"),
        Sample((corner, corner.flip(0)), note="nothing in common"),
        Sample((masks(seed, 2, 8, 8), masks(seed, 2, 8, 8)), note="exactly one word"),
        Sample((masks(seed, 2, 5, 13), masks(seed + 1, 1, 5, 13)), note="one pixel more than a word"),
        Sample((masks(seed, 1, 1, 63), masks(seed + 1, 9, 1, 63)), note="one pixel less"),
        Sample((masks(seed, 3, 1, 1), masks(seed + 1, 3, 1, 1))),
        Sample((torch.zeros(2, 6, 7, dtype=torch.bool), torch.zeros(1, 6, 7, dtype=torch.bool)), note="all empty"),
        Sample((torch.ones(2, 65, 64, dtype=torch.bool), masks(seed, 1, 65, 64)), note="all inside"),
    ]


def bad_inputs() -> list[BadInput]:
    a, b, index = masks(0, 3, 6, 8), masks(1, 2, 6, 8), torch.zeros(3, dtype=torch.int64)
    return [
        BadInput((a[0], b), ValueError, r"masks_a must have shape \[N, H, W\], got \[6, 8\]", good=Sample((a, b))),
        BadInput((a, b[0]), ValueError, r"masks_b must have shape \[M, 6, 8\], got \[6, 8\]"),
        BadInput((a, b[:, :5]), ValueError, r"masks_b must have shape \[M, 6, 8\], got \[2, 5, 8\]"),
        BadInput((a[..., :7], b), ValueError, r"masks_b must have shape \[M, 6, 7\], got \[2, 6, 8\]"),
        BadInput((a.tolist(), b), TypeError, "masks_a must be a tensor, got list"),
        BadInput((a, None), TypeError, "masks_b must be a tensor, got NoneType"),
        BadInput((a.float(), b), TypeError, "masks_a must be bool, uint8, got float32", good=Sample((a.byte(), b))),
        BadInput((a, b.int()), TypeError, "masks_b must be bool, uint8, got int32"),
        BadInput((a.to_sparse(), b), ValueError, "masks_a must be a dense tensor, got layout"),
        BadInput((a, b, index), ValueError, "image_b must be given where image_a is, got None"),
        BadInput((a, b, None, index[:2]), ValueError, "image_a must be given where image_b is, got None"),
        BadInput(
            (a, b, index[:2], index[:2]),
            ValueError,
            r"image_a must have shape \[3\], got \[2\]",
            good=Sample((a, b, index, index[:2])),
        ),
        BadInput((a, b, index, index), ValueError, r"image_b must have shape \[2\], got \[3\]"),
        BadInput((a, b, index.float(), index[:2]), TypeError, "image_a must be .*, got float32"),
    ]


def calls(sample: Sample) -> list[Call]:
    index = tuple(t.long() for t in sample.args[2:]) or (None, None)
    return [Call(torch.ops.wsis.mask_iou.default, (*sample.args[:2], *index))]


def invariants(sample: Sample, output: ops.MaskIou) -> None:
    a, b = sample.args[:2]
    area_a, area_b = ((t != 0).flatten(1).sum(1) for t in (a, b))
    assert (output.intersection <= torch.minimum(area_a[:, None], area_b)).all()
    assert torch.equal(output.intersection + output.union, area_a[:, None] + area_b)
    assert ((output.iou >= 0) & (output.iou <= 1)).all()


SPEC = OpSpec(
    name="mask_iou",
    op=ops.mask_iou,
    reference=reference.mask_iou,
    samples=samples,
    bad_inputs=bad_inputs,
    calls=calls,
    invariants=invariants,
    exact=True,
    empty=lambda: [
        Sample((torch.zeros(n, h, w, dtype=torch.bool), torch.zeros(m, h, w, dtype=torch.bool)))
        for n, m, h, w in ((0, 2, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0), (0, 0, 4, 5))
    ],
)
