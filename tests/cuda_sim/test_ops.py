"""Every CUDA kernel of the library against the CPU operator of the same name, in every order of threads."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.cuda_sim.simulator import HERE, Struct
from wsis import ops


def _input(tensor: torch.Tensor) -> np.ndarray:
    array = tensor.detach().contiguous().numpy().copy()
    array.flags.writeable = False
    return array


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_edge_to_affinity(kernels, order):
    for shape, radius in (((2, 7, 9), 5), ((1, 5, 12), 10), ((1, 3, 4), 12)):
        boundary = torch.rand(shape, generator=_generator())
        want = ops.edge_to_affinity(boundary, radius)
        grad = torch.rand(want.shape, generator=_generator(1))
        size = (*shape, radius, None)
        got = np.empty(want.shape, np.float32)
        kernels.call("edge_to_affinity_cuda", _input(boundary), got, *size, order=order)
        assert np.array_equal(got, want.numpy())
        want = torch.ops.wsis.edge_to_affinity_backward(grad, boundary, radius)
        got = np.empty(shape, np.float32)
        kernels.call("edge_to_affinity_backward_cuda", _input(grad), _input(boundary), got, *size, order=order)
        assert np.array_equal(got, want.numpy())


def test_trace_displacement(kernels, order):
    field = 2 * torch.randn(2, 2, 9, 11, generator=_generator())
    field[1, :, 2:5] = field[1, :, 2:5].round()
    sizes = torch.tensor([[9, 11], [6, 4]], dtype=torch.int32)
    too_large = torch.tensor([[9, 2**31 - 1], [6, 12]], dtype=torch.int32)  # as nothing refuses it in a CUDA graph
    for table in (None, sizes, too_large):
        for steps in (0, 1, 40, 300):
            want = torch.ops.wsis.trace_displacement(field, table, steps)
            got = np.empty(want.shape, np.int32)
            table_array = None if table is None else _input(table)
            kernels.call("trace_displacement_cuda", _input(field), table_array, got, 2, 9, 11, steps, None, order=order)
            assert np.array_equal(got, want.numpy())


def test_inter_pixel_loss(kernels, order):
    for (batch, height, width), radius in (((2, 13, 43), 4), ((1, 11, 24), 10), ((1, 17, 33), 16), ((1, 3, 4), 5)):
        g = _generator(radius)
        logits = torch.randn(batch, height, width, generator=g).mul(2).round() / 2
        displacement = torch.randn(batch, 2, height, width, generator=g)
        seeds = torch.randint(0, 3, (batch, height, width), generator=g).mul(85).to(torch.uint8)
        seeds[:, ::5] = 255
        seeds[:, 1::4] = 0
        losses, counts, state = torch.ops.wsis.inter_pixel_loss(logits, displacement, seeds, radius)
        got_losses, got_counts = np.empty(4, np.float32), np.empty(3, np.int64)
        got_state = np.zeros(state.shape, np.int32)
        kernels.call(
            "inter_pixel_loss_cuda", _input(logits), _input(displacement), _input(seeds), got_state,
            np.zeros(1, np.int64), np.empty((512, 8)), got_losses, got_counts, batch, height, width, radius, None,
            order=order,
        )  # fmt: skip
        assert np.array_equal(got_state, state.numpy())
        assert np.array_equal(got_counts, counts.numpy())
        np.testing.assert_allclose(got_losses, losses.numpy(), rtol=1e-6)
        weights = torch.tensor([0.5, 1.0, 2.0, 3.0])
        want = torch.ops.wsis.inter_pixel_loss_backward(weights, logits, seeds, counts, state)
        got = [np.empty(grad.shape, np.float32) for grad in want]
        kernels.call(
            "inter_pixel_loss_backward_cuda", _input(weights), _input(logits), _input(seeds), _input(state),
            _input(counts), *got, batch, height, width, None, order=order,
        )  # fmt: skip
        for a, b in zip(got, want):
            np.testing.assert_allclose(a, b.numpy(), rtol=1e-6, atol=1e-12)


def test_peak_mask(kernels, order):
    g = _generator()
    heat = torch.randint(0, 9, (1, 2, 21, 37), generator=g).float() / 8
    heat[0, 0, 3, 4] = float("nan")
    ids = torch.randint(0, 3, (1, 21, 37), generator=g, dtype=torch.int32)
    for confine, window in ((None, 1), (None, 5), (None, 41), (ids, 7)):
        want = torch.ops.wsis.peak_mask(heat, confine, window, 0.25)
        got = np.empty(want.shape, np.bool_)
        kernels.call(
            "peak_mask_cuda", _input(heat), None if confine is None else _input(ids), got,
            np.empty(heat.shape, np.float32), 1, 2, 21, 37, window, np.float32(0.25), None, order=order,
        )  # fmt: skip
        assert np.array_equal(got, want.numpy())


def _ids(batch: int, height: int, width: int, capacity: int) -> torch.Tensor:
    """Patches of ids 0..capacity with single pixels between."""
    g = _generator(capacity)
    coarse = torch.randint(0, capacity + 1, (batch, height // 4 + 1, width // 4 + 1), generator=g)
    ids = coarse.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, :height, :width].clone()
    noise = torch.randint(0, capacity + 1, ids.shape, generator=g)
    return torch.where(torch.rand(ids.shape, generator=g) < 0.1, noise, ids).int().contiguous()


def test_group_pixels(kernels, order):
    batch, height, width, count = 2, 13, 21, 14
    g = _generator()
    offsets = 4 * torch.randn(batch, 2, height, width, generator=g)
    foreground = _ids(batch, height, width, 4)
    image = torch.arange(count) // 7
    component = torch.randint(1, 5, (count,), generator=g) + (image << 32)
    component, rank = component.sort(stable=True)
    yx = torch.rand(count, 2, generator=g) * torch.tensor([height, width])
    ids = (torch.arange(count)[rank] % 7 + 1).int()
    want = torch.ops.wsis.group_pixels(offsets, foreground, yx, component, ids)
    got = np.empty(want.shape, np.int32)
    kernels.call(
        "group_pixels_cuda", _input(offsets), _input(foreground), _input(yx), _input(component), _input(ids), got,
        batch, height, width, count, None, order=order,
    )  # fmt: skip
    assert np.array_equal(got, want.numpy())


def test_center_target(kernels, order):
    batch, classes, height, width, reach = 2, 3, 24, 31, 5
    g = _generator()
    ids = _ids(batch, height, width, 6)
    key = torch.tensor([1, 3, 4, 6, (1 << 32) + 2, (1 << 32) + 5])
    label = torch.randint(0, classes, (6,), generator=g)
    score = torch.rand(6, generator=g)
    yx = torch.stack([torch.randint(-3, height + 3, (6,), generator=g), torch.randint(0, width, (6,), generator=g)], 1)
    bell = torch.exp(-torch.arange(2 * reach**2 + 1) / 8.0)
    want = torch.ops.wsis.center_target(ids, key, label, score, yx, bell, classes, reach)
    got = [np.zeros(t.shape, np.float32) for t in want]
    kernels.call(
        "center_target_cuda", _input(ids), _input(key), _input(label), _input(score), _input(yx), _input(bell), *got,
        Struct(batch, classes, height, width, 6, reach), None, order=order,
    )  # fmt: skip
    for a, b in zip(got, want):
        assert np.array_equal(a, b.numpy())


@pytest.mark.parametrize(("targets", "power"), [(1, 2), (2, 1), (2, 2)])
def test_weighted_error(kernels, order, targets, power):
    batch, channels, plane = 2, 3, 12 * 29
    g = _generator()
    prediction, *target = (torch.randn(batch, channels, 12, 29, generator=g) for _ in range(1 + targets))
    weight = [torch.rand(batch, 1, 12, 29, generator=g).sub(0.6).clamp_min(0) for _ in target]
    pairs = [x for pair in zip(target, weight) for x in pair] + [None] * (4 - 2 * targets)
    factor = torch.tensor([0.5, 2.0], dtype=torch.float64)
    sums, counts = torch.ops.wsis.weighted_error(prediction, *pairs, power)
    gradient = torch.ops.wsis.weighted_error_backward(factor, prediction, *pairs, power)
    arrays = [_input(prediction), *(None if x is None else _input(x) for x in (*pairs[::2], *pairs[1::2]))]
    problem = Struct(*arrays, batch, channels, plane, power == 2)
    got_sums, got_counts, got = np.empty(2), np.empty(2, np.int64), np.empty(gradient.shape, np.float32)
    kernels.call("weighted_error_cuda", problem, np.empty((512, 4)), got_sums, got_counts, None, order=order)
    kernels.call("weighted_error_backward_cuda", problem, _input(factor), got, None, order=order)
    np.testing.assert_allclose(got_sums, sums.numpy(), rtol=1e-6)
    assert np.array_equal(got_counts, counts.numpy())
    assert np.array_equal(got, gradient.numpy())


def test_dense_crf(kernels, order):
    batch, sets, height, width, most = 2, 3, 9, 14, 3
    g = _generator()
    images = torch.randint(0, 256, (batch, 3, height, width), generator=g, dtype=torch.uint8)
    labels = _ids(sets, height, width, 1).to(torch.uint8)
    counts, index = torch.tensor([3, 2, 2], dtype=torch.int32), torch.tensor([0, 0, 1], dtype=torch.int32)
    sizes = torch.tensor([[9, 14], [7, 10]], dtype=torch.int32)
    options = (0.7, 3, 3.0, 3.0, 50.0, 5.0, 10.0)
    for classes in (0, most):
        want = torch.ops.wsis.dense_crf(images, labels, counts, index, sizes, *options, classes)
        got = np.empty(want.shape, want.numpy().dtype)
        data = Struct(
            _input(images), _input(labels), _input(counts), _input(index), _input(sizes),
            None if classes else got, got if classes else None, batch, sets, height, width, np.int32(classes),
        )  # fmt: skip
        parameters = Struct(*(np.int32(v) if isinstance(v, int) else np.float32(v) for v in options))
        workspace = np.empty(kernels.value("dense_crf_workspace", data), np.uint8)
        kernels.call("dense_crf_cuda", data, parameters, workspace, None, order=order)
        if classes:
            np.testing.assert_allclose(got, want.numpy(), rtol=1e-4, atol=1e-5)
        else:
            assert np.array_equal(got, want.numpy())


def test_class_scores(kernels, order):
    batch, classes, height, width = 2, 4, 9, 31
    g = _generator()
    semantic = 3 * torch.randn(batch, classes + 1, height, width, generator=g)
    center = torch.rand(batch, classes, height, width, generator=g)
    labels = torch.randint(-1, classes + 2, (batch, height, width), generator=g, dtype=torch.int32)
    want = torch.ops.wsis.class_scores(semantic, center, labels)
    got = [np.empty(t.shape, np.float32) for t in want]
    kernels.call(
        "class_scores_cuda", _input(semantic), _input(center), _input(labels), *got, batch, classes, height * width,
        None, order=order,
    )  # fmt: skip
    for a, b in zip(got, want):
        np.testing.assert_allclose(a, b.numpy(), rtol=1e-6)


@pytest.mark.parametrize("shape", [(2, 40, 61), (1, 97, 131)])
def test_filter_ids(kernels, order, shape):
    """The second shape makes every warp go over its part of the table twice."""
    batch, height, width = shape
    ids = torch.ops.wsis.connected_components(_ids(batch, height, width, 3), None, 4, 0)[0]
    ids[0, 3, 5], ids[-1, 7, 9] = -4, height * width + 1
    ids[0, 5, 3] = height * width
    for low, high in ((1, 2**31 - 1), (2, 9), (0, 1)):
        want = torch.ops.wsis.filter_ids(ids, low, high)
        table = np.zeros((batch, height * width + 1), np.int32)
        kept, counts = np.empty(ids.shape, np.int32), np.zeros(batch, np.int32)
        kernels.call(
            "filter_ids_cuda", _input(ids), table, kept, counts, batch, height * width, low, high, None, order=order
        )
        assert np.array_equal(kept, want[0].numpy())
        assert np.array_equal(counts, want[1].numpy())


@pytest.mark.parametrize("indexed", [False, True])
def test_mask_iou(kernels, order, indexed):
    g = _generator()
    a, b = (torch.rand(count, 7, 45, generator=g) < share for count, share in ((4, 0.2), (3, 0.6)))
    index = (torch.tensor([0, 1, 1, 2]), torch.tensor([1, 0, 7])) if indexed else (None, None)
    want = torch.ops.wsis.mask_iou(a, b, *index)
    got = [np.empty(t.shape, np.int64) for t in want]
    sets = Struct(_input(a), _input(b), *(None if t is None else _input(t) for t in index), 4, 3, 7 * 45)
    packed = np.empty((7, 2 * ((7 * 45 + 63) // 64)), np.uint32)
    kernels.call("mask_iou_cuda", sets, packed, *got, None, order=order)
    for result, expected in zip(got, want):
        assert np.array_equal(result, expected.numpy())


def test_every_kernel_is_tested(kernels):
    """A host function that no test of this folder names would be CUDA code that never ran."""
    text = "".join(path.read_text() for path in HERE.glob("test_*.py"))
    assert not [name for name in kernels.host_functions() if f'"{name}"' not in text]
