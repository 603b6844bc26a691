"""Packages what CMakeLists.txt builds; everything else about the project stands in pyproject.toml.

Environment: ``WSIS_CUDA=0|1|auto`` (compile the CUDA kernels), ``WSIS_CUDA_ARCHITECTURES`` (such as
``90-real``), ``MAX_JOBS``.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent


def _tool(name: str) -> str:
    """The tool of the running environment first, then the one on the PATH."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        sys.exit(f"wsis: {name} was not found; run: pip install {name}")
    return found


class CMakeBuild(build_ext):
    """One CMake run makes both extension modules."""

    def run(self) -> None:
        if importlib.util.find_spec("torch") is None:
            sys.exit(
                "wsis: the build needs torch, and it is not installed here. Run\n"
                "    pip install 'torch>=2.11' && pip install --no-build-isolation .\n"
                "or, to let pip fetch it for the build alone:\n    pip install ."
            )
        package = ROOT / "wsis" if self.inplace else Path(self.build_lib).resolve() / "wsis"
        build = ROOT / "build" / ("inplace" if self.inplace else "wheel")
        options = {
            "WSIS_OUTPUT_DIR": package,
            "WSIS_CUDA": os.environ.get("WSIS_CUDA", "auto"),
            "Python_EXECUTABLE": sys.executable,
            "CMAKE_MAKE_PROGRAM": _tool("ninja"),
        }
        defines = [f"-D{key}={value}" for key, value in options.items()]
        subprocess.run([_tool("cmake"), "-S", ROOT, "-B", build, "-G", "Ninja", *defines], check=True)
        jobs = ["-j", os.environ["MAX_JOBS"]] if "MAX_JOBS" in os.environ else []
        subprocess.run([_tool("cmake"), "--build", build, *jobs], check=True)

    def get_outputs(self) -> list[str]:
        return [str(path) for path in (Path(self.build_lib) / "wsis").glob("*.so")]


setup(
    ext_modules=[Extension("wsis._C", sources=[]), Extension("wsis._host", sources=[])],
    cmdclass={"build_ext": CMakeBuild},
)
