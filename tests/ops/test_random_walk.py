"""Special cases of ``random_walk`` and ``propagate_to_edge``; the generic suite covers the rest."""

from __future__ import annotations

import pytest
import torch

import wsis
from tests import golden_cases
from wsis import ops
from wsis.reference.random_walk import random_walk as reference


def relative_error(got: torch.Tensor, expected: torch.Tensor) -> float:
    return float((got.double() - expected.double()).abs().max() / expected.double().abs().max())


@pytest.mark.parametrize("seed", golden_cases.SEEDS)
def test_propagate_to_edge_matches_golden(seed):
    scene = golden_cases.load_scene(seed)
    cams, edge = golden_cases.tensor(scene, "in_cams"), golden_cases.tensor(scene, "in_edge")
    expected = golden_cases.tensor(scene, "walked_semantic")
    walked = wsis.propagate_to_edge(cams, edge)
    assert walked.shape == (len(cams), 1, *edge.shape)
    assert relative_error(walked[:, 0], expected) <= 1e-4


@pytest.mark.parametrize("seed", golden_cases.SEEDS)
@pytest.mark.parametrize("method", ["chebyshev", "power"])
def test_random_walk_matches_golden_and_is_at_least_as_exact(seed, method):
    scene = golden_cases.load_scene(seed)
    cams, clusters = golden_cases.tensor(scene, "in_cams"), golden_cases.tensor(scene, "cluster_map")
    edge = golden_cases.tensor(scene, "in_edge")[None]
    instances = torch.stack([clusters == i for i in range(int(clusters.max()) + 1)])
    seeds = (cams[:, None] * instances[None]).flatten(0, 1) * (1 - edge)
    expected = golden_cases.tensor(scene, "walked")
    index = torch.zeros(len(seeds), dtype=torch.int64)
    walked = ops.random_walk(seeds, edge, index, method=method)
    assert relative_error(walked, expected) <= 1e-4
    exact = reference(seeds.double(), edge.double(), index)
    assert relative_error(walked, exact) <= 2 * relative_error(expected, exact)
