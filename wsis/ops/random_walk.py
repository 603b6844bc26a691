"""Propagation of seeds by a random walk over pixel affinities (IRNet, CVPR 2019, section 4.2)."""

from __future__ import annotations

import torch
from torch import Tensor

from wsis import _library
from wsis.ops._autograd import refuse_second_derivative
from wsis.ops._checks import (
    FLOATS,
    check_device,
    check_finite,
    check_float,
    check_index,
    check_int,
    check_sizes,
    check_tensor,
)
from wsis.ops.edge_to_affinity import MAX_RADIUS

__all__ = ["MAX_STEPS", "propagate_to_edge", "random_walk"]

_library.load()

MAX_STEPS = 1_000_000
_OP = "random_walk"
_INDEX_DTYPES = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
_ROUNDING = 1e-6  # how far a boundary may leave [0, 1]


def random_walk(
    seeds: Tensor,
    boundary: Tensor,
    image_index: Tensor | None = None,
    *,
    sizes: Tensor | None = None,
    radius: int = 5,
    beta: float = 10.0,
    num_steps: int = 256,
    tol: float = 1e-5,
    method: str = "chebyshev",
) -> Tensor:
    """Spreads each seed map over its image, slowly across class boundaries.

    With ``A_ij = affinity(i, j) ** beta`` for neighbours (:func:`wsis.ops.edge_to_affinity`), ``A_ii = 1``,
    ``d_j = sum_i A_ij`` and ``T = A D^-1``, the result is the row vector ``seeds T^num_steps``: each output
    pixel is a weighted mean of the seeds, so a constant map stays what it is. No matrix is built.

    Differentiable once in ``seeds`` and ``boundary``; of several equal maxima on a path the gradient goes to
    the one :func:`wsis.ops.edge_to_affinity` chooses.

    Args:
        seeds: ``[M, h, w]`` float32 (float64 on the CPU), finite; any number of maps per image.
        boundary: ``[B, h, w]`` in the dtype of ``seeds``: probabilities of a class boundary. NaN, infinities
            and values that leave [0, 1] by more than rounding (1e-6) are refused. While a graph is traced or
            captured nothing can be refused: then a value above 1 counts as 1, and a non-finite one spreads.
        image_index: ``[M]`` integers, the image of each map; None: one map per image (``M == B``), or all
            maps of the only image (``B == 1``).
        sizes: ``[B, 2]`` integers, true (height, width) of padded images; what lies outside is neither read
            nor reached, and 0 in the result.
        radius: 1..16, neighbours at a distance below it.
        beta: 0 or more; the larger, the harder a boundary.
        num_steps: 0..1,000,000 steps of the walk.
        tol: 0..1, how far the Chebyshev series may be from ``num_steps`` exact steps, relative to the seeds
            in the degree-weighted 2-norm (default 1e-5: 72 terms in place of 256 steps).
        method: ``"chebyshev"``, about ``sqrt(2 num_steps log(4 / tol))`` terms; or ``"power"``, exactly
            ``num_steps`` steps.

    Returns:
        ``[M, h, w]`` in the dtype of ``seeds``.

    Raises:
        TypeError, ValueError: an argument is not as described.
    """
    _check(seeds, boundary, radius, beta, num_steps, tol, method)
    index = _image_index(image_index, seeds, boundary)
    check_device(_OP, seeds=seeds, boundary=boundary, image_index=index, sizes=sizes)
    batch, height, width = boundary.shape
    table = check_sizes(_OP, sizes, batch, height, width)
    return torch.ops.wsis.random_walk.default(
        seeds, boundary, index, table, radius, float(beta), num_steps, float(tol), method == "power"
    )


def _check(
    seeds: Tensor, boundary: Tensor, radius: int, beta: float, num_steps: int, tol: float, method: str
) -> None:
    check_tensor(_OP, "seeds", seeds, ("M", "h", "w"), FLOATS)
    check_tensor(_OP, "boundary", boundary, ("B", seeds.shape[1], seeds.shape[2]), (seeds.dtype,))
    check_int(_OP, "radius", radius, 1, MAX_RADIUS)
    check_float(_OP, "beta", beta, 0.0)
    check_int(_OP, "num_steps", num_steps, 0, MAX_STEPS)
    check_float(_OP, "tol", tol, 0.0, 1.0)
    if method not in ("chebyshev", "power"):
        raise ValueError(f"{_OP}: method must be 'chebyshev' or 'power', got {method!r}")
    check_finite(_OP, "seeds", seeds)
    check_finite(_OP, "boundary", boundary)
    _check_probability("boundary", boundary)


