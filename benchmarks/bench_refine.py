"""Self-refinement of a batch beside the formulation per image, class and component with OpenCV."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from benchmarks.baselines import opencv_refine
from wsis.labels import center_offset
from wsis.structures import InstanceMap

BATCH, CLASSES, SIZE = 16, 20, 416
GROUP = f"refine {BATCH}x{SIZE}x{SIZE}, {CLASSES} classes"


def scene(batch: int = BATCH, seed: int = 0) -> tuple[SimpleNamespace, torch.Tensor, torch.Tensor]:
    """Two or three classes an image, three to nine round instances, many of them touching; a fairly trained network.

    Returns:
        Prediction, semantic map ``[B, H, W]`` uint8, image labels ``[B, C]``.
    """
    g = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    ids = torch.zeros(batch, SIZE, SIZE, dtype=torch.int32)
    semantic = torch.zeros(batch, SIZE, SIZE, dtype=torch.uint8)
    labels, rows = torch.zeros(batch, CLASSES), []
    for b in range(batch):
        classes = torch.randperm(CLASSES, generator=g)[: int(torch.randint(2, 4, (1,), generator=g))]
        labels[b, classes] = 1
        for k in range(int(torch.randint(3, 10, (1,), generator=g))):
            cy, cx = torch.randint(40, SIZE - 40, (2,), generator=g).tolist()
            radius, label = int(torch.randint(25, 70, (1,), generator=g)), int(classes[k % len(classes)])
            disc = (y - cy) ** 2 + (x - cx) ** 2 < radius**2
            ids[b][disc], semantic[b][disc] = k + 1, label + 1
            rows.append((b, k + 1, label, cy, cx))
    image, name, label, cy, cx = (torch.tensor(column) for column in zip(*rows))
    table = InstanceMap(ids, image, name, label, torch.ones(len(rows)), torch.stack((cy, cx), 1).float())
    target = center_offset.encode(table, CLASSES)

    def noise(channels: int, scale: float) -> torch.Tensor:
        coarse = torch.randn(batch, channels, SIZE // 8, SIZE // 8, generator=g) * scale
        return F.interpolate(coarse, size=(SIZE, SIZE), mode="bilinear", align_corners=False)

    logits = F.one_hot(semantic.long(), CLASSES + 1).permute(0, 3, 1, 2) * 5.0 + noise(CLASSES + 1, 1.0)
    prediction = SimpleNamespace(
        semantic=logits.contiguous(),
        center=target.center * 0.8 + noise(CLASSES, 0.03),
        offset=target.offset + noise(2, 2.0),
    )
    return prediction, semantic, labels


@pytest.fixture(scope="module")
def case():
    return scene()


def by_opencv(prediction, semantic, labels, maximum="dilate"):
    maps = (prediction.semantic, prediction.center, prediction.offset, semantic, labels)
    return opencv_refine.refine(*(t.numpy() for t in maps), center_offset.Config(), maximum)


@pytest.mark.benchmark(group=GROUP)
def test_refine(benchmark, case):
    expected, got = by_opencv(*case), center_offset.refine(*case)
    for want, part in zip(expected, (got.center, got.offset, got.weight)):
        different = ((torch.from_numpy(want) - part).abs() > 1e-4).float().mean()
        assert different < 1e-4, "they may differ where two centres are equally near up to rounding"
    benchmark.extra_info["threads"] = torch.get_num_threads()
    benchmark.extra_info.update(target=20, peer="opencv[max_pool2d]")
    benchmark.pedantic(center_offset.refine, case, rounds=7, warmup_rounds=1)


@pytest.mark.benchmark(group=GROUP)
@pytest.mark.parametrize("maximum", ["dilate", "max_pool2d"])
def test_opencv(benchmark, case, maximum):
    benchmark.extra_info["threads"] = torch.get_num_threads()
    benchmark.pedantic(by_opencv, (*case, maximum), rounds=2 if maximum == "dilate" else 1)
