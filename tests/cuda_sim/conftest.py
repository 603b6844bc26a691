"""The two simulated libraries, built once."""

from __future__ import annotations

import os
import platform
import shutil

import pytest

from tests.cuda_sim.simulator import HERE, ORDERS, Simulator, build, kernel_sources


def pytest_collection_modifyitems(items) -> None:
    reason = None
    if platform.machine() not in ("x86_64", "AMD64"):
        reason = "the CUDA simulator switches fibers with x86-64 instructions"
    elif shutil.which("g++") is None:
        reason = "the CUDA simulator needs g++"
    for item in items:
        if reason and HERE in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=reason))


SANITIZE = os.environ.get("WSIS_CUDA_SIM_SANITIZE") == "1"


@pytest.fixture(scope="session")
def kernels() -> Simulator:
    """Every kernel of the library."""
    return Simulator(build("kernels", kernel_sources(), sanitize=SANITIZE), exact=SANITIZE)


@pytest.fixture(scope="session")
def planted() -> Simulator:
    """Kernels that only this folder knows: the words of CUDA one by one, and faults."""
    return Simulator(build("planted", sorted((HERE / "planted").glob("*.cu"))))


@pytest.fixture(params=ORDERS)
def order(request) -> str:
    """In which order the threads between two barriers run."""
    return request.param
