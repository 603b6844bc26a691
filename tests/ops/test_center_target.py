"""center_target: maps so large that they lie in pages of their own."""

from __future__ import annotations

import torch

from wsis import ops
from wsis.structures import InstanceMap

SIDE, CLASSES, BATCH = 512, 4, 4


def table(ids: torch.Tensor, rows: torch.Tensor, labels: torch.Tensor) -> InstanceMap:
    """Rows are (image, id, y, x)."""
    score = 0.5 + rows[:, 1] / 1000
    return InstanceMap(ids, rows[:, 0], rows[:, 1], labels, score, rows[:, 2:].float())


def test_a_large_batch_is_its_planes_one_by_one():
    """Some planes crowded, some with one instance, some empty: huge pages, small ones and none."""
    g = torch.Generator().manual_seed(0)
    counts = [[150, 1, 0, 40], [0, 0, 0, 0], [1, 90, 3, 0], [2, 0, 200, 1]]
    rows, labels = [], []
    for image, by_class in enumerate(counts):
        total = sum(by_class)
        place = torch.randint(0, SIDE, (total, 2), generator=g)
        rows.append(torch.cat((torch.full((total, 1), image), torch.arange(1, total + 1)[:, None], place), 1))
        labels.append(torch.repeat_interleave(torch.arange(CLASSES), torch.tensor(by_class)))
    rows, labels = torch.cat(rows), torch.cat(labels)
    ids = torch.randint(0, 200, (BATCH, 32, 32), generator=g, dtype=torch.int32)
    ids = ids.repeat_interleave(SIDE // 32, 1).repeat_interleave(SIDE // 32, 2)
    target = ops.center_target(table(ids, rows, labels), CLASSES)
    for image in range(BATCH):
        here = rows[:, 0] == image
        alone = rows[here].clone()
        alone[:, 0] = 0
        one = ops.center_target(table(ids[image : image + 1], alone, labels[here]), CLASSES)
        assert torch.equal(target.offset[image], one.offset[0])
        assert torch.equal(target.weight[image], one.weight[0])
        for label in range(CLASSES):
            own = labels[here] == label
            plane = ops.center_target(table(ids[image : image + 1], alone[own], labels[here][own] * 0), 1)
            assert torch.equal(target.center[image, label], plane.center[0, 0])
