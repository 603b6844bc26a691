"""The same questions to every operator: oracle, gradients, layouts, threads, repeats, bad input, compiling."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.ops.spec import OpSpec, Sample, all_specs, flatten, gradients, in_float32, map_tensors

SPECS = all_specs()
BY_NAME = pytest.mark.parametrize("spec", SPECS, ids=[spec.name for spec in SPECS])
GPU = torch.cuda.is_available()
DEVICES = ["cpu"] + (["cuda"] if GPU else [])
NEEDS_GPU = pytest.mark.skipif(not GPU, reason="needs a GPU")
SCHEMAS = Path(__file__).parents[2] / "csrc" / "library.cpp"


def call(spec: OpSpec, sample: Sample):
    return spec.op(*sample.args, **sample.kwargs)


def assert_same(actual, expected) -> None:
    """Bit for bit, a NaN being equal to a NaN."""
    for a, e in zip(flatten(actual), flatten(expected), strict=True):
        if isinstance(a, Tensor):
            assert torch.equal(a.isnan(), e.isnan()) if a.is_floating_point() else True
            assert torch.equal(torch.nan_to_num(a), torch.nan_to_num(e)) if a.numel() else a.shape == e.shape
        else:
            assert a == e


def assert_agrees(spec: OpSpec, actual, expected) -> None:
    for a, e in zip(flatten(actual), flatten(expected), strict=True):
        if not isinstance(a, Tensor):
            assert a == e
        elif spec.exact or not a.is_floating_point():
            torch.testing.assert_close(a.cpu(), e.cpu().to(a.dtype), rtol=0, atol=0, equal_nan=True)
        else:
            torch.testing.assert_close(
                a.cpu().double(), e.cpu().double(), rtol=spec.rtol, atol=spec.atol, equal_nan=True
            )


def test_every_op_has_a_spec():
    declared = set(re.findall(r'"(\w+)\(', SCHEMAS.read_text()))
    covered = {name for spec in SPECS for name in (spec.name, *spec.also)}
    covered |= {f"{spec.name}_backward" for spec in SPECS if spec.differentiable}
    assert declared == covered


@pytest.mark.parametrize("device", DEVICES)
@BY_NAME
def test_matches_reference(spec: OpSpec, device: str):
    for seed in range(3):
        for sample in spec.samples(seed):
            sample = sample if device == "cpu" else in_float32(sample)
            actual = call(spec, map_tensors(sample, lambda t: t.to(device)))
            assert_agrees(spec, actual, spec.reference(*sample.args, **sample.kwargs))
            spec.invariants(sample, map_tensors(actual, lambda t: t.cpu()))


@BY_NAME
def test_samples_can_go_to_a_gpu_whole(spec: OpSpec):
    """No tensor may stay behind, hidden in an argument, and none be of a type that no GPU kernel has."""
    for sample in [*spec.samples(0), *spec.empty(), *(spec.gradcheck() if spec.differentiable else ())]:
        moved = map_tensors(in_float32(sample), lambda t: t.to("meta"))
        leaves = flatten((moved.args, moved.kwargs))
        assert all(leaf.is_meta and leaf.dtype != torch.double for leaf in leaves if isinstance(leaf, Tensor))
        assert all(isinstance(leaf, (Tensor, int, float, str, type(None))) for leaf in leaves)


@NEEDS_GPU
@BY_NAME
def test_cpu_and_cuda_agree(spec: OpSpec):
    for sample in map(in_float32, [*spec.samples(7), *spec.empty()]):
        assert_agrees(spec, call(spec, map_tensors(sample, Tensor.cuda)), call(spec, sample))


@NEEDS_GPU
@BY_NAME
def test_cuda_gives_the_same_bits_again_and_for_any_layout(spec: OpSpec):
    for sample in map(in_float32, spec.samples(6)):
        on_gpu = map_tensors(sample, Tensor.cuda)
        first = call(spec, on_gpu)
        for change in (Tensor.clone, _spread, _transposed):
            assert_same(call(spec, map_tensors(on_gpu, change)), first)


@NEEDS_GPU
@pytest.mark.parametrize("spec", [s for s in SPECS if s.differentiable], ids=lambda s: s.name)
def test_gradients_of_cpu_and_cuda_agree(spec: OpSpec):
    for sample in map(in_float32, spec.gradcheck()):
        on_gpu = gradients(spec, map_tensors(sample, Tensor.cuda))
        for ours, theirs in zip(on_gpu, gradients(spec, sample), strict=True):
            assert (ours is None) == (theirs is None)
            if ours is not None:
                near = 1e-6 + 2e-5 * float(theirs.abs().max())  # long sums in float32, in another order
                torch.testing.assert_close(ours.cpu(), theirs, rtol=1e-4, atol=near)


def _spread(t: Tensor) -> Tensor:
    """The same values in every second element of a larger buffer, at an offset."""
    buffer = t.new_zeros([2 * n + 1 for n in t.shape])
    window = buffer[tuple(slice(1, None, 2) for _ in t.shape)] if t.dim() else buffer
    return window.copy_(t)


def _transposed(t: Tensor) -> Tensor:
    return t.transpose(-1, -2).contiguous().transpose(-1, -2) if t.dim() >= 2 else t


@pytest.mark.parametrize("layout", [_spread, _transposed], ids=["sliced", "transposed"])
@BY_NAME
def test_any_layout_gives_the_same_bits(spec: OpSpec, layout):
    for sample in spec.samples(1):
        changed = map_tensors(sample.args, layout)
        assert_same(spec.op(*changed, **map_tensors(sample.kwargs, layout)), call(spec, sample))


@BY_NAME
def test_any_number_of_threads_gives_the_same_bits(spec: OpSpec):
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            results.append([call(spec, sample) for sample in spec.samples(2)])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert_same(other, results[0])


@BY_NAME
def test_repeats_are_bit_equal_and_arguments_untouched(spec: OpSpec):
    for sample in spec.samples(3):
        kept = map_tensors(sample.args, lambda t: t.clone())
        first = call(spec, sample)
        for _ in range(5):
            assert_same(call(spec, sample), first)
        assert_same(sample.args, kept)


@BY_NAME
def test_opcheck(spec: OpSpec):
    checks = ["test_schema", "test_faketensor", "test_aot_dispatch_dynamic"]
    if spec.differentiable:
        checks.append("test_autograd_registration")
    for sample in spec.samples(0)[:2]:
        for item in spec.calls(sample):
            torch.library.opcheck(item.overload, item.args, test_utils=checks)


@pytest.mark.parametrize("spec", [s for s in SPECS if s.differentiable], ids=lambda s: s.name)
def test_gradcheck(spec: OpSpec):
    samples = spec.gradcheck()
    assert samples, f"{spec.name} is differentiable, so its spec needs gradcheck samples"
    for sample in samples:
        args = tuple(
            arg.detach().clone().requires_grad_() if i in spec.differentiable else arg
            for i, arg in enumerate(sample.args)
        )

        def outputs(*inputs, _kwargs=sample.kwargs):
            leaves = flatten(spec.op(*inputs, **_kwargs))
            return tuple(leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.requires_grad)

        assert torch.autograd.gradcheck(outputs, args, nondet_tol=0.0)


@pytest.mark.parametrize("spec", [s for s in SPECS if s.differentiable], ids=lambda s: s.name)
def test_gradient_agrees_with_autograd_of_the_reference(spec: OpSpec):
    for sample in spec.gradcheck():
        grads = [gradients(spec, sample, function) for function in (spec.op, spec.reference)]
        for a, e in zip(*grads):
            zero = torch.zeros(())
            torch.testing.assert_close(a if a is not None else zero, e if e is not None else zero)


@pytest.mark.parametrize("spec", [s for s in SPECS if s.compile], ids=lambda s: s.name)
def test_compiles_into_one_graph(spec: OpSpec):
    torch.compiler.reset()
    compiled = torch.compile(spec.op, fullgraph=True, dynamic=True, backend="aot_eager")
    for sample in spec.samples(4)[:2]:
        assert_same(compiled(*sample.args, **sample.kwargs), call(spec, sample))


@BY_NAME
def test_bad_inputs_are_named(spec: OpSpec):
    bad = spec.bad_inputs()
    assert len(bad) >= 12
    for item in bad:
        with pytest.raises(item.error, match=item.match) as raised:
            spec.op(*item.args, **item.kwargs)
        text = str(raised.value)
        assert spec.op.__name__ in text, f"the message must name the op: {text}"
        assert "got" in text, f"the message must say what was got: {text}"
        if item.good is not None:
            call(spec, item.good)


@BY_NAME
def test_empty_input_gives_empty_output(spec: OpSpec):
    samples = spec.empty()
    assert samples, f"{spec.name}: give at least one empty sample"
    for sample in samples:
        assert_agrees(spec, call(spec, sample), spec.reference(*sample.args, **sample.kwargs))


@BY_NAME
def test_meta_device_gives_shapes(spec: OpSpec):
    if not spec.compile:
        pytest.skip("returns Python objects")
    for sample in spec.samples(5)[:2]:
        expected = flatten(call(spec, sample))
        meta = spec.op(*map_tensors(sample.args, lambda t: t.to("meta")),
                       **map_tensors(sample.kwargs, lambda t: t.to("meta")))
        for got, want in zip(flatten(meta), expected, strict=True):
            if isinstance(want, Tensor):
                assert got.dtype == want.dtype
                assert got.dim() == want.dim()


@BY_NAME
def test_fuzz(spec: OpSpec):
    for seed in range(100, 112):
        for sample in spec.samples(seed):
            assert_agrees(spec, call(spec, sample), spec.reference(*sample.args, **sample.kwargs))
