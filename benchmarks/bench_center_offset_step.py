"""What refinement costs in a training step of the centre and offset network: forward, labels, losses, backward, Adam.

The maps that the network gives are overwritten by those of a fairly trained one, so that refinement has as much to do
as it has in the middle of a training; the step is otherwise the one of ``train-center-offset``. ``cost percent``
compares steps with and without refinement that took turns, the fastest of each.
"""

from __future__ import annotations

import time

import pytest
import torch

from benchmarks.bench_refine import CLASSES, SIZE, scene
from wsis import ops
from wsis.models import CenterOffsetOutput, build_center_offset_net
from wsis.training.center_offset_training import CenterOffsetTraining
from wsis.training.config import OptimConfig

BATCH = 8
ROUNDS = 6
MOST_PERCENT = 10.0


def trained(net: torch.nn.Module, maps) -> torch.nn.Module:
    """The network, whose maps from now on have other values."""

    def overwrite(module: torch.nn.Module, images: tuple, made: CenterOffsetOutput) -> None:
        for own, other in zip(made, (maps.semantic, maps.center, maps.offset)):
            own.detach().copy_(other)

    net.register_forward_hook(overwrite)
    return net


def batch_of(prediction, semantic: torch.Tensor, labels: torch.Tensor) -> dict:
    """What the data loader hands out: pictures, maps, image labels, and one point per instance."""
    points = []
    for image, peaks in enumerate(ops.peak_mask(prediction.center, 41, 0.5)):
        rows = peaks.nonzero().tolist()
        points.append([(x, y, label, 1.0) for label, y, x in rows if semantic[image, y, x] == label + 1])
    images = torch.randn((len(semantic), 3, SIZE, SIZE), generator=torch.Generator().manual_seed(0))
    flags = [False] * len(semantic)
    return {"image": images, "semantic": semantic, "labels": labels, "points": points, "by_point": flags}


class Step:
    """One training step, with or without refinement."""

    def __init__(self, architecture: str, refine: bool):
        prediction, semantic, labels = scene(BATCH)
        torch.manual_seed(0)
        net = trained(build_center_offset_net(architecture, CLASSES), prediction)
        optim = OptimConfig("adam", lr=1e-9, steps=1, batch_size=BATCH)
        self.training = CenterOffsetTraining(net, optim, 1, None, refine)
        self.training.setup("fit")
        self.optimizer = self.training.configure_optimizers()
        self.batch = batch_of(prediction, semantic, labels)

    def __call__(self) -> float:
        """The seconds of the step."""
        start = time.perf_counter()
        self.optimizer.zero_grad()
        self.training.loss(self.batch)["loss"].backward()
        self.optimizer.step()
        return time.perf_counter() - start


@pytest.fixture(scope="module", params=["mobilenet_v2", pytest.param("panoptic_resnet50", marks=pytest.mark.full)])
def steps(request):
    return request.param, Step(request.param, True), Step(request.param, False)


@pytest.mark.benchmark
@pytest.mark.parametrize("refine", [True, False], ids=["wsis_refined", "not_refined"])
def test_step(benchmark, steps, refine):
    name, *both = steps
    benchmark.group = f"center_offset_step {name}, {BATCH}x{SIZE}x{SIZE}, {CLASSES} classes"
    benchmark.extra_info["threads"] = torch.get_num_threads()
    if refine:
        on, off = (min(times) for times in zip(*((both[0](), both[1]()) for _ in range(ROUNDS))))
        benchmark.extra_info["cost_percent"] = 100 * (on / off - 1)
        bound = 1 / (1 + MOST_PERCENT / 100)
        benchmark.extra_info["goals"] = {f"step without refinement over step with it, {name}": [off / on, bound]}
    benchmark.pedantic(both[0] if refine else both[1], rounds=2)
