"""Spec of ``center_target``."""

from __future__ import annotations

import torch

from tests.ops.spec import BadInput, Call, OpSpec, Sample, generator
from wsis import ops
from wsis.reference import center_target as reference
from wsis.structures import CenterOffsetTarget, InstanceMap


def instances(seed: int, batch: int, height: int, width: int, count: int, **change) -> InstanceMap:
    """Ids 0..count+1, so that one has no row; rows in no order, one of them a second time."""
    g = generator(seed)
    ids = torch.randint(0, count + 2, (batch, height, width), generator=g, dtype=torch.int32)
    rows = [(b, i) for b in range(batch) for i in range(1, count + 1)]
    rows = rows[::-1] + rows[:1]
    index, name = torch.tensor(rows, dtype=torch.int64).reshape(-1, 2).unbind(1)
    extent = torch.tensor([height, width])
    columns = {
        "ids": ids,
        "image_index": index,
        "id": name,
        "label": torch.randint(0, 3, (len(rows),), generator=g),
        "score": torch.rand(len(rows), generator=g),
        "center_yx": (torch.rand(len(rows), 2, generator=g) * 1.6 - 0.3) * extent,
    }
    return InstanceMap(**(columns | change))


def samples(seed: int) -> list[Sample]:
    return [
        Sample((instances(seed, 2, 14, 19, 3), 3, 1.5)),
        Sample((instances(seed, 1, 50, 45, 4), 5), note="the paper's sigma"),
        Sample((instances(seed, 3, 1, 33, 2), 3, 0.5)),
        Sample((instances(seed, 1, 33, 1, 1), 3, 6.0)),
        Sample((instances(seed, 1, 1, 1, 1), 3, 6.0)),
        Sample((instances(seed, 2, 7, 8, 0), 3), note="no instances"),
    ]


def bad_inputs() -> list[BadInput]:
    good = Sample((instances(0, 1, 5, 6, 2), 3))

    def changed(**change: torch.Tensor) -> InstanceMap:
        return instances(0, 1, 5, 6, 2, **change)

    rows = torch.zeros(3, dtype=torch.int64)
    nan = torch.full((3, 2), float("nan"))
    return [
        BadInput(("instances", 3), TypeError, "instances must be an InstanceMap, got str", good=good),
        BadInput((good.args[0], 2), ValueError, "label must be 0..1 .*got 2", good=good),
        BadInput((good.args[0], -1), ValueError, "num_classes must be"),
        BadInput((good.args[0], 3.0), TypeError, "num_classes must be an integer"),
        BadInput((good.args[0], 3, 0.0), ValueError, "sigma must be", good=Sample((good.args[0], 3, 0.01))),
        BadInput((good.args[0], 3, 101.0), ValueError, "sigma must be", good=Sample((good.args[0], 3, 100.0))),
        BadInput((good.args[0], 3, float("nan")), ValueError, "sigma must be"),
        BadInput((good.args[0], 3, "6"), TypeError, "sigma must be a number"),
        BadInput((changed(image_index=rows + 1), 3), ValueError, "image_index must be 0..0 .*got 1"),
        BadInput((changed(id=rows - 1), 3), ValueError, "id must be 0..2147483647 .*got -1"),
        BadInput((changed(label=rows - 1), 3), ValueError, "label must be 0..2 .*got -1"),
        BadInput((changed(label=rows.float()), 3), TypeError, "label must be"),
        BadInput((changed(center_yx=nan), 3), ValueError, "center_yx must be finite, got 6 NaN"),
        BadInput((changed(score=rows), 3), TypeError, "score must be float32, float64, got int64"),
        BadInput((changed(ids=torch.zeros(1, 5, 6)), 3), TypeError, "ids must be"),
    ]


def calls(sample: Sample) -> list[Call]:
    table = sample.args[0]
    key = ((table.image_index << 32) + table.id).sort().values
    bell = torch.rand(2 * 4 * 4 + 1)
    arguments = (table.ids, key, table.label, table.score, table.center_yx.long(), bell, 3, 4)
    return [Call(torch.ops.wsis.center_target.default, arguments)]


def invariants(sample: Sample, target: CenterOffsetTarget) -> None:
    table = sample.args[0]
    assert target.center.numel() == 0 or target.center.max() <= 1
    assert (target.weight[:, 0][table.ids == 0] == 0).all()
    assert (target.offset[:, 0][target.weight[:, 0] == 0] == 0).all() or (table.score == 0).any()


SPEC = OpSpec(
    name="center_target",
    op=ops.center_target,
    reference=reference.center_target,
    samples=samples,
    bad_inputs=bad_inputs,
    calls=calls,
    invariants=invariants,
    exact=True,
    empty=lambda: [Sample((instances(0, 0, 4, 5, 0), 3)), Sample((instances(0, 2, 0, 5, 0), 3)),
                   Sample((instances(0, 1, 4, 5, 0), 0))],
    compile=False,
)
