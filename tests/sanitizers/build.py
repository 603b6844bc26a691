"""Builds and runs the operators under a sanitizer, beside the normal build (in ``build/<kind>``)."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KINDS = {"address": ("libasan.so", "libubsan.so", "libstdc++.so"), "thread": ("libtsan.so", "libstdc++.so")}
OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=0:exitcode=97",
    "UBSAN_OPTIONS": "print_stacktrace=1:exitcode=97",
    "TSAN_OPTIONS": f"exitcode=97:suppressions={Path(__file__).with_name('tsan.supp')}:halt_on_error=1",
}


def build(kind: str) -> Path:
    """Compile with ``-fsanitize=kind``; returns the folder to put first on ``PYTHONPATH``."""
    folder = ROOT / "build" / kind
    package = folder / "package" / "wsis"
    package.mkdir(parents=True, exist_ok=True)
    for entry in (ROOT / "wsis").iterdir():
        link = package / entry.name
        if entry.suffix != ".so" and entry.name != "__pycache__" and not link.is_symlink():
            link.symlink_to(entry)
    scripts = Path(sysconfig.get_path("scripts"))
    tool = {name: str(scripts / name) if (scripts / name).exists() else name for name in ("cmake", "ninja")}
    configure = [
        tool["cmake"], "-S", str(ROOT), "-B", str(folder), "-G", "Ninja", "-DWSIS_CUDA=0",
        f"-DWSIS_SANITIZE={kind}", f"-DWSIS_OUTPUT_DIR={package}", f"-DPython_EXECUTABLE={sys.executable}",
        f"-DCMAKE_MAKE_PROGRAM={tool['ninja']}",
    ]  # fmt: skip
    for command in (configure, [tool["cmake"], "--build", str(folder)]):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return package.parent


def run(kind: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``fuzz_ops.py`` in the sanitized build, the sanitizer's libraries loaded first.

    The C++ library is loaded with them: with the sanitizer alone the first exception aborts the process.
    """
    compiler = os.environ.get("CXX", "c++")
    preload = [
        subprocess.run(
            [compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=True
        ).stdout.strip()
        for name in KINDS[kind]
    ]
    environment = os.environ | OPTIONS | {
        "LD_PRELOAD": " ".join(preload),
        "PYTHONPATH": f"{ROOT / 'build' / kind / 'package'}{os.pathsep}{ROOT}",
        "OMP_NUM_THREADS": "2",
    }
    command = [sys.executable, "-P", str(ROOT / "tests" / "sanitizers" / "fuzz_ops.py"), *arguments]
    if sys.version_info < (3, 11):
        command.remove("-P")
    return subprocess.run(command, env=environment, cwd=ROOT / "build" / kind, capture_output=True, text=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=["build", "run"], help="compile, or run what was compiled")
    parser.add_argument("kind", choices=sorted(KINDS))
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="passed to fuzz_ops.py")
    options = parser.parse_args()
    if options.command == "build":
        print(build(options.kind))
        return
    result = run(options.kind, *options.arguments)
    sys.stdout.write(result.stdout)
    sys.stderr.write(result.stderr)
    sys.exit(result.returncode)


if __name__ == "__main__":
    main()
