"""What every operator must show: one ``SPEC`` per file of ``tests/ops/specs``, judged by ``test_all_ops``."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "BadInput",
    "Call",
    "OpSpec",
    "Sample",
    "all_specs",
    "flatten",
    "gradients",
    "in_float32",
    "map_tensors",
]


@dataclass(frozen=True)
class Sample:
    """One valid call ``op(*args, **kwargs)`` on small CPU tensors; ``note`` says what is special."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class BadInput:
    """A call that must raise ``error`` with a text that matches ``match``.

    ``good`` is the positive control: the nearest call that is still accepted, where there is one.
    """

    args: tuple[Any, ...]
    error: type[Exception]
    match: str
    kwargs: dict[str, Any] = field(default_factory=dict)
    good: Sample | None = None


@dataclass(frozen=True)
class Call:
    """A call of the registered operator itself, for ``torch.library.opcheck``."""

    overload: Any
    args: tuple[Any, ...]


@dataclass(frozen=True)
class OpSpec:
    """Everything the generic tests need to know about one operator.

    Attributes:
        name: name in ``csrc/library.cpp``; backward operators are covered by their forward's spec (list them
            in ``also``).
        op: the public function.
        reference: the oracle with the same signature; it may want float64, which ``op`` is then compared to.
        samples: makes the samples from a seed; more seeds give the fuzz test more cases. Cover sizes 1, 2, 3,
            1xN, Nx1, one past a block, ties, all equal, zeros, padded batches (``sizes``).
        bad_inputs: at least 12.
        calls: operator calls for ``opcheck`` of one sample.
        invariants: raises ``AssertionError`` when the output of a sample breaks a law of the op.
        exact: outputs are compared bit for bit, floats too.
        rtol, atol: otherwise.
        differentiable: positions of the tensor arguments that have a gradient.
        gradcheck: float64 samples for ``torch.autograd.gradcheck``, away from ties.
        empty: samples with no elements in some dimension; their output only has to have the right shape.
        also: further operator names that this spec covers.
        compile: whether ``torch.compile(fullgraph=True)`` applies (not where Python objects are returned).
    """

    name: str
    op: Callable[..., Any]
    reference: Callable[..., Any]
    samples: Callable[[int], list[Sample]]
    bad_inputs: Callable[[], list[BadInput]]
    calls: Callable[[Sample], list[Call]]
    invariants: Callable[[Sample, Any], None]
    exact: bool = False
    rtol: float = 1e-5
    atol: float = 1e-6
    differentiable: tuple[int, ...] = ()
    gradcheck: Callable[[], list[Sample]] = list
    empty: Callable[[], list[Sample]] = list
    also: tuple[str, ...] = ()
    compile: bool = True


def all_specs() -> list[OpSpec]:
    """Every ``SPEC`` of ``tests/ops/specs``, by name."""
    from tests.ops import specs

    modules = sorted(module.name for module in pkgutil.iter_modules(specs.__path__))
    return [importlib.import_module(f"tests.ops.specs.{name}").SPEC for name in modules]


def flatten(output: Any) -> list[Any]:
    """The leaves of an output: tensors and plain values of tuples, lists, dicts and dataclasses."""
    if isinstance(output, (tuple, list)):
        return [leaf for item in output for leaf in flatten(item)]
    if isinstance(output, dict):
        return [leaf for key in sorted(output) for leaf in flatten(output[key])]
    if hasattr(output, "__dataclass_fields__"):
        return [leaf for name in output.__dataclass_fields__ for leaf in flatten(getattr(output, name))]
    return [output]


def map_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """``value`` with every tensor inside tuples, lists, dicts and dataclasses replaced by ``change(tensor)``."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(map_tensors(item, change) for item in value))
    if isinstance(value, (tuple, list)):
        return type(value)(map_tensors(item, change) for item in value)
    if isinstance(value, dict):
        return {key: map_tensors(item, change) for key, item in value.items()}
    if is_dataclass(value):
        return replace(value, **{f.name: map_tensors(getattr(value, f.name), change) for f in fields(value)})
    return value


def in_float32(sample: Sample) -> Sample:
    """The sample as a GPU takes it: its kernels have no float64."""
    return map_tensors(sample, lambda t: t.float() if t.dtype == torch.double else t)


def gradients(spec: OpSpec, sample: Sample, function: Callable[..., Any] | None = None) -> list[Tensor | None]:
    """Those of a weighted sum of all outputs of ``function`` (the op), by each differentiable argument."""
    args = list(sample.args)
    for i in spec.differentiable:
        args[i] = args[i].detach().clone().requires_grad_()
    leaves = [leaf for leaf in flatten((function or spec.op)(*args, **sample.kwargs)) if leaf.requires_grad]
    weights = [torch.linspace(0.5, 1.5, leaf.numel(), device=leaf.device).view_as(leaf) for leaf in leaves]
    total = sum((leaf * weight).sum() for leaf, weight in zip(leaves, weights))
    return list(torch.autograd.grad(total, [args[i] for i in spec.differentiable], allow_unused=True))


def generator(seed: int) -> torch.Generator:
    """A CPU generator, so that samples are the same everywhere."""
    return torch.Generator().manual_seed(seed)
