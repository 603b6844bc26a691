"""Small calls of every operator on a GPU, for compute-sanitizer: ``python -m benchmarks.gpu_smoke [--first]``.

``--first`` makes one launch and stops. Exit codes: 0 done, 1 a wrong answer, 3 no CUDA device.
"""

from __future__ import annotations

import sys

import torch

from wsis import ops


def first_launch() -> None:
    """One kernel, checked by hand: a boundary of 0.25 everywhere leaves an affinity of 0.75 inside the image."""
    affinity = ops.edge_to_affinity(torch.full((1, 4, 4), 0.25, device="cuda"), radius=2)
    inside = affinity[affinity != 0]
    assert inside.numel() == 3 * 4 + 4 * 3 + 2 * 9, f"12 + 12 + 9 + 9 pairs lie inside, got {inside.numel()}"
    assert bool((inside == 0.75).all()), f"every affinity must be 0.75, got {inside.unique().tolist()}"


def every_op() -> None:
    """The samples of the tests, of one seed each, forward and where there is one backward."""
    from tests.ops.spec import all_specs, gradients, in_float32, map_tensors

    for spec in all_specs():
        samples = [map_tensors(in_float32(sample), torch.Tensor.cuda) for sample in spec.samples(0)]
        for sample in samples:
            spec.op(*sample.args, **sample.kwargs)
            if spec.differentiable:
                gradients(spec, sample)
        torch.cuda.synchronize()
        print(f"{spec.name}: {len(samples)} calls", flush=True)


def main() -> int:
    if not torch.cuda.is_available():
        print(
            f"wsis: the CUDA kernels are built, but torch {torch.__version__} sees no CUDA device to launch the first "
            "one on. Run this on a machine with an NVIDIA GPU and its driver (nvidia-smi must list it).",
            file=sys.stderr,
        )
        return 3
    first_launch()
    print(f"first kernel launch: correct, on {torch.cuda.get_device_name()}")
    if "--first" not in sys.argv[1:]:
        every_op()
    return 0


if __name__ == "__main__":
    sys.exit(main())
