"""What operators with a gradient share."""

from __future__ import annotations

import torch

__all__ = ["refuse_second_derivative"]


def refuse_second_derivative(op: str) -> None:
    """Makes a second derivative through ``wsis::<op>_backward`` an error; torch alone would take it as 0."""

    def backward(ctx, *grads):
        raise RuntimeError(f"{op}: second derivatives are not available ({op}_backward has no gradient)")

    torch.library.register_autograd(f"wsis::{op}_backward", backward)
