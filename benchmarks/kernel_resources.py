"""What the compiler says of every CUDA kernel, no GPU needed: ``python -m benchmarks.kernel_resources [FILE.cu ...]``.

Compiles the sources for one architecture with the flags of the build and reads registers, spills and shared memory from
``ptxas`` and the instruction mix from the disassembly. Needs nvcc; cuobjdump and nvdisasm from the toolkit, from
``pip install nvidia-cuda-cuobjdump nvidia-cuda-nvdisasm``, or from triton.
"""

from __future__ import annotations

import argparse
import collections
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Kernel", "kernels_of", "table"]

ROOT = Path(__file__).resolve().parent.parent
FLAGS = ("-std=c++20", "-O3", "-fmad=false", "-lineinfo", "-Xcudafe=--diag_suppress=177", "-Xptxas=-v", "-cubin")
SHOWN = ("FFMA", "FMUL", "FADD", "DADD", "IMAD", "IADD3", "LDG", "STG", "LDS", "STS", "ST", "ATOM", "RED", "BAR")


@dataclass(frozen=True)
class Kernel:
    """One compiled kernel: counts of instructions are static, not how often each runs."""

    name: str
    registers: int
    stack: int
    spilled: int
    shared: int
    instructions: dict[str, int]


def _tool(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/local/cuda/bin")
    spec = importlib.util.find_spec("triton")
    if found is None and spec is not None and spec.submodule_search_locations:
        beside = Path(spec.submodule_search_locations[0]) / "backends" / "nvidia" / "bin" / name
        found = str(beside) if beside.exists() else None
    if found is None:
        sys.exit(f"kernel_resources: {name} was not found; see python -m benchmarks.kernel_resources --help")
    return found


def _plain(mangled: list[str]) -> dict[str, str]:
    """Names without namespaces and parameters, where c++filt is there."""
    if not mangled or shutil.which("c++filt") is None:
        return {name: name for name in mangled}
    text = subprocess.run(["c++filt", *mangled], capture_output=True, text=True, check=True).stdout
    return {m: re.sub(r"^void ", "", _short(line)) for m, line in zip(mangled, text.splitlines())}


def _short(name: str) -> str:
    name = re.sub(r"\(anonymous namespace\)::|wsis::|walk::", "", name)
    depth = 0
    for i, letter in enumerate(name):
        depth += (letter == "<") - (letter == ">")
        if letter == "(" and depth == 0:
            return name[:i]
    return name


def _mixes(disassembly: str) -> dict[str, dict[str, int]]:
    """Instructions by kernel."""
    found = {}
    for part in disassembly.split("Function : ")[1:]:
        words = re.findall(r"/\*[0-9a-f]{4,5}\*/\s+(?:@!?U?P\w+\s+)?([A-Z0-9_]+)", part)
        found[part.split("\n")[0].strip()] = dict(collections.Counter(words))
    return found


def kernels_of(source: Path, architecture: str) -> list[Kernel]:
    """Every kernel of a CUDA source, by name."""
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder) / "out.cubin"
        command = [_tool("nvcc"), *FLAGS, f"-arch={architecture}", f"-I{ROOT / 'csrc'}", str(source), "-o", str(cubin)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"kernel_resources: nvcc refuses {source}:\n{done.stderr}")
        environment = {**os.environ, "PATH": f"{Path(_tool('nvdisasm')).parent}:{os.environ['PATH']}"}
        dump = subprocess.run(
            [_tool("cuobjdump"), "-sass", str(cubin)], capture_output=True, text=True, check=True, env=environment
        ).stdout
    mixes, rows = _mixes(dump), []
    names = _plain(sorted(mixes))
    for block in done.stderr.split("Compiling entry function '")[1:]:
        mangled = block.partition("'")[0]
        numbers = [int(n) for n in re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores", block).groups()]
        shared = re.search(r"(\d+) bytes smem", block)
        registers = int(re.search(r"Used (\d+) registers", block)[1])
        bytes_shared = int(shared[1]) if shared else 0
        rows.append(Kernel(names.get(mangled, mangled), registers, *numbers, bytes_shared, mixes.get(mangled, {})))
    return sorted(rows, key=lambda kernel: kernel.name)


def table(kernels: list[Kernel]) -> str:
    lines = [
        "| kernel | registers | stack | spilled | static shared | instructions | most of them |",
        "|---|---|---|---|---|---|---|",
    ]
    for k in kernels:
        mix = sorted(((n, k.instructions[n]) for n in SHOWN if n in k.instructions), key=lambda pair: -pair[1])[:5]
        text = ", ".join(f"{name} {count}" for name, count in mix)
        total = sum(k.instructions.values())
        lines.append(f"| `{k.name}` | {k.registers} | {k.stack} | {k.spilled} | {k.shared} | {total} | {text} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kernel_resources", description=__doc__.split("\n")[0])
    parser.add_argument("sources", nargs="*", type=Path, help="CUDA sources; all of the library when left out")
    parser.add_argument("--arch", default="sm_90a", help="architecture, such as sm_80")
    options = parser.parse_args(arguments)
    sources = options.sources or sorted((ROOT / "csrc" / "cuda").glob("*.cu"))
    kernels = [kernel for source in sources for kernel in kernels_of(source, options.arch)]
    print(f"nvcc for {options.arch}, {len(kernels)} kernels of {len(sources)} files\n")
    print(table(kernels))
    return 1 if any(kernel.spilled for kernel in kernels) else 0


if __name__ == "__main__":
    sys.exit(main())
