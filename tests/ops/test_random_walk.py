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


def golden_walk(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Instance-wise CAMs off the boundary, the boundary ``[1, h, w]``, and the reference program's walk."""
    scene = golden_cases.load_scene(seed)
    cams, clusters = golden_cases.tensor(scene, "in_cams"), golden_cases.tensor(scene, "cluster_map")
    edge = golden_cases.tensor(scene, "in_edge")[None]
    instances = torch.stack([clusters == i for i in range(int(clusters.max()) + 1)])
    seeds = (cams[:, None] * instances[None]).flatten(0, 1) * (1 - edge)
    return seeds, edge, golden_cases.tensor(scene, "walked")


@pytest.mark.parametrize("seed", golden_cases.SEEDS)
@pytest.mark.parametrize("method", ["chebyshev", "power"])
def test_random_walk_matches_golden(seed, method):
    seeds, edge, expected = golden_walk(seed)
    assert relative_error(ops.random_walk(seeds, edge, method=method), expected) <= 1e-4


def test_random_walk_is_nearer_to_exact_steps_than_plain_float32():
    seeds, edge, _ = golden_walk(0)
    exact, plain = reference(seeds.double(), edge.double()), reference(seeds, edge)
    for method in ("chebyshev", "power"):
        walked = ops.random_walk(seeds, edge, method=method)
        assert relative_error(walked, exact) <= 2 * relative_error(plain, exact)
