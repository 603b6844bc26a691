"""What is particular to connected_components: golden clusters, many components, batches."""

from __future__ import annotations

import pytest
import torch

from tests import golden_cases
from tests.ops.spec import generator
from wsis import ops


@pytest.mark.parametrize("seed", golden_cases.SEEDS)
def test_clusters_of_the_golden_scenes(seed):
    """Cells of weak displacement form components; a cell belongs to that in which its trace ends."""
    scene = golden_cases.load_scene(seed)
    weak = golden_cases.tensor(scene, "in_dp").square().sum(0).sqrt() < 2.5
    components = ops.connected_components(weak[None], 4).ids[0]
    y, x = golden_cases.tensor(scene, "centroids").long()
    _, clusters = components[y, x].unique(return_inverse=True)
    assert torch.equal(clusters, golden_cases.tensor(scene, "cluster_map").long())


def test_a_worked_example():
    labels = torch.tensor([[[5, 0, 5, 5], [0, 5, 0, 7], [3, 3, 0, 7]]])
    four = [[1, 0, 2, 2], [0, 3, 0, 4], [5, 5, 0, 4]]
    eight = [[1, 0, 1, 1], [0, 1, 0, 2], [3, 3, 0, 2]]
    for connectivity, expected in ((4, four), (8, eight)):
        ids, counts = ops.connected_components(labels, connectivity)
        assert ids.tolist() == [expected]
        assert counts.tolist() == [max(map(max, expected))]


def test_every_pixel_its_own_component():
    labels = torch.arange(300 * 401).view(1, 300, 401)
    ids, counts = ops.connected_components(labels, 8, background=None)
    assert torch.equal(ids.long(), labels + 1)
    assert counts.tolist() == [300 * 401]


def test_a_checkerboard_is_one_component_or_many():
    board = (torch.arange(65).view(-1, 1) + torch.arange(129)) % 2 == 0
    assert ops.connected_components(board[None], 8).counts.tolist() == [1]
    assert ops.connected_components(board[None], 4).counts.tolist() == [int(board.sum())]


def test_images_of_a_batch_do_not_touch_each_other():
    labels = torch.randint(0, 3, (5, 40, 33), generator=generator(0))
    together = ops.connected_components(labels)
    for b in range(5):
        alone = ops.connected_components(labels[b : b + 1])
        assert torch.equal(alone.ids[0], together.ids[b])
        assert alone.counts[0] == together.counts[b]


def test_padding_has_no_say():
    image = torch.randint(0, 2, (1, 20, 30), generator=generator(1))
    padded = torch.ones(1, 25, 64, dtype=torch.int64)
    padded[:, :20, :30] = image
    result = ops.connected_components(padded, sizes=torch.tensor([[20, 30]]))
    assert torch.equal(result.ids[:, :20, :30], ops.connected_components(image).ids)
    assert not result.ids[:, 20:].any()
    assert not result.ids[:, :, 30:].any()
