"""Spec of ``dense_crf``."""

from __future__ import annotations

import torch

from tests.ops.spec import BadInput, Call, OpSpec, Sample, generator
from wsis import ops
from wsis.reference import dense_crf as reference


def picture(g: torch.Generator, batch: int, height: int, width: int) -> torch.Tensor:
    """Smooth images with some noise, as photographs have."""
    coarse = torch.rand(batch, 3, height // 5 + 2, width // 5 + 2, generator=g) * 255
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    return (smooth + 6 * torch.randn(batch, 3, height, width, generator=g)).clamp(0, 255).to(torch.uint8)


def label_maps(g: torch.Generator, counts: list[int], height: int, width: int) -> torch.Tensor:
    """Blobs of labels ``0..n - 1``."""
    field = torch.rand(len(counts), max(counts), height // 4 + 2, width // 4 + 2, generator=g)
    field = torch.nn.functional.interpolate(field, (height, width), mode="bilinear")
    for s, count in enumerate(counts):
        field[s, count:] = -1
    return field.argmax(1)


def samples(seed: int) -> list[Sample]:
    g = generator(seed)
    two = picture(g, 2, 21, 17)
    noise = torch.randint(0, 256, (1, 3, 9, 70), generator=g, dtype=torch.uint8)
    flat = torch.full((1, 3, 13, 11), 200, dtype=torch.uint8)
    table = torch.tensor
    return [
        Sample((two, label_maps(g, [2, 3], 21, 17), table([2, 3]))),
        Sample(
            (two, label_maps(g, [3, 3, 4, 4], 21, 17).view(2, 2, 21, 17), table([3, 4])), note="two per image"
        ),
        Sample(
            (two, label_maps(g, [9, 2, 1, 20, 5], 21, 17).int(), table([9, 2, 1, 20, 5])),
            {"image_index": table([1, 0, 1, 1, 1])},
            note="a table of maps, one without labels",
        ),
        Sample(
            (two, label_maps(g, [2, 4], 21, 17).to(torch.uint8), table([2, 4])),
            {"sizes": table([[21, 9], [4, 17]])},
            note="padded",
        ),
        Sample((noise, label_maps(g, [5], 9, 70), table([5])), note="no pixel like its neighbour"),
        Sample((flat, label_maps(g, [3], 13, 11), table([3])), note="one colour"),
        Sample((picture(g, 1, 1, 33), label_maps(g, [2], 1, 33), table([2])), note="one row"),
        Sample((picture(g, 1, 33, 1), label_maps(g, [3], 33, 1), table([3])), note="one column"),
        Sample((picture(g, 1, 1, 1), torch.zeros(1, 1, 1, dtype=torch.int64), table([2])), note="one pixel"),
        Sample((two, torch.zeros(2, 21, 17, dtype=torch.int8), table([1, 2])), note="nothing to refine"),
        Sample(
            (two[:1], label_maps(g, [4], 21, 17), table([4])),
            {"gt_prob": 0.5, "steps": 3, "spatial": (1.0, 2.0), "bilateral": (20.0, 13.0, 4.0)},
            note="other parameters",
        ),
        Sample((two[:1], label_maps(g, [2], 21, 17), table([2])), {"steps": 0}, note="no step"),
    ]


def bad_inputs() -> list[BadInput]:
    images = torch.zeros(2, 3, 4, 5, dtype=torch.uint8)
    labels = torch.zeros(2, 4, 5, dtype=torch.int64)
    n = torch.tensor([2, 2])
    good = Sample((images, labels, n))

    def bad(args, error, match, good=good, **kwargs):
        return BadInput(args, error, match, kwargs, good)

    def with_options(**kwargs):
        return Sample((images, labels, n), kwargs)

    high, low = labels.clone(), labels.clone()
    high[1, 2, 3], low[0, 0, 0] = 2, -1
    return [
        bad((images.float(), labels, n), TypeError, "images must be uint8, got float32"),
        bad(
            (images[:, :1], labels, n),
            ValueError,
            r"images must have shape \[B, 3, H, W\], got \[2, 1, 4, 5\]",
        ),
        bad((images[0], labels, n), ValueError, "images must have shape"),
        bad(("x", labels, n), TypeError, "images must be a tensor, got str"),
        bad((images, labels.float(), n), TypeError, "labels must be .*, got float32"),
        bad((images, labels[:, :3], n), ValueError, r"labels must have shape \[2, 4, 5\], got \[2, 3, 5\]"),
        bad((images, labels[:1], n), ValueError, "labels must have shape"),
        bad(
            (images, high, n),
            ValueError,
            r"labels\[1\] must be 0..1 .*, got 2",
            Sample((images, high, [2, 3])),
        ),
        bad((images, low, n), ValueError, r"labels\[0\] must be 0..1 .*, got -1"),
        bad((images, labels, n[:1]), ValueError, r"num_labels must have shape \[2\], got \[1\]"),
        bad(
            (images, labels, [2, 0]),
            ValueError,
            r"num_labels\[1\] must be 1..255, got 0",
            Sample((images, labels, [2, 1])),
        ),
        bad(
            (images, labels, [256, 2]),
            ValueError,
            r"num_labels\[0\] must be 1..255, got 256",
            Sample((images, labels, [255, 2])),
        ),
        bad((images, labels, [2.0, 2]), TypeError, r"num_labels\[0\] must be an integer, got float"),
        bad((images, labels, n.float()), TypeError, "num_labels must be .*, got float32"),
        bad((images, labels, 2), TypeError, "num_labels must be a tensor or a sequence of integers, got int"),
        bad(
            (images, labels, n),
            ValueError,
            r"image_index\[1\] must be 0..1, got 2",
            image_index=[0, 2],
            good=with_options(image_index=[0, 1]),
        ),
        bad((images, labels, n), ValueError, r"image_index\[0\] must be 0..1, got -1", image_index=[-1, 1]),
        bad(
            (images, labels, n),
            ValueError,
            "gt_prob must be finite and .*, got 1",
            gt_prob=1,
            good=with_options(gt_prob=0.999),
        ),
        bad((images, labels, n), ValueError, "gt_prob must be .*, got nan", gt_prob=float("nan")),
        bad(
            (images, labels, n),
            ValueError,
            "steps must be 0..1000, got -1",
            steps=-1,
            good=with_options(steps=0),
        ),
        bad(
            (images, labels, n),
            ValueError,
            "steps must be 0..1000, got 1001",
            steps=1001,
            good=with_options(steps=1000),
        ),
        bad((images, labels, n), TypeError, "steps must be an integer, got float", steps=1.0),
        bad(
            (images, labels, n),
            TypeError,
            r"spatial must be the numbers \(sxy, weight\), got 3.0",
            spatial=3.0,
        ),
        bad((images, labels, n), ValueError, "spatial sxy must be finite and .*, got 0", spatial=(0, 3)),
        bad(
            (images, labels, n),
            ValueError,
            "spatial weight must be finite and .*, got -1",
            spatial=(3, -1),
            good=with_options(spatial=(3, 0)),
        ),
        bad(
            (images, labels, n),
            ValueError,
            "bilateral srgb must be finite and .*, got inf",
            bilateral=(50, float("inf"), 10),
        ),
        bad(
            (images, labels, n),
            ValueError,
            "bilateral must be wide enough .* got .*0.1, 10.*, which needs",
            bilateral=(50, 0.1, 10),
            good=with_options(bilateral=(50, 0.2, 10)),
        ),
        bad(
            (images, labels, n),
            ValueError,
            r"sizes must have shape \[2, 2\], got \[1, 2\]",
            sizes=torch.tensor([[4, 5]]),
        ),
        bad(
            (images, labels, n),
            ValueError,
            r"sizes\[:, 0\] must be 0..4 .*, got 5",
            sizes=torch.tensor([[5, 5], [4, 5]]),
            good=with_options(sizes=torch.tensor([[4, 5], [0, 5]])),
        ),
    ]


def calls(sample: Sample) -> list[Call]:
    images, labels, num_labels = sample.args
    maps, height, width = labels.shape[0], *labels.shape[-2:]
    if labels.dim() == 4:
        maps, num_labels = maps * labels.shape[1], num_labels.repeat_interleave(labels.shape[1])
    index = torch.arange(images.shape[0], dtype=torch.int32).repeat_interleave(maps // images.shape[0])
    flat = labels.reshape(maps, height, width).to(torch.uint8)
    args = (images, flat, num_labels.int(), index, None, 0.7, 5, 3.0, 3.0, 50.0, 5.0, 10.0)
    return [Call(torch.ops.wsis.dense_crf.default, (*args, most)) for most in (0, int(num_labels.max()))]


def invariants(sample: Sample, refined: torch.Tensor) -> None:
    _, labels, num_labels = sample.args
    assert refined.shape == labels.shape
    assert refined.dtype == labels.dtype
    for count, before, after in zip(num_labels, labels, refined):
        assert after.min() >= 0
        assert after.max() < count
        assert set(after.unique().tolist()) <= {0, *before.unique().tolist()}


def reference_maps(images, labels, num_labels, **options):
    """The oracle knows flat tables only."""
    if labels.dim() == 3:
        return reference.dense_crf(images, labels, num_labels, **options)
    per_image = labels.shape[1]
    index = torch.arange(images.shape[0]).repeat_interleave(per_image)
    counts = torch.as_tensor(num_labels).repeat_interleave(per_image)
    return reference.dense_crf(images, labels.flatten(0, 1), counts, image_index=index, **options).view_as(
        labels
    )


SPEC = OpSpec(
    name="dense_crf",
    op=ops.dense_crf,
    reference=reference_maps,
    samples=samples,
    bad_inputs=bad_inputs,
    calls=calls,
    invariants=invariants,
    empty=lambda: [
        Sample((torch.zeros(b, 3, h, w, dtype=torch.uint8), torch.zeros(b, h, w, dtype=torch.int32), [2] * b))
        for b, h, w in ((0, 4, 5), (2, 0, 5), (2, 4, 0))
    ],
)
