"""Each word of CUDA that the simulator knows does what CUDA's manual says, in every order of threads."""

from __future__ import annotations

import numpy as np
import pytest

from tests.cuda_sim.simulator import SimulatorFault


def _constant(values) -> np.ndarray:
    array = np.array(values, dtype=np.int32)
    array.flags.writeable = False
    return array


@pytest.mark.parametrize("threads", [32, 64])
def test_warps(planted, order, threads):
    v = _constant(np.random.default_rng(0).integers(0, 50, threads))
    out = np.zeros((threads, 16), np.int32)
    planted.call("warp_words_cuda", v, out, threads, order=order)
    for first in range(0, threads, 32):
        warp, got = v[first : first + 32].astype(np.int64), out[first : first + 32]
        lane = np.arange(32)
        want = [
            np.full(32, warp[3]),
            np.where(lane >= 2, warp[lane - 2], warp),
            np.where(lane < 30, warp[(lane + 2) % 32], warp),
            warp[lane ^ 5],
            np.where(lane % 8 < 7, warp[(lane + 1) % 32], warp),
            np.full(32, sum(int(b) << i for i, b in enumerate(warp % 2))).astype(np.uint32).view(np.int32),
            np.full(32, int((warp == 7).any())),
            np.full(32, 1),
            np.full(32, warp.sum()),
            np.full(32, warp.min()),
            np.full(32, warp.max()),
            np.array([sum(1 << i for i in lane if warp[i] % 4 == w % 4) for w in warp], np.uint32).view(np.int32),
            np.full(32, 4 * warp[31] + 1),
            np.where(lane < 16, warp[:16].sum(), warp[16:].max()),
            np.array([_bits(int(w)) for w in warp]),
            warp,
        ]
        for k, column in enumerate(want):
            assert np.array_equal(got[:, k], column), f"word {k}"


def _bits(v: int) -> int:
    return v.bit_count() + 100 * ((v & -v).bit_length()) + 10000 * (32 - v.bit_length())


def test_a_block_that_is_no_whole_number_of_warps(planted, order):
    v = _constant(range(40))
    out = np.zeros((40, 16), np.int32)
    planted.call("warp_words_cuda", v, out, 40, order=order)
    assert (out[32:, 8] == sum(range(32, 40))).all()
    assert (out[32:, 10] == 39).all()


def test_block_votes(planted, order):
    v = _constant([1, 3, 5, 7] * 10 + [0, 2] * 20 + [2, 1] * 20)
    out = np.zeros((3, 3), np.int32)
    planted.call("block_words_cuda", v, out, 3, 40, order=order)
    assert out.tolist() == [[40, 0, 20], [1, 0, 1], [1, 0, 0]]


def test_atomics(planted, order):
    state = np.array([0, 0, 0, 0, 0, -1, 0, 0], np.int32)
    planted.call("atomic_words_cuda", state, 3, 40, order=order, seed=5)
    xor = int(np.bitwise_xor.reduce(np.arange(120)))
    assert state.tolist() == [7140, -120, -119, 119, 2**31 - 1, -(2**31), xor, 100]


def test_clusters_keep_their_own_shared_memory(planted, order):
    out = np.zeros((2, 8), np.int32)
    planted.call("cluster_words_cuda", out, 8, 32, 4, order=order)
    assert out[0].tolist() == [32, 64, 96, 128] * 2
    assert out[1].tolist() == [1001, 1002, 1003, 1000, 1005, 1006, 1007, 1004]


def test_grid_barrier(planted, order):
    out = np.zeros(6, np.int32)
    planted.call("grid_words_cuda", _constant([3, 1, 4, 1, 5, 9]), np.zeros(6, np.int32), out, 6, order=order)
    assert out.tolist() == [3, 4, 8, 9, 14, 23]


def test_indices_in_three_dimensions(planted, order):
    out = np.full((3, 1, 2, 2, 3, 2, 2, 3), 99, np.uint32)
    planted.call("index_words_cuda", out, order=order)
    for bz, by, bx, tz, ty, tx in np.ndindex(out.shape[:6]):
        assert out[bz, by, bx, tz, ty, tx].tolist() == [[bx, by, bz], [tx, ty, tz]]


@pytest.mark.parametrize(
    ("size", "allowed", "code"),
    [(48 << 10, 0, 0), ((48 << 10) + 1, 0, 1), (227 << 10, 1, 0), ((227 << 10) + 1, 1, 1)],
)
def test_shared_memory_above_the_limit_is_refused(planted, size, allowed, code):
    call = ("shared_words_cuda", np.zeros(2, np.int32), size, allowed)
    if code == 0:
        planted.call(*call)
    else:
        with pytest.raises(SimulatorFault, match=f"CUDA error {code}"):
            planted.call(*call)


@pytest.mark.parametrize(("threads", "fits"), [(0, False), (1024, True), (1025, False)])
def test_blocks_above_the_limit_are_refused(planted, threads, fits):
    out = np.zeros(1024, np.int32)
    if fits:
        planted.call("faulty_launch_cuda", out, threads)
    else:
        with pytest.raises(SimulatorFault, match="CUDA error 9"):
            planted.call("faulty_launch_cuda", out, threads)
