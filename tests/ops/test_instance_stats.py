"""What is particular to instance_stats: a table worked by hand, precision, the dense form without read-back."""

from __future__ import annotations

import pytest
import torch

from tests.ops.spec import generator
from wsis import ops
from wsis.ops.instance_stats import _measure, _measure_at_once, instance_stats_dense


def test_a_worked_example():
    ids = torch.tensor([[[0, 2, 2], [9, 2, 0]], [[0, 0, 0], [0, 0, 1]]])
    scores = torch.tensor([[[9.0, 0.5, 1.0], [0.25, 1.0, 9]], [[0, 0, 0], [0, 0, -3.0]]])
    table = ops.instance_stats(ids, scores)
    assert table.image_index.tolist() == [0, 0, 1]
    assert table.id.tolist() == [2, 9, 1]
    assert table.area.tolist() == [3, 1, 1]
    assert table.box_xyxy.tolist() == [[1, 0, 3, 2], [0, 1, 1, 2], [2, 1, 3, 2]]
    assert table.centroid_yx.tolist() == [[1 / 3, 4 / 3], [1, 0], [1, 2]]
    assert table.score_max.tolist() == [1.0, 0.25, -3.0]
    assert table.score_mean.tolist() == pytest.approx([2.5 / 3, 0.25, -3.0])
    assert table.peak_yx.tolist() == [[0, 2], [1, 0], [1, 2]]


def test_means_of_large_instances_are_those_of_float64():
    scores = torch.rand(1, 1000, 1100, generator=generator(0)) + 1000
    table = ops.instance_stats(torch.ones(1, 1000, 1100, dtype=torch.int32), scores)
    assert table.score_mean[0] == scores.double().mean().float()
    assert table.centroid_yx.tolist() == [[499.5, 549.5]]


def test_the_dense_form_counts_what_does_not_fit():
    ids = torch.tensor([[[1, 1, 3], [-1, 4, 0]], [[0, 0, 0], [0, 0, 9]]], dtype=torch.int32)
    table = instance_stats_dense(ids, capacity=3)
    assert table.area.tolist() == [[2, 0, 1], [0, 0, 0]]
    assert table.outside.tolist() == [2, 1]
    assert table.peak.tolist() == [[-1] * 3] * 2
    assert instance_stats_dense(ids, capacity=0).outside.tolist() == [5, 1]


def test_the_way_that_a_gpu_goes_ends_at_the_same_table():
    ids = torch.randint(0, 30, (3, 9, 11), generator=generator(0))
    scores = torch.rand(3, 9, 11, generator=generator(1))
    sizes = torch.tensor([[9, 11], [0, 3], [4, 5]], dtype=torch.int32)
    for table in (None, sizes):
        dense, want, *where = _measure(ids, scores, table)
        small, got, *rows = _measure_at_once(ids, scores, table)
        assert (dense.capacity, small.capacity) == (29, 256)
        for a, e in zip(rows, where):
            assert torch.equal(a, e)
        for a, e in zip(got[:-1], want[:-1]):
            assert torch.equal(a[tuple(rows)], e[tuple(where)])
    assert _measure_at_once(torch.zeros_like(ids), None, None)[2].numel() == 0


def test_what_the_way_of_a_gpu_has_no_room_for_goes_the_other():
    ids = torch.ones(1, 30, 40, dtype=torch.int64)
    for value, fits in ((1200, True), (1201, False), (-1, False)):
        ids[0, 3, 4] = value
        assert (_measure_at_once(ids, None, None) is not None) == fits
    assert _measure_at_once(ids.clamp(0), torch.full(ids.shape, float("nan")), None) is None


def test_the_dense_form_compiles_into_one_graph():
    ids = torch.randint(0, 5, (2, 9, 11), generator=generator(0), dtype=torch.int32)
    scores = torch.rand(2, 9, 11, generator=generator(1))
    compiled = torch.compile(instance_stats_dense, fullgraph=True, backend="aot_eager")
    for a, e in zip(compiled(ids, scores, capacity=6), instance_stats_dense(ids, scores, capacity=6)):
        assert torch.equal(a, e)


def test_the_dense_form_is_safe_with_scores_that_are_no_numbers():
    ids = torch.ones(1, 4, 40, dtype=torch.int32)
    scores = torch.full((1, 4, 40), float("nan"))
    assert 0 <= instance_stats_dense(ids, scores, capacity=1).peak.item() < 160


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"ids": torch.ones(1, 2, 3)}, "ids must be int32, got float32"),
        ({"scores": torch.ones(1, 2, 4)}, "scores must have shape"),
        ({"sizes": torch.ones(1, 2)}, "sizes must be int32, got float32"),
        ({"capacity": -1}, "capacity must be 0"),
    ],
)
def test_the_dense_form_rejects_what_does_not_fit(change, match):
    good = {"ids": torch.ones(1, 2, 3, dtype=torch.int32), "capacity": 2}
    instance_stats_dense(**good)
    with pytest.raises((TypeError, ValueError), match=match):
        instance_stats_dense(**{**good, **change})
