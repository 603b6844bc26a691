"""Spec of ``connected_components``."""

from __future__ import annotations

import torch

from tests.ops.spec import BadInput, Call, OpSpec, Sample, generator
from wsis import ops
from wsis.reference import connected_components as reference


def spiral(side: int) -> torch.Tensor:
    """One arm that winds inwards: the longest way between a component's first run and its last."""
    image = torch.zeros(side, side, dtype=torch.uint8)
    y, x, dy, dx = 0, 0, 0, 1
    image[0, 0] = 1
    for _ in range(side * side):
        ahead = [(y + dy, x + dx), (y + 2 * dy, x + 2 * dx)]
        if any(not (0 <= ay < side and 0 <= ax < side) for ay, ax in ahead[:1]) or any(
            0 <= ay < side and 0 <= ax < side and image[ay, ax] for ay, ax in ahead
        ):
            dy, dx = dx, -dy
            if image[min(max(y + 2 * dy, 0), side - 1), min(max(x + 2 * dx, 0), side - 1)]:
                break
            continue
        y, x = ahead[0]
        image[y, x] = 1
    return image


def samples(seed: int) -> list[Sample]:
    g = generator(seed)

    def noise(*shape: int, values: int = 2) -> torch.Tensor:
        return torch.randint(0, values, shape, generator=g)

    coarse = noise(2, 5, 9, values=3).repeat_interleave(4, 1).repeat_interleave(4, 2)
    sizes = torch.stack((torch.randint(0, 14, (3,), generator=g), torch.randint(0, 20, (3,), generator=g)), 1)
    comb = torch.zeros(1, 9, 33, dtype=torch.uint8)
    comb[:, :, ::2] = 1
    comb[:, 8] = 1
    return [
        Sample((noise(2, 17, 33).to(torch.uint8),)),
        Sample((noise(2, 17, 33).bool(), 4)),
        Sample((noise(1, 33, 65, values=4).to(torch.int16), 4), note="several labels"),
        Sample((coarse.to(torch.int32), 8), {"background": 2}, "another background"),
        Sample((coarse, 4), {"background": None}, "no background"),
        Sample((noise(3, 13, 19, values=3).to(torch.int8), 8), {"sizes": sizes}, "padded images"),
        Sample(
            (noise(3, 13, 19, values=3) - 1, 4), {"sizes": sizes, "background": -1}, "negative background"
        ),
        Sample((spiral(21)[None],), note="a spiral"),
        Sample((comb, 4), note="teeth that join in the last row"),
        Sample((torch.eye(12, dtype=torch.uint8)[None], 4), note="corners only"),
        Sample((torch.eye(12, dtype=torch.uint8)[None].flip(2), 8), note="corners only"),
        Sample((torch.ones(1, 8, 8, dtype=torch.bool),), note="all equal"),
        Sample((torch.zeros(2, 3, 4, dtype=torch.uint8),), note="nothing"),
        Sample((noise(1, 1, 1),), note="one pixel"),
        Sample((noise(1, 1, 37), 4), note="one row"),
        Sample((noise(1, 37, 1), 8), note="one column"),
        Sample((noise(2, 2, 3),)),
        Sample((torch.tensor([[[2**62, 2**62 + 1, -(2**63)]]]),), note="large labels"),
    ]


def bad_inputs() -> list[BadInput]:
    ok = torch.ones(2, 4, 5, dtype=torch.uint8)
    good = Sample((ok,))
    table = torch.tensor([[4, 5], [0, 5]])
    fits = Sample((ok,), {"sizes": table})
    return [
        BadInput(([[1]],), TypeError, "labels must be a tensor, got list", good=good),
        BadInput((ok[0],), ValueError, r"labels must have shape \[B, H, W\], got \[4, 5\]", good=good),
        BadInput((ok[None],), ValueError, "labels must have shape"),
        BadInput((ok.float(),), TypeError, "labels must be bool, uint8.*got float32"),
        BadInput((ok.to(torch.complex64),), TypeError, "got complex64"),
        BadInput((ok.to_sparse(),), ValueError, "dense"),
        BadInput((ok, 6), ValueError, "connectivity must be 4 or 8, got 6", good=Sample((ok, 4))),
        BadInput((ok, 3), ValueError, "connectivity must be 4..8, got 3"),
        BadInput((ok, 8.0), TypeError, "connectivity must be an integer, got float"),
        BadInput((ok, True), TypeError, "connectivity must be an integer, got bool"),
        BadInput(
            (ok,),
            ValueError,
            "background must be 0..255, got 256",
            {"background": 256},
            Sample((ok,), {"background": 255}),
        ),
        BadInput((ok,), ValueError, "background must be 0..255, got -1", {"background": -1}),
        BadInput((ok.bool(),), ValueError, "background must be 0..1, got 2", {"background": 2}),
        BadInput((ok,), TypeError, "background must be an integer, got str", {"background": "0"}),
        BadInput(
            (ok,), ValueError, r"sizes must have shape \[2, 2\], got \[1, 2\]", {"sizes": table[:1]}, fits
        ),
        BadInput((ok,), TypeError, "sizes must be int32, int64, got float32", {"sizes": table.float()}),
        BadInput((ok,), ValueError, "padded height 4.*got 5", {"sizes": table + 1}, fits),
        BadInput((ok,), ValueError, "padded width 5.*got -5", {"sizes": table * torch.tensor([1, -1])}),
    ]


def calls(sample: Sample) -> list[Call]:
    sizes = torch.tensor([[2, 3]] * sample.args[0].shape[0], dtype=torch.int32)
    op = torch.ops.wsis.connected_components.default
    return [Call(op, (sample.args[0], None, 8, 0)), Call(op, (sample.args[0], sizes, 4, None))]


def invariants(sample: Sample, result: ops.Components) -> None:
    """Ids are 1..count, appear in order, and every component has one label."""
    labels = sample.args[0]
    for image, ids, count in zip(labels, result.ids, result.counts):
        firsts = {}
        for at, value in enumerate(ids.reshape(-1).tolist()):
            firsts.setdefault(value, at)
        firsts.pop(0, None)
        assert list(firsts) == list(range(1, int(count) + 1))
        for value in firsts:
            assert len(image[ids == value].unique()) == 1


SPEC = OpSpec(
    name="connected_components",
    op=ops.connected_components,
    reference=reference.connected_components,
    samples=samples,
    bad_inputs=bad_inputs,
    calls=calls,
    invariants=invariants,
    exact=True,
    empty=lambda: [Sample((torch.zeros(shape).bool(),)) for shape in ((0, 4, 5), (2, 0, 5), (2, 4, 0))],
)
