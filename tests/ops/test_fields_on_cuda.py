"""Fields of many blocks, and walks on clusters and without, against the CPU operators."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.ops.spec import generator
from wsis import ops

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=generator(seed))


def assert_near(got: Tensor, want: Tensor, share: float) -> None:
    """Within a share of the largest entry: long sums in float32, in another order."""
    torch.testing.assert_close(got.cpu(), want, rtol=0, atol=share * float(want.abs().max()))


@pytest.mark.parametrize(("shape", "radius"), [((2, 301, 517), 5), ((1, 130, 257), 10), ((70001, 2, 3), 2)])
def test_edge_to_affinity(shape: tuple[int, ...], radius: int):
    """The last has more planes than a grid has rows."""
    boundary = noise(*shape)
    assert torch.equal(ops.edge_to_affinity(boundary.cuda(), radius).cpu(), ops.edge_to_affinity(boundary, radius))


@pytest.mark.parametrize("shape", [(3, 2, 301, 517), (70001, 2, 2, 3)])
def test_trace_displacement(shape: tuple[int, ...]):
    field = 30 * noise(*shape) - 15
    assert torch.equal(ops.trace_displacement(field.cuda()).cpu(), ops.trace_displacement(field))


@pytest.mark.parametrize(("shape", "radius"), [((2, 301, 517), 10), ((1, 90, 120), 16), ((70001, 2, 3), 2)])
def test_inter_pixel_loss(shape: tuple[int, ...], radius: int):
    batch, height, width = shape
    maps = 6 * noise(*shape) - 3, 6 * noise(batch, 2, height, width, seed=1) - 3
    seeds = (4 * noise(*shape, seed=2)).to(torch.uint8)
    seeds[seeds == 3] = 255
    results = []
    for device in ("cpu", "cuda"):
        leaves = [t.to(device).requires_grad_() for t in maps]
        losses = ops.inter_pixel_loss(*leaves, seeds.to(device), radius=radius)
        results.append([*(loss.detach() for loss in losses), *torch.autograd.grad(sum(losses), leaves)])
    for want, got in zip(*results, strict=True):
        assert_near(got, want, 1e-5)


WALKS = {
    "a photograph": ((3, 94, 125), (24, 5)),
    "small": ((5, 20, 31), (9, 5)),
    "wider than a cluster": ((2, 70, 203), (11, 5)),
    "another radius": ((2, 61, 70), (6, 8)),
}


def walk(device: str, name: str, *, sizes: Tensor | None, wanted: str) -> list[Tensor]:
    """The walk and its gradients by what ``wanted`` names."""
    (batch, height, width), (count, radius) = WALKS[name]
    maps = {"seeds": noise(count, height, width, seed=1), "boundary": 0.6 * noise(batch, height, width, seed=2)}
    maps = {key: value.to(device).requires_grad_(key in wanted) for key, value in maps.items()}
    index = (torch.arange(count) * 7 % batch).to(device)
    table = None if sizes is None else sizes.to(device)
    walked = ops.random_walk(*maps.values(), index, sizes=table, radius=radius)
    weights = noise(*walked.shape, seed=3).to(device)
    leaves = [leaf for leaf in maps.values() if leaf.requires_grad]
    return [walked.detach(), *torch.autograd.grad((walked * weights).sum(), leaves)]


@pytest.mark.parametrize("wanted", ["seeds", "seeds and boundary"])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("name", WALKS)
def test_random_walk(monkeypatch, name: str, padded: bool, wanted: str):
    """A launch for each term and clusters give the same bits; the gradient of seeds alone is a walk of its own."""
    batch, height, width = WALKS[name][0]
    sizes = torch.tensor([[height - 5 * b, width - 3 * b] for b in range(batch)]) if padded else None
    results = []
    for blocks in ("0", ""):
        monkeypatch.setenv("WSIS_WALK_BLOCKS", blocks)
        results.append(walk("cuda", name, sizes=sizes, wanted=wanted))
    for terms, chosen in zip(*results, strict=True):
        assert torch.equal(terms, chosen)
    for got, want in zip(results[0], walk("cpu", name, sizes=sizes, wanted=wanted), strict=True):
        assert_near(got, want, 1e-4)


@pytest.mark.parametrize("maps", [2, 12])
def test_dense_crf(maps: int):
    """12 maps of 6 labels make two groups. Other sums than on the CPU: a pixel in ten thousand may fall otherwise."""
    field = torch.nn.functional.interpolate(noise(1, 3, 30, 40), (180, 240), mode="bilinear")
    images = (255 * field).to(torch.uint8)
    labels = torch.nn.functional.interpolate(noise(maps, 6, 12, 16, seed=1), (180, 240), mode="bilinear").argmax(1)
    index, counts = [0] * maps, [6] * maps
    want = ops.dense_crf(images, labels, counts, image_index=index)
    got = ops.dense_crf(images.cuda(), labels.cuda(), counts, image_index=index).cpu()
    assert int((got != want).sum()) <= want.numel() // 10_000
