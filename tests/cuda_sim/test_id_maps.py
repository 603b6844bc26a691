"""The kernels on id maps, whose host functions take their tables as structures, against the CPU operators."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np
import torch

from tests.cuda_sim.simulator import ORDERS, Simulator, SimulatorFault, _Buffer
from tests.ops.spec import generator
from wsis import ops

SCAN_TILE, COMPONENT_CHUNK, STRIP_ROWS = 2048, 1024, 32
LETTERS = {np.uint8: "h", np.uint16: "t", np.uint32: "j", np.uint64: "m"}
MANGLED = "_ZN4wsis25connected_components_cudaI{}EEiRKNS_16ComponentProblemIT_EERKNS_16ComponentScratchEPv"


class Call:
    """One call with structures of guarded buffers.

    Arrays become pointers (read-only ones must come back unchanged), None a null pointer, integers ``int64``,
    other ctypes and NumPy values what they are.
    """

    def __init__(self, kernels: Simulator, order: str) -> None:
        self.kernels, self.order, self.buffers = kernels, order, []

    def structure(self, *values: object) -> ctypes.Structure:
        fields, content = [], []
        for k, value in enumerate(values):
            if isinstance(value, np.ndarray):
                self.buffers.append(_Buffer(value, self.kernels.exact))
                kind, value = ctypes.c_void_p, self.buffers[-1].address
            elif value is None:
                kind = ctypes.c_void_p
            elif isinstance(value, bool):
                kind = ctypes.c_bool
            elif isinstance(value, np.integer):
                kind, value = np.ctypeslib.as_ctypes_type(value.dtype), int(value)
            else:
                kind = ctypes.c_int64
            fields.append((f"f{k}", kind))
            content.append(value)
        return type("Table", (ctypes.Structure,), {"_fields_": fields})(*content)

    def run(self, symbol: str, *tables: ctypes.Structure) -> None:
        function = getattr(self.kernels.library, symbol)
        function.restype = ctypes.c_int
        self.kernels.library.cusim_configure(ORDERS.index(self.order), 1)
        if code := function(*map(ctypes.byref, tables), None):
            raise SimulatorFault(f"{symbol}: CUDA error {code}: {self.kernels.library.cusim_error().decode()}")

    def collect(self) -> None:
        for position, buffer in enumerate(self.buffers):
            buffer.collect("buffer", position)


def frozen(tensor: torch.Tensor | None) -> np.ndarray | None:
    if tensor is None:
        return None
    array = tensor.contiguous().numpy().copy()
    array.flags.writeable = False
    return array


def garbage(*shape: int, dtype: type) -> np.ndarray:
    return np.frombuffer(b"\xee" * (int(np.prod(shape)) * np.dtype(dtype).itemsize), dtype).reshape(shape).copy()


def tiles(count: int) -> int:
    return -(-count // SCAN_TILE)


def maps(seed: int) -> list[tuple[torch.Tensor, torch.Tensor | None]]:
    g = generator(seed)
    coarse = torch.randint(0, 4, (2, 9, 9), generator=g).repeat_interleave(5, 1).repeat_interleave(6, 2)
    sizes = torch.tensor([[45, 54], [17, 33]], dtype=torch.int32)
    return [
        (torch.randint(0, 2, (2, 19, 43), generator=g), None),
        (coarse, sizes),
        (torch.randint(0, 3, (1, 2, 37), generator=g), None),
        (torch.randint(0, 2, (1, 40, 1), generator=g), torch.tensor([[33, 1]], dtype=torch.int32)),
        (torch.ones(1, 33, 65, dtype=torch.int64), None),
        (torch.zeros(2, 3, 5, dtype=torch.int64), torch.tensor([[3, 5], [0, 0]], dtype=torch.int32)),
    ]


def test_connected_components(kernels, order):
    """Covers "connected_components_cuda" for the four widths of a label."""
    for seed, dtype in enumerate(LETTERS):
        for labels, sizes in maps(seed):
            for connectivity, background in ((4, 0), (8, 0), (8, None)):
                want = ops.connected_components(labels, connectivity, background=background, sizes=sizes)
                batch, height, width = labels.shape
                chunks = batch * -(-height * width // COMPONENT_CHUNK)
                ids, counts = garbage(*labels.shape, dtype=np.int32), garbage(batch, dtype=np.int32)
                values = labels.numpy().astype(dtype)
                values.flags.writeable = False
                call = Call(kernels, order)
                problem = call.structure(
                    values, frozen(sizes), ids, counts, batch, height, width,
                    dtype(0), background is not None, connectivity == 8,
                )  # fmt: skip
                scratch = call.structure(
                    garbage(*labels.shape, dtype=np.int32), garbage(chunks, dtype=np.int32),
                    garbage(chunks + 1, dtype=np.int64), garbage(tiles(chunks), dtype=np.int64),
                )  # fmt: skip
                call.run(MANGLED.format(LETTERS[dtype]), problem, scratch)
                call.collect()
                assert np.array_equal(ids, want[0].numpy())
                assert np.array_equal(counts, want[1].numpy())


def test_instance_stats(kernels, order):
    for seed, (labels, sizes) in enumerate(maps(3)):
        ids = labels.to(torch.int32) - int(seed == 0)
        batch, height, width = ids.shape
        for capacity in (1, 5):
            for scores in (None, torch.randn(ids.shape, generator=generator(seed)).mul(4).round() / 3):
                want = torch.ops.wsis.instance_stats(ids, scores, sizes, capacity)
                got = [garbage(*t.shape, dtype=t.numpy().dtype.type) for t in want]
                call = Call(kernels, order)
                problem = call.structure(
                    frozen(ids), frozen(scores), frozen(sizes), batch, height, width, capacity, *got
                )
                call.run(kernels.symbols["instance_stats_cuda"], problem)
                call.collect()
                for k, (a, b) in enumerate(zip(got, want)):
                    if k == 4:
                        np.testing.assert_allclose(a, b.numpy(), rtol=1e-9, atol=1e-6)
                    else:
                        assert np.array_equal(a, b.numpy())


def rle_on_simulator(
    kernels: Simulator, order: str, ids: torch.Tensor, sizes: torch.Tensor | None, capacity: int
) -> Sequence[np.ndarray]:
    """The three phases of mask_rle as the binding runs them."""
    batch, height, width = ids.shape
    keys, strips = batch * capacity, batch * width * -(-height // STRIP_ROWS)
    counts, offsets = garbage(strips, dtype=np.int32), garbage(strips + 1, dtype=np.int64)
    image = (frozen(ids), frozen(sizes), batch, height, width, capacity)

    call = Call(kernels, order)
    partial = garbage(tiles(strips), dtype=np.int64)
    scratch = call.structure(counts, offsets, partial, 0, *[None] * 12)
    call.run(kernels.symbols["mask_rle_count_cuda"], call.structure(*image), scratch)
    call.collect()
    changes = int(offsets[-1])
    if changes == 0:
        return [np.zeros(0), np.zeros(0), np.zeros(1), np.zeros(0)]

    def ints(n: int) -> np.ndarray:
        return garbage(n, dtype=np.int32)

    def longs(n: int) -> np.ndarray:
        return garbage(n, dtype=np.int64)

    grouped = [
        ints(changes), ints(changes), ints(keys), longs(keys), longs(keys), longs(keys + 1), ints(keys),
        longs(keys + 1), longs(changes), longs(changes), ints(changes), longs(changes + 1),
    ]  # fmt: skip
    partial = longs(tiles(max(keys, changes)))
    call = Call(kernels, order)
    scratch = call.structure(counts, offsets, partial, changes, *grouped)
    call.run(kernels.symbols["mask_rle_group_cuda"], call.structure(*image), scratch)
    call.collect()
    rows, size = int(grouped[7][-1]), int(grouped[11][-1])

    result = [longs(rows), longs(rows), longs(rows + 1), garbage(size, dtype=np.uint8)]
    call = Call(kernels, order)
    scratch = call.structure(counts, offsets, partial, changes, *grouped)
    call.run(kernels.symbols["mask_rle_write_cuda"], call.structure(*image), scratch, call.structure(*result))
    call.collect()
    return result


def test_mask_rle(kernels, order):
    for labels, sizes in maps(5):
        ids = labels.to(torch.int32)
        for capacity in (1, 5):
            want = torch.ops.wsis.mask_rle(ids, sizes, capacity)
            for a, b in zip(rle_on_simulator(kernels, order, ids, sizes, capacity), want):
                assert np.array_equal(a, b.numpy())
