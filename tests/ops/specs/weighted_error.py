"""Spec of ``weighted_error``."""

from __future__ import annotations

import torch

from tests.ops.spec import BadInput, Call, OpSpec, Sample, generator
from wsis import ops
from wsis.reference import weighted_error as reference


def _sample(seed: int, shape: tuple[int, int, int, int], count: int, power: int, share: float = 0.4, note: str = ""):
    """Weights of patches 7 columns wide, ``share`` of them not 0."""
    g = generator(seed)
    batch, _, height, width = shape
    prediction, *targets = (torch.randn(shape, generator=g) for _ in range(1 + count))
    weights = []
    for _ in range(count):
        patches = torch.rand(batch, 1, height, width // 7 + 1, generator=g) < share
        weights.append(torch.rand(batch, 1, height, width, generator=g) * patches.repeat_interleave(7, 3)[..., :width])
    return Sample((prediction, targets, weights, power), note=note)


def samples(seed: int) -> list[Sample]:
    prediction, targets, weights, power = _sample(seed, (2, 3, 6, 9), 2, 2).args
    everything = [torch.ones_like(w) for w in weights]
    nothing = [torch.zeros_like(w) for w in weights]
    return [
        _sample(seed, (2, 5, 30, 41), 2, 2, note="past one chunk"),
        _sample(seed, (2, 2, 30, 41), 2, 1),
        _sample(seed, (3, 20, 7, 8), 1, 2),
        _sample(seed, (1, 1, 1, 1), 1, 1, 1.0),
        _sample(seed, (1, 3, 1, 33), 2, 2, note="one row"),
        _sample(seed, (1, 3, 33, 1), 2, 1, note="one column"),
        Sample((prediction, targets, everything, power), note="every pixel"),
        Sample((prediction, targets, nothing, power), note="no pixel"),
        Sample((prediction, targets, [weights[0], nothing[0]], 1), note="one target without a weight"),
        Sample((prediction, [prediction.clone(), targets[1]], everything, 1), note="no difference"),
        Sample((prediction.double(), [t.double() for t in targets], [w.double() for w in weights], 2), note="float64"),
    ]


def bad_inputs() -> list[BadInput]:
    p, w = torch.zeros(2, 3, 4, 5), torch.ones(2, 1, 4, 5)
    good = Sample((p, [p], [w], 1))
    two = Sample((p, [p, p], [w, w], 2))
    return [
        BadInput((None, [p], [w], 1), TypeError, "prediction must be a tensor, got NoneType", good=good),
        BadInput((p[0], [p], [w], 1), ValueError, r"prediction must have shape \[B, K, H, W\], got \[3, 4, 5\]"),
        BadInput((p.half(), [p], [w], 1), TypeError, "prediction must be float32, float64, got float16"),
        BadInput((p, p, [w], 1), TypeError, "targets must be a list of tensors, got Tensor", good=good),
        BadInput((p, [p], w, 1), TypeError, "weights must be a list of tensors, got Tensor", good=good),
        BadInput((p, [], [], 1), ValueError, "there must be 1 or 2 targets and as many weights, got 0 and 0"),
        BadInput((p, [p] * 3, [w] * 3, 1), ValueError, "there must be 1 or 2 targets .* got 3 and 3", good=two),
        BadInput((p, [p, p], [w], 1), ValueError, "as many weights, got 2 and 1", good=two),
        BadInput((p, [p[:, :2]], [w], 1), ValueError, r"targets\[0\] must have shape \[2, 3, 4, 5\], got \[2, 2"),
        BadInput((p, [p, p.double()], [w, w], 1), TypeError, r"targets\[1\] must be float32, got float64", good=two),
        BadInput((p, [p], [w[:, 0]], 1), ValueError, r"weights\[0\] must have shape \[2, 1, 4, 5\], got \[2, 4, 5\]"),
        BadInput((p, [p], [w.bool()], 1), TypeError, r"weights\[0\] must be float32, got bool", good=good),
        BadInput((p, [p], [w], 0), ValueError, "power must be 1..2, got 0", good=good),
        BadInput((p, [p], [w], 3), ValueError, "power must be 1..2, got 3", good=two),
        BadInput((p, [p], [w], 2.0), TypeError, "power must be an integer, got float"),
    ]


def calls(sample: Sample) -> list[Call]:
    prediction, targets, weights, power = sample.args
    pairs = [x for pair in zip(targets, weights) for x in pair]
    pairs += [None] * (4 - len(pairs))
    factor = torch.tensor([0.5, 2.0], dtype=torch.float64)
    return [
        Call(torch.ops.wsis.weighted_error.default, (prediction.clone().requires_grad_(), *pairs, power)),
        Call(torch.ops.wsis.weighted_error_backward.default, (factor, prediction, *pairs, power)),
    ]


def invariants(sample: Sample, error: torch.Tensor) -> None:
    assert error.dim() == 0
    assert error >= 0
    if not any(w.any() for w in sample.args[2]):
        assert error == 0


def gradcheck() -> list[Sample]:
    made = []
    for power, count in ((1, 1), (2, 1), (1, 2), (2, 2)):
        prediction, targets, weights, _ = _sample(5, (2, 3, 4, 9), count, power).args
        made.append(Sample((prediction.double(), [t.double() for t in targets], [w.double() for w in weights], power)))
    return made


SPEC = OpSpec(
    name="weighted_error",
    op=ops.weighted_error,
    reference=reference.weighted_error,
    samples=samples,
    bad_inputs=bad_inputs,
    calls=calls,
    invariants=invariants,
    rtol=2e-6,
    atol=1e-7,
    differentiable=(0,),
    gradcheck=gradcheck,
    empty=lambda: [
        Sample((torch.zeros(shape), [torch.zeros(shape)], [torch.zeros(shape[0], 1, *shape[2:])], 2))
        for shape in ((0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0))
    ],
)
