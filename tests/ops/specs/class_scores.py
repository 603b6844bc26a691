"""Spec of ``class_scores``."""

from __future__ import annotations

import torch

from tests.ops.spec import BadInput, Call, OpSpec, Sample, generator
from wsis import ops
from wsis.reference import class_scores as reference


def sample(
    seed: int, batch: int, classes: int, height: int, width: int, scale: float = 4.0, share: float = 0.6, note: str = ""
) -> Sample:
    g = generator(seed)
    semantic = torch.randn(batch, classes + 1, height, width, generator=g) * scale
    center = torch.randn(batch, classes, height, width, generator=g)
    labels = torch.randint(0, classes + 1, (batch, height, width), generator=g)
    labels[torch.rand(labels.shape, generator=g) > share] = 0
    return Sample((semantic, center, labels), note=note)


def samples(seed: int) -> list[Sample]:
    plain, strange = sample(seed, 2, 4, 9, 13), sample(seed, 1, 3, 6, 7)
    semantic, center, labels = strange.args
    labels[0, 0] = torch.tensor([-1, 4, 255, -(2**40), 2**40, 3, 0])
    tied = torch.zeros(1, 4, 6, 7)
    poisoned = semantic.clone()
    poisoned[0, 1, 2, 3] = float("nan")
    return [
        plain,
        sample(seed, 1, 20, 5, 300, share=0.02, note="wider than a chunk, mostly background"),
        sample(seed, 2, 5, 16, 16, 200.0, note="logits far apart"),
        sample(seed, 1, 1, 1, 1, share=1.0),
        sample(seed, 1, 3, 33, 1),
        sample(seed, 1, 0, 4, 5, note="no class"),
        Sample((tied, center, labels), note="all equal"),
        Sample((semantic, center, labels), note="labels that are no classes"),
        Sample((semantic, center, labels.clamp(0, 255).to(torch.uint8)), note="uint8 labels"),
        Sample((poisoned, center, labels), note="a NaN"),
        Sample((plain.args[0].double(), plain.args[1].double(), plain.args[2]), note="float64"),
    ]


def bad_inputs() -> list[BadInput]:
    good = sample(0, 2, 3, 5, 6)
    semantic, center, labels = good.args
    return [
        BadInput((semantic[0], center, labels), ValueError, "semantic must have shape", good=good),
        BadInput((semantic[:, :0], center, labels), ValueError, "semantic must have a background channel"),
        BadInput(("logits", center, labels), TypeError, "semantic must be a tensor, got str"),
        BadInput((semantic.half(), center.half(), labels), TypeError, "semantic must be float32, float64, got float16"),
        BadInput((semantic.long(), center, labels), TypeError, "semantic must be .*got int64"),
        BadInput((semantic, center[:, :2], labels), ValueError, r"center must have shape \[2, 3, 5, 6\]"),
        BadInput((semantic[:, :3], center, labels), ValueError, r"center must have shape \[2, 2, 5, 6\]"),
        BadInput((semantic, center[..., :5], labels), ValueError, "center must have shape"),
        BadInput((semantic, center.double(), labels), TypeError, "center must be float32, got float64"),
        BadInput((semantic, center, labels[:1]), ValueError, "labels must have shape"),
        BadInput((semantic, center, labels[:, None]), ValueError, "labels must have shape"),
        BadInput((semantic, center, labels.float()), TypeError, "labels must be .*got float32"),
        BadInput((semantic, center, labels > 0), TypeError, "labels must be .*got bool"),
        BadInput((semantic, center, labels.to_sparse()), ValueError, "labels must be a dense tensor, got layout"),
    ]


def calls(sample: Sample) -> list[Call]:
    semantic, center, labels = sample.args
    labels = labels.clamp(-1, 300).to(torch.int32)
    return [Call(torch.ops.wsis.class_scores.default, (semantic, center, labels))]


def invariants(sample: Sample, output: ops.ClassScores) -> None:
    labels, classes = sample.args[2].long(), sample.args[1].shape[1]
    nothing = (labels <= 0) | (labels > classes)
    assert (output.probability[nothing] == 0).all()
    assert (output.heat[nothing] == 0).all()
    known = output.probability[~output.probability.isnan()]
    assert ((known >= 0) & (known <= 1)).all()


SPEC = OpSpec(
    name="class_scores",
    op=ops.class_scores,
    reference=reference.class_scores,
    samples=samples,
    bad_inputs=bad_inputs,
    calls=calls,
    invariants=invariants,
    empty=lambda: [sample(0, 0, 2, 4, 5), sample(0, 2, 2, 0, 5), sample(0, 2, 2, 4, 0)],
)
