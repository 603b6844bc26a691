"""inter_pixel_loss against the golden scenes, its gradients, ties, counts and what it keeps in memory."""

from __future__ import annotations

import pytest
import torch

from tests.golden_cases import SEEDS, load_scene, tensor
from wsis import ops
from wsis.reference.inter_pixel_loss import inter_pixel_loss as oracle


def _case(batch=2, height=13, width=17, classes=3, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, height, width, generator=generator, dtype=dtype)
    displacement = 2 * torch.randn(batch, 2, height, width, generator=generator, dtype=dtype)
    seeds = torch.randint(0, classes + 1, (batch, height // 3 + 1, width // 3 + 1), generator=generator)
    seeds = seeds.repeat_interleave(3, 1).repeat_interleave(3, 2)[:, :height, :width]
    seeds = torch.where(seeds == classes, 255, seeds).to(torch.uint8)
    return logits, displacement, seeds


def _gradients(function, logits, displacement, seeds, weights, **options):
    logits, displacement = logits.clone().requires_grad_(), displacement.clone().requires_grad_()
    losses = torch.stack(list(function(logits, displacement, seeds, **options)))
    return losses.detach(), *torch.autograd.grad(
        (losses * losses.new_tensor(weights)).sum(), (logits, displacement)
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_losses_and_gradients_are_those_of_the_reference_program(seed):
    scene = load_scene(seed)
    boundary = tensor(scene, "in_edge").double()
    logits = torch.log(boundary / (1 - boundary)).float()[None]
    losses, grad_logits, grad_displacement = _gradients(
        ops.inter_pixel_loss,
        logits,
        tensor(scene, "in_dp")[None],
        tensor(scene, "in_ir_label")[None],
        [0.5] * 4,
    )
    torch.testing.assert_close(losses.double(), tensor(scene, "loss"), rtol=1e-4, atol=0)
    for got, name in ((grad_logits, "loss_grad_edge"), (grad_displacement, "loss_grad_dp")):
        want = tensor(scene, name)
        torch.testing.assert_close(got[0], want, rtol=1e-4, atol=1e-4 * float(want.abs().max()))


@pytest.mark.parametrize("radius", [1, 2, 3, 5, 7, 10, 13, 16])
def test_every_radius_and_every_loss_alone(radius):
    logits, displacement, seeds = _case(2, 20, 37, seed=radius)
    for k in range(4):
        weights = [float(i == k) for i in range(4)]
        got = _gradients(ops.inter_pixel_loss, logits, displacement, seeds, weights, radius=radius)
        want = _gradients(oracle, logits, displacement, seeds, weights, radius=radius)
        for a, b in zip(got, want):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_gradcheck():
    logits, displacement, seeds = _case(1, 7, 9)
    assert torch.autograd.gradcheck(
        lambda e, d: tuple(ops.inter_pixel_loss(e, d, seeds, radius=3)),
        (logits.requires_grad_(), displacement.requires_grad_()),
    )


@pytest.mark.parametrize("levels", [1, 2, 5])
def test_ties_go_to_the_far_end_of_the_path(levels):
    """Logits of few different values: nearly every path has several maxima."""
    logits, displacement, seeds = _case(2, 24, 26, seed=levels)
    logits = (logits * levels / 2).round().clamp(-levels, levels)
    got = _gradients(ops.inter_pixel_loss, logits, displacement, seeds, [1.0] * 4)
    want = _gradients(oracle, logits, displacement, seeds, [1.0] * 4)
    for a, b in zip(got, want):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("height", "width"), [(9, 40), (40, 18), (1, 1), (5, 5), (10, 19), (11, 19), (10, 20)]
)
def test_grids_at_the_size_of_the_disc(height, width):
    logits, displacement, seeds = _case(2, height, width, classes=2)
    got = _gradients(ops.inter_pixel_loss, logits, displacement, seeds, [1.0] * 4)
    want = _gradients(oracle, logits, displacement, seeds, [1.0] * 4)
    for a, b in zip(got, want):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
    if height < 10 or width < 19:
        assert all(not part.any() for part in got)


@pytest.mark.parametrize("value", [0, 7, 255])
def test_one_kind_of_seed(value):
    logits, displacement, _ = _case(2, 14, 22, dtype=torch.float32)
    seeds = torch.full((2, 14, 22), value, dtype=torch.uint8)
    losses, grad_logits, grad_displacement = _gradients(
        ops.inter_pixel_loss, logits, displacement, seeds, [1.0] * 4
    )
    assert (losses > 0).tolist() == [value != 255, False, value == 7, value == 0]
    assert grad_logits.any() == (value != 255)
    assert grad_displacement.any() == (value != 255)


def test_means_run_over_the_whole_batch():
    """An image without known seeds changes nothing; a batch is not the mean of its images."""
    logits, displacement, seeds = _case(3, 16, 24)
    seeds[1] = 255
    both = ops.inter_pixel_loss(logits[[0, 2]], displacement[[0, 2]], seeds[[0, 2]])
    assert torch.equal(
        torch.stack(list(both)), torch.stack(list(ops.inter_pixel_loss(logits, displacement, seeds)))
    )


@pytest.mark.parametrize("dtype", [torch.int8, torch.int16, torch.int32, torch.int64])
def test_seeds_of_any_integer_type(dtype):
    logits, displacement, seeds = _case()
    if dtype == torch.int8:
        seeds = torch.where(seeds == 255, 1, seeds)
    want = ops.inter_pixel_loss(logits, displacement, seeds, radius=4)
    assert ops.inter_pixel_loss(logits, displacement, seeds.to(dtype), radius=4) == want


@pytest.mark.parametrize("logit", [-100.0, -30.0, 30.0, 100.0])
def test_certain_boundaries_have_finite_losses_and_gradients(logit):
    _, displacement, seeds = _case(1, 14, 24, dtype=torch.float32)
    parts = _gradients(ops.inter_pixel_loss, torch.full((1, 14, 24), logit), displacement, seeds, [1.0] * 4)
    assert all(torch.isfinite(part).all() for part in parts)


def test_float32_is_as_good_as_plain_torch():
    """Error against float64: at most 2x (losses) and 3x (gradients) that of the oracle in float32."""
    case = _case(2, 32, 40, dtype=torch.float32)
    exact = _gradients(oracle, case[0].double(), case[1].double(), case[2], [1.0] * 4)
    plain = _gradients(oracle, *case, [1.0] * 4)
    ours = _gradients(ops.inter_pixel_loss, *case, [1.0] * 4)
    for factor, a, b, c in zip((2, 3, 3), ours, plain, exact):
        floor = torch.finfo(torch.float32).eps * float(c.abs().max())
        assert float((a - c).abs().max()) <= factor * float((b - c).abs().max()) + floor


def test_threads_and_bands_give_the_same_bits():
    """One tall image is split into bands that share rows."""
    case = _case(1, 150, 40, dtype=torch.float32)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 4):
            torch.set_num_threads(count)
            results.append(_gradients(ops.inter_pixel_loss, *case, [1.0, 2.0, 3.0, 4.0]))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other))
    want = _gradients(oracle, case[0].double(), case[1].double(), case[2], [1.0, 2.0, 3.0, 4.0])
    for a, b in zip(results[0], want):
        torch.testing.assert_close(a.double(), b, rtol=1e-5, atol=1e-9)


