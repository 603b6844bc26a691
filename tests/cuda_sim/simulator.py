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

__all__ = ["ORDERS", "Simulator", "SimulatorFault", "Struct", "build", "kernel_sources"]

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
        files = [*sorted(HERE.glob("*.cpp")), *sources]
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


_SCALARS = {
    np.bool_: ctypes.c_bool,
    np.uint8: ctypes.c_uint8,
    np.uint16: ctypes.c_uint16,
    np.int32: ctypes.c_int32,
    np.uint32: ctypes.c_uint32,
    np.int64: ctypes.c_int64,
    np.uint64: ctypes.c_uint64,
    np.float32: ctypes.c_float,
    np.float64: ctypes.c_double,
    bool: ctypes.c_bool,
    int: ctypes.c_int64,
    float: ctypes.c_double,
}
_TEMPLATE_CODES = {"h": "uint8", "t": "uint16", "j": "uint32", "m": "uint64", "f": "float32", "d": "float64"}


class Struct:
    """The members of a C++ struct that is passed by reference, in order; a Python ``int`` is an ``int64_t``."""

    def __init__(self, *members: object) -> None:
        self.members = members


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
        what = f"{name}: array {position}"
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
    """The functions of namespace ``wsis`` in a library made by :func:`build`.

    ``simulator.call("name", *arguments, order="random", seed=3)`` calls the host function ``wsis::name``; one
    instantiation of a template is called ``name<uint8>``. NumPy arrays are passed as pointers: read-only ones as
    inputs, which must come back unchanged, others as outputs. ``None`` is a null pointer, an ``int`` any integer, a
    ``float`` a double, a ``np.float32`` a float, a :class:`Struct` a reference to a struct.

    Raises:
        SimulatorFault: the launch was refused (the text names the CUDA error code), the kernel deadlocked or its
            threads met at different barriers, or wrote where it must not.
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
            name, rest = rest[: int(length)], rest[int(length) :]
            template = re.match(r"I(\w)E", rest)
            if template:
                name += f"<{_TEMPLATE_CODES.get(template[1], template[1])}>"
            self.symbols[name] = symbol

    def host_functions(self) -> set[str]:
        """Names, without template arguments, of everything that launches kernels."""
        return {name.split("<")[0] for name in self.symbols if re.search(r"_cuda(<\w+>)?$", name)}

    def call(self, name: str, *arguments: object, order: str = "forward", seed: int = 1) -> None:
        """Runs a host function; outputs are written into their arrays."""
        code = self._run(name, arguments, ctypes.c_int, order, seed)
        if code != 0:
            text = self.library.cusim_error().decode() if code == 719 else "the launch was refused"
            raise SimulatorFault(f"{name}: CUDA error {code}: {text}")

    def value(self, name: str, *arguments: object) -> int:
        """What a function that returns an ``int64_t`` answers."""
        return self._run(name, arguments, ctypes.c_int64, "forward", 1)

    def _run(self, name: str, arguments: Sequence[object], result: type, order: str, seed: int) -> int:
        function = getattr(self.library, self.symbols[name])
        function.restype = result
        buffers: list[_Buffer] = []
        values = [self._convert(argument, buffers) for argument in arguments]
        self.library.cusim_configure(ORDERS.index(order), seed)
        answer = function(*values)
        if result is not ctypes.c_int or answer == 0:
            for position, buffer in enumerate(buffers):
                buffer.collect(name, position)
        return answer

    def _convert(self, argument: object, buffers: list[_Buffer]) -> object:
        if argument is None:
            return ctypes.c_void_p(None)
        if isinstance(argument, np.ndarray):
            buffers.append(_Buffer(argument, self.exact))
            return ctypes.c_void_p(buffers[-1].address)
        if isinstance(argument, Struct):
            members = [self._convert(member, buffers) for member in argument.members]
            fields = [(f"member{i}", type(member)) for i, member in enumerate(members)]
            struct = type("Members", (ctypes.Structure,), {"_fields_": fields})
            return ctypes.byref(struct(*members))
        scalar = _SCALARS.get(type(argument))
        if scalar is None:
            raise TypeError(f"cannot pass a {type(argument).__name__} to a kernel")
        return scalar(argument)
