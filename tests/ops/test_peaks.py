"""Peaks: golden cases, the table's order, decision boundaries."""

from __future__ import annotations

import pytest
import torch

from tests.golden_cases import SEEDS, load_scene, tensor
from wsis import ops


@pytest.mark.parametrize("seed", SEEDS)
def test_peaks_match_golden(seed: int):
    scene = load_scene(seed)
    heat = tensor(scene, "in_center")
    table = ops.peaks(heat.float()[None], window=5, threshold=0.3, top_k=25)
    found = {(int(x), int(y), int(c)) for x, y, c in zip(table.x, table.y, table.label)}
    expected = {tuple(int(v) for v in row) for row in scene["peaks"]}
    assert found == expected


def test_threshold_is_strict_and_plateaus_count_as_a_whole():
    heat = torch.zeros(1, 1, 3, 5)
    heat[0, 0, 1, 1:3] = 0.5
    assert ops.peaks(heat, 3, 0.5).y.numel() == 0
    table = ops.peaks(heat, 3, 0.4)
    assert table.x.tolist() == [1, 2]


def test_neighbours_of_another_component_hide_nothing():
    heat = torch.tensor([[[[1.0, 2.0, 3.0]]]])
    ids = torch.tensor([[[1, 1, 2]]])
    assert ops.peaks(heat, 3).x.tolist() == [2]
    table = ops.peaks(heat, 3, ids=ids)
    assert sorted(table.x.tolist()) == [1, 2]
    assert ops.peaks(heat, 3, ids=torch.zeros_like(ids)).x.numel() == 0


def test_top_k_keeps_the_strongest_of_each_class():
    heat = torch.zeros(2, 2, 1, 9)
    heat[0, 0, 0, ::2] = torch.tensor([1.0, 3.0, 2.0, 3.0, 5.0])
    heat[1, 1, 0, 4] = 7.0
    table = ops.peaks(heat, 3, top_k=3)
    assert table.image_index.tolist() == [0, 0, 0, 1]
    assert table.label.tolist() == [0, 0, 0, 1]
    assert table.x.tolist() == [8, 2, 6, 4]