def test_the_kernel_survives_what_the_function_refuses():
    logits, displacement, seeds = _case(dtype=torch.float32)
    logits[0, ::2] = float("nan")
    logits[1, 1::3] = float("inf")
    displacement[0, :, ::3] = float("nan")
    _, counts, state = torch.ops.wsis.inter_pixel_loss(logits, displacement, seeds, 5)
    torch.ops.wsis.inter_pixel_loss_backward(torch.ones(4), logits, seeds, counts, state)
    assert counts.min() >= 0


def test_counts_are_those_of_the_pairs():
    logits, displacement, seeds = _case(2, 22, 31)
    _, counts, state = torch.ops.wsis.inter_pixel_loss(logits, displacement, seeds, 10)
    rows, left, right = 13, 9, 22
    source = seeds[:, :rows, left:right]
    want = torch.zeros(3, dtype=torch.int64)
    for dy, dx in ops.neighbor_offsets(10).tolist():
        target = seeds[:, dy : dy + rows, left + dx : right + dx]
        known = (source < 255) & (target < 255)
        same = known & (source == target)
        want += torch.stack(
            [(same & (source == 0)).sum(), (same & (source > 0)).sum(), (known & ~same).sum()]
        )
    assert torch.equal(counts, want)
    assert state.numel() == 3 * seeds.numel(), "nothing is kept per pair"


def test_second_derivatives_are_refused():
    logits = torch.randn(1, 12, 12, requires_grad=True)
    seeds = torch.randint(0, 2, (1, 12, 12), dtype=torch.uint8)
    losses = ops.inter_pixel_loss(logits, torch.randn(1, 2, 12, 12), seeds, radius=3)
    (gradient,) = torch.autograd.grad(sum(losses), logits, create_graph=True)
    with pytest.raises(RuntimeError, match="second derivatives are not available"):
        gradient.square().sum().backward()