def _check_probability(name: str, value: Tensor) -> None:
    """Skipped where :func:`wsis.ops._checks.check_finite` is."""
    if value.numel() == 0 or value.is_meta or torch.compiler.is_compiling():
        return
    if value.is_cuda and torch.cuda.is_current_stream_capturing():
        return
    low, high = (float(v) for v in torch.aminmax(value.detach()))
    if low < -_ROUNDING or high > 1 + _ROUNDING:
        got = low if low < -_ROUNDING else high
        raise ValueError(
            f"{_OP}: {name} must be probabilities in 0..1, got {got:.9g} (logits need a sigmoid first)"
        )


def _image_index(image_index: Tensor | None, seeds: Tensor, boundary: Tensor) -> Tensor:
    count, batch = seeds.shape[0], boundary.shape[0]
    if image_index is None:
        if count == batch:
            return torch.arange(count, device=seeds.device)
        if batch == 1:
            return torch.zeros(count, dtype=torch.int64, device=seeds.device)
        raise ValueError(
            f"{_OP}: image_index must say which of the {batch} images each of the {count} seed maps belongs "
            "to, got None (allowed for as many maps as images, or for one image)"
        )
    check_tensor(_OP, "image_index", image_index, (count,), _INDEX_DTYPES)
    check_index(_OP, "image_index", image_index, batch, f"boundary holds {batch} images")
    return image_index.to(torch.int64)


def propagate_to_edge(
    x: Tensor, edge: Tensor, radius: int = 5, beta: float = 10, exp_times: int = 8
) -> Tensor:
    """Drop-in for the function of this name in IRNet's code: attenuates ``x`` on the boundary, then walks.

    Args:
        x: ``[..., h, w]`` float32, CAMs of one image; leading dimensions are flattened.
        edge: ``[1, h, w]`` or ``[h, w]``, the class boundary probability.
        radius, beta: as in :func:`random_walk`.
        exp_times: 0..19; the walk takes ``2 ** exp_times`` steps.

    Returns:
        ``[N, 1, h, w]`` with ``N`` the product of the leading dimensions of ``x``. No gradient is recorded.

    Raises:
        TypeError, ValueError: an argument is not as described.
    """
    op = "propagate_to_edge"
    for name, value in (("x", x), ("edge", edge)):
        if not isinstance(value, Tensor):
            raise TypeError(f"{op}: {name} must be a tensor, got {type(value).__name__}")
    if edge.dim() == 2:
        edge = edge[None]
    check_tensor(op, "edge", edge, (1, "h", "w"), FLOATS)
    if x.dim() < 2 or x.shape[-2:] != edge.shape[-2:]:
        wanted = ", ".join(map(str, edge.shape[-2:]))
        raise ValueError(f"{op}: x must have shape [..., {wanted}] as edge has, got {list(x.shape)}")
    check_int(op, "exp_times", exp_times, 0, 19)
    with torch.no_grad():
        seeds = x.flatten(0, -3) if x.dim() > 2 else x[None]
        check_tensor(op, "x", seeds, ("N", "h", "w"), (edge.dtype,))
        index = torch.zeros(seeds.shape[0], dtype=torch.int64, device=seeds.device)
        walked = random_walk(
            seeds * (1 - edge), edge, index, radius=radius, beta=beta, num_steps=2**exp_times
        )
    return walked[:, None]


@torch.library.register_fake("wsis::random_walk")
def _(
    seeds: Tensor,
    boundary: Tensor,
    image_index: Tensor,
    sizes: Tensor | None,
    radius: int,
    beta: float,
    num_steps: int,
    tol: float,
    exact: bool,
) -> Tensor:
    return torch.empty_like(seeds, memory_format=torch.contiguous_format)


@torch.library.register_fake("wsis::random_walk_backward")
def _(
    grad: Tensor,
    seeds: Tensor,
    boundary: Tensor,
    image_index: Tensor,
    sizes: Tensor | None,
    radius: int,
    beta: float,
    num_steps: int,
    tol: float,
    exact: bool,
    need_boundary: bool,
) -> tuple[Tensor, Tensor]:
    grad_seeds = torch.empty_like(seeds, memory_format=torch.contiguous_format)
    if not need_boundary:
        return grad_seeds, seeds.new_empty(0)
    return grad_seeds, torch.empty_like(boundary, memory_format=torch.contiguous_format)


def _backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
    seeds, boundary, image_index, sizes = ctx.saved_tensors
    need_seeds, need_boundary = ctx.needs_input_grad[:2]
    if not (need_seeds or need_boundary):
        return (None,) * 9
    grad_seeds, grad_boundary = torch.ops.wsis.random_walk_backward.default(
        grad, seeds, boundary, image_index, sizes, *ctx.settings, need_boundary
    )
    return grad_seeds if need_seeds else None, grad_boundary if need_boundary else None, *(None,) * 7


def _setup_context(ctx, inputs, output) -> None:
    seeds, boundary, image_index, sizes, *ctx.settings = inputs
    ctx.save_for_backward(seeds, boundary, image_index, sizes)


torch.library.register_autograd("wsis::random_walk", _backward, setup_context=_setup_context)
refuse_second_derivative(_OP)
