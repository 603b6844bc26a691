"""The label path of a training step reads nothing back from the device, so that a CUDA graph can hold it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode

from tests.labels.test_center_offset import SMALL, scene
from wsis import ops
from wsis.labels import center_offset
from wsis.losses.center_offset import center_offset_loss
from wsis.structures import InstanceMap, Points

BATCH, CLASSES, SIZE, SEEDS = 2, 3, (27, 34), (2, 24, 30)


def training_step(inputs: dict[str, Tensor], supervision: str, backward: bool = True) -> list[Tensor]:
    """Pseudo labels, refined labels and their loss (BESTIE), pair labels and their losses (IRNet), the gradients."""
    maps = [inputs[name].detach().requires_grad_() for name in ("semantic_logits", "center", "offset")]
    prediction = SimpleNamespace(semantic=maps[0], center=maps[1], offset=maps[2])
    points = Points(*(inputs[name] for name in ("image_index", "y", "x", "label", "score")))
    options = {"config": SMALL, "validate": False}
    semantic, labels = inputs["semantic"], inputs["labels"]
    pseudo = center_offset.pseudo_targets(semantic, points, labels, supervision=supervision, **options)
    given = points if supervision == "point" else None
    refined = center_offset.refine(prediction, semantic, labels, given, **options)
    loss = center_offset_loss(prediction, semantic, pseudo, refined, supervision=supervision).total
    pairs = [inputs[name].detach().requires_grad_() for name in ("boundary_logits", "displacement")]
    losses = ops.inter_pixel_loss(*pairs, inputs["seeds"], radius=5)
    loss = loss + sum(losses[:4])
    gradients = torch.autograd.grad(loss, [*maps, *pairs]) if backward else ()
    return [loss.detach(), *pseudo_parts(pseudo), *pseudo_parts(refined), *gradients]


def pseudo_parts(target: object) -> list[Tensor]:
    return [target.center, target.offset, target.weight]


def example(seed: int) -> dict[str, Tensor]:
    prediction, semantic, points, labels = scene(seed, BATCH, CLASSES, *SIZE)
    g = torch.Generator().manual_seed(seed)
    return {
        "semantic_logits": prediction.semantic,
        "center": prediction.center,
        "offset": prediction.offset,
        "semantic": semantic,
        "labels": labels,
        **{name: getattr(points, name) for name in ("image_index", "y", "x", "label", "score")},
        "boundary_logits": torch.randn(SEEDS, generator=g),
        "displacement": torch.randn(SEEDS[0], 2, *SEEDS[1:], generator=g),
        "seeds": torch.randint(0, 3, SEEDS, generator=g).to(torch.uint8),
    }


def on_fake_gpu(mode: FakeTensorMode, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a GPU that have shapes and no values: to ask one for a value is an error."""
    with mode:
        return {name: torch.empty(t.shape, dtype=t.dtype, device="cuda") for name, t in inputs.items()}


@pytest.mark.parametrize("supervision", ["image", "point"])
def test_no_value_is_read_back(monkeypatch, supervision):
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)  # asks the driver otherwise
    mode = FakeTensorMode()
    inputs = on_fake_gpu(mode, example(0))
    with mode:
        results = training_step(inputs, supervision, backward=False)  # autograd would want a real GPU
    assert all(t.device.type == "cuda" for t in results)
    want = training_step(example(0), supervision, backward=False)
    assert [t.shape for t in results] == [t.shape for t in want]


@pytest.mark.parametrize(
    "read_back",
    [
        lambda t: center_offset.refine(
            SimpleNamespace(semantic=t["semantic_logits"], center=t["center"], offset=t["offset"]),
            t["semantic"],
            t["labels"],
        ),
        lambda t: ops.peaks(t["center"], 5),
        lambda t: ops.instance_stats(t["semantic"].int()),
    ],
    ids=["refine with validation", "peaks", "instance_stats"],
)
def test_the_check_notices_a_read_back(monkeypatch, read_back):
    """What is documented to read back does so here as well."""
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    mode = FakeTensorMode()
    inputs = on_fake_gpu(mode, example(0))
    with mode, pytest.raises((DataDependentOutputException, DynamicOutputShapeException)):
        read_back(inputs)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("supervision", ["image", "point"])
def test_a_cuda_graph_holds_the_step(supervision):
    """Captured on one batch, replayed on another; any synchronisation would end the capture."""
    batches = [{name: t.cuda() for name, t in example(seed).items()} for seed in (0, 0, 1)]
    static = batches[0]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            training_step(static, supervision)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = training_step(static, supervision)
    for batch in batches[1:]:
        want = training_step(batch, supervision)
        for name, value in batch.items():
            static[name].copy_(value)
        graph.replay()
        torch.cuda.synchronize()
        for got, expected in zip(captured, want, strict=True):
            torch.testing.assert_close(got, expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_ops_of_inference_are_captured():
    """The walk, the trace and the components of a batch of label making, with a table of fixed size."""
    g = torch.Generator().manual_seed(0)
    seeds, boundary = torch.rand(4, 24, 30, generator=g).cuda(), 0.5 * torch.rand(2, 24, 30, generator=g).cuda()
    displacement, index = torch.randn(2, 2, 24, 30, generator=g).cuda(), torch.tensor([0, 0, 1, 1]).cuda()

    def labels() -> list[Tensor]:
        walked = ops.random_walk(seeds, boundary, index)
        cells = ops.trace_displacement(displacement)
        found = ops.connected_components((walked[::2] > walked[1::2]).int())
        return [walked, cells, found.ids, ops.filter_ids(found.ids, 5).ids]

    want = labels()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = labels()
    graph.replay()
    torch.cuda.synchronize()
    for got, expected in zip(captured, want, strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=0)


def test_encode_compiles_without_a_graph_break():
    """The public ``encode`` looks at its table; while a graph is traced it does not."""
    ids = torch.zeros(1, 9, 9, dtype=torch.int32)
    ids[0, 2:5, 3:7] = 1
    one = torch.ones(1, dtype=torch.int64)
    table = (ids, one - 1, one, one - 1, torch.ones(1), torch.tensor([[3.0, 4.0]]))

    def heat(*rows: Tensor) -> Tensor:
        return center_offset.encode(InstanceMap(*rows), 2).center

    assert torch.equal(torch.compile(heat, fullgraph=True, backend="eager")(*table), heat(*table))
