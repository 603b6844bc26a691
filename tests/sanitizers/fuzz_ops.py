"""Runs every operator on seeded samples and bad inputs inside a sanitized build.

Started by ``test_sanitizers.py`` with the sanitizer's library preloaded; for a long run by hand:

    python -m tests.sanitizers.build build address
    python -m tests.sanitizers.build run address --cases 10000
"""

from __future__ import annotations

import argparse
import os

import torch

from tests.ops.spec import OpSpec, all_specs


def fuzz(spec: OpSpec, cases: int) -> int:
    """Call the op until ``cases`` samples were run; returns how many were."""
    done, seed = 0, 1000
    while done < cases:
        for sample in [*spec.samples(seed), *(spec.empty() if seed == 1000 else [])]:
            spec.op(*sample.args, **sample.kwargs)
            done += 1
        seed += 1
    for sample in spec.gradcheck():
        args = [a.clone().requires_grad_() if i in spec.differentiable else a for i, a in enumerate(sample.args)]
        output = spec.op(*args, **sample.kwargs)
        leaves = output if isinstance(output, tuple) else (output,)
        sum(leaf.sum() for leaf in leaves).backward()
    for bad in spec.bad_inputs():
        try:
            spec.op(*bad.args, **bad.kwargs)
        except (TypeError, ValueError):
            done += 1
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=100, help="samples an op (default: %(default)s)")
    parser.add_argument("--canary", type=int, help="run this deliberate fault instead")
    options = parser.parse_args()
    from wsis import _library

    _library.load()
    if options.canary is not None:
        torch.ops.wsis_canary.canary(torch.zeros(7), options.canary)
        print("survived", flush=True)
        return
    torch.set_num_threads(2)
    for spec in all_specs():
        print(f"{spec.name}: {fuzz(spec, options.cases)} cases", flush=True)
    print("clean", flush=True)


if __name__ == "__main__":
    main()
    os._exit(0)  # the thread sanitizer takes other libraries' clean-up at exit for faults
