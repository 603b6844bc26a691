"""Every CUDA kernel of the library against the CPU operator of the same name, in every order of threads."""

from __future__ import annotations

import numpy as np
import torch

from tests.cuda_sim.simulator import HERE
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
    for table in (None, sizes):
        for steps in (0, 1, 40, 300):
            want = ops.trace_displacement(field, steps, sizes=table)
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


def test_every_kernel_is_tested(kernels):
    """A host function that no test of this folder names would be CUDA code that never ran."""
    text = "".join(path.read_text() for path in HERE.glob("test_*.py"))
    assert not [name for name in kernels.symbols if f'"{name}"' not in text]
