"""Builds CUDA sources with g++ against the headers beside this file, and calls their host functions.

Needs no torch, so that a process under AddressSanitizer can use it as well.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np

__all__ = ["ORDERS", "Simulator", "SimulatorFault", "build", "kernel_sources"]

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ORDERS = ("forward", "reverse", "random")
_FLAGS = ("-std=c++20", "-O1", "-g1", "-fPIC", "-ffp-contract=off", "-fno-strict-aliasing", "-DWSIS_CUDA_SIM")
_SANITIZE = ("-fsanitize=address", "-fno-omit-frame-pointer")
_GUARD = 256
_CANARY = 0xA5


class SimulatorFault(RuntimeError):
    """A launch was refused, or the simulator found a fault in a kernel."""


def kernel_sources() -> list[Path]:
    """Every CUDA source of the library."""
    return sorted((ROOT / "csrc" / "cuda").glob("*.cu"))


@cache
def _headers_digest() -> str:
    folders = [ROOT / "csrc" / "common", ROOT / "csrc" / "cuda", HERE / "include"]
    files = sorted(path for folder in folders for path in folder.rglob("*") if path.suffix in ("", ".h", ".cuh"))
    digest = hashlib.sha256()
    for path in files:
        if path.is_file():
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def _compile(source: Path, folder: Path, flags: Sequence[str]) -> Path:
    key = hashlib.sha256(_headers_digest().encode() + " ".join(flags).encode() + source.read_bytes()).hexdigest()
    target = folder / f"{source.stem}-{key[:16]}.o"
    if target.exists():
        return target
    partial = target.with_suffix(f".{os.getpid()}.tmp")
    includes = ("-I", HERE / "include", "-I", ROOT / "csrc", "-I", HERE)
    command = ["g++", "-x", "c++", *flags, *includes, "-c", source, "-o", partial]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        raise RuntimeError(f"g++ refuses {source.name} for the simulator:\n{result.stderr}")
    os.replace(partial, target)
    return target


def build(name: str, sources: Iterable[Path], *, sanitize: bool = False) -> Path:
    """The shared library ``name`` of these CUDA sources; what has not changed is taken from ``build/cuda_sim``."""
    if shutil.which("g++") is None:
        raise RuntimeError("the CUDA simulator needs g++")
    folder = ROOT / "build" / "cuda_sim"
    folder.mkdir(parents=True, exist_ok=True)
    flags = [*_FLAGS, *(_SANITIZE if sanitize else ())]
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        files = [HERE / "scheduler.cpp", *sources]
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            objects = list(pool.map(lambda source: _compile(source, folder, flags), files))
        key = hashlib.sha256(" ".join(path.name for path in objects).encode()).hexdigest()
        library = folder / f"lib{name}-{key[:16]}.so"
        if not library.exists():
            partial = library.with_suffix(f".{os.getpid()}.tmp")
            linked = ["-shared", "-Wl,-Bsymbolic", "-o", partial, *objects]
            subprocess.run(["g++", *flags, *linked], check=True)
            os.replace(partial, library)
    return library


class _Buffer:
    """A copy of an array between two guards; under AddressSanitizer, memory of exactly its size instead."""

    def __init__(self, array: np.ndarray, exact: bool) -> None:
        self.array = array
        self.before = np.ascontiguousarray(array).tobytes()
        self.libc = ctypes.CDLL(None) if exact else None
        if self.libc is not None:
            self.libc.malloc.restype = ctypes.c_void_p
            self.libc.malloc.argtypes = [ctypes.c_size_t]
            self.libc.free.argtypes = [ctypes.c_void_p]
            self.address = self.libc.malloc(max(1, len(self.before)))
        else:
            self.memory = np.full(len(self.before) + 3 * _GUARD, _CANARY, dtype=np.uint8)
            first = self.memory.ctypes.data
            self.address = (first + 2 * _GUARD - 1) // _GUARD * _GUARD
            self.start = self.address - first
        ctypes.memmove(self.address, self.before, len(self.before))

    def collect(self, name: str, position: int) -> None:
        """Writes the result back and complains about bytes that nobody may write."""
        what = f"{name}: argument {position}"
        after = ctypes.string_at(self.address, len(self.before))
        if self.libc is not None:
            self.libc.free(self.address)
        else:
            end = self.start + len(self.before)
            if (self.memory[: self.start] != _CANARY).any():
                raise SimulatorFault(f"{what}: bytes before the buffer were written")
            if (self.memory[end:] != _CANARY).any():
                raise SimulatorFault(f"{what}: bytes behind the buffer were written")
        if self.array.flags.writeable:
            self.array[...] = np.frombuffer(after, self.array.dtype).reshape(self.array.shape)
        elif after != self.before:
            raise SimulatorFault(f"{what}: an input was written")


class Simulator:
    """The host functions ``*_cuda`` of a library made by :func:`build`.

    ``simulator.call("name", *arguments, order="random", seed=3)`` calls ``wsis::name``. NumPy arrays are passed as
    pointers: read-only ones as inputs, which must come back unchanged, others as outputs. ``None`` is a null
    pointer, an ``int`` any integer, a ``float`` a double, a ``np.float32`` a float; ctypes values go as they are.

    Raises:
        SimulatorFault: the launch was refused (``.args[0]`` names the CUDA error code), the kernel deadlocked or
            its threads met at different barriers, or wrote where it must not.
    """

    def __init__(self, library: Path, *, exact: bool = False) -> None:
        self.library = ctypes.CDLL(str(library))
        self.library.cusim_error.restype = ctypes.c_char_p
        self.library.cusim_configure.argtypes = [ctypes.c_int, ctypes.c_uint64]
        self.exact = exact
        listing = subprocess.run(
            ["nm", "-D", "--defined-only", str(library)], check=True, capture_output=True, text=True
        ).stdout
        self.symbols = {}
        for symbol in re.findall(r"\b(_ZN4wsis\d+\w+)$", listing, re.M):
            length, rest = re.match(r"_ZN4wsis(\d+)(\w+)", symbol).groups()
            if rest[: int(length)].endswith("_cuda"):
                self.symbols[rest[: int(length)]] = symbol

    def call(self, name: str, *arguments: object, order: str = "forward", seed: int = 1) -> None:
        function = getattr(self.library, self.symbols[name])
        function.restype = ctypes.c_int
        buffers: dict[int, _Buffer] = {}
        values = []
        for position, argument in enumerate(arguments):
            if isinstance(argument, np.ndarray):
                buffers[position] = _Buffer(argument, self.exact)
                values.append(ctypes.c_void_p(buffers[position].address))
            elif argument is None:
                values.append(ctypes.c_void_p(None))
            elif isinstance(argument, np.float32):
                values.append(ctypes.c_float(float(argument)))
            elif isinstance(argument, float):
                values.append(ctypes.c_double(argument))
            elif isinstance(argument, (int, np.integer)):
                values.append(ctypes.c_int64(int(argument)))
            else:
                values.append(argument)
        self.library.cusim_configure(ORDERS.index(order), seed)
        code = function(*values)
        if code != 0:
            text = self.library.cusim_error().decode() if code == 719 else "the launch was refused"
            raise SimulatorFault(f"{name}: CUDA error {code}: {text}")
        for position, buffer in buffers.items():
            buffer.collect(name, position)
