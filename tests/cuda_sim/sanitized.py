"""``python -m tests.cuda_sim.sanitized LIBRARY FAULT``: one planted kernel under AddressSanitizer."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from tests.cuda_sim.simulator import Simulator


def main() -> None:
    simulator = Simulator(Path(sys.argv[1]), exact=True)
    values = np.arange(128, dtype=np.int32)
    values.flags.writeable = False
    for order in ("forward", "random"):
        out = np.zeros(2, np.int32)
        simulator.call("faulty_sum_cuda", values, out, 2, int(sys.argv[2]), order=order)
        print("sum", out.sum())


if __name__ == "__main__":
    main()
