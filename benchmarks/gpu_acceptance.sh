#!/usr/bin/env bash
# Everything that needs a GPU, in under 9 minutes and without a network: build for the GPU at hand, first launch, CUDA
# tests, compute-sanitizer, benchmarks, report. Run from anywhere, with the steps to make or without for all of them:
#   benchmarks/gpu_acceptance.sh [build] [launch] [tests] [graphs] [sanitizers] [benchmarks]
# PYTHON chooses the interpreter, RESULTS the folder of the report (benchmarks/results), LOGS that of the outputs.
# SCALE=5 makes every limit five times longer, for a slow or busy machine; without it they are such that the report is
# there within 540 s whatever happens.
# Exit codes: 0 all passed, 1 a step failed, 2 something needed is not installed, 3 no CUDA device.
set -uo pipefail
cd "$(dirname "$0")/.."
PYTHON="${PYTHON:-python3}"
SCALE="${SCALE:-1}"
RESULTS="${RESULTS:-benchmarks/results}"
LOGS="${LOGS:-$(mktemp -d -t wsis-gpu-XXXXXX)}"
WANTED=" ${*:-build launch tests graphs sanitizers benchmarks} "
STARTED=$SECONDS
SUMMARY=()
FAILED=0
export PYTHONUNBUFFERED=1  # what a step that is stopped has said is in its log
mkdir -p "$LOGS"
for name in $WANTED; do
  case "$name" in build | launch | tests | graphs | sanitizers | benchmarks) ;;
    *) echo "gpu_acceptance: unknown step $name" >&2; exit 2 ;;
  esac
done

wanted() { [[ "$WANTED" == *" $1 "* ]]; }

# close NAME EXIT_CODE LIMIT SECONDS: shows the end of the output of a step and notes how it went.
close() {
  local name="$1" code="$2" state="passed" lines=4
  [ "$code" -eq 0 ] || { state="FAILED (exit $code)"; FAILED=1; lines=40; }
  [ "$code" -ne 124 ] || state="FAILED (over $3 s)"
  echo "-- $name: $state"
  tail -n "$lines" "$LOGS/$name.log"
  SUMMARY+=("$(printf '%-22s %-22s %4d s' "$name" "$state" "$4")")
}

# step NAME LIMIT_SECONDS COMMAND...: runs it, keeps its output, and goes on.
step() {
  local name="$1" limit=$(($2 * SCALE)) begin=$SECONDS code=0
  shift 2
  echo "== $name"
  timeout -k 10 "$limit" "$@" >"$LOGS/$name.log" 2>&1 || code=$?
  close "$name" "$code" "$limit" $((SECONDS - begin))
  return "$code"
}

finish() {
  echo "== summary ($((SECONDS - STARTED)) s, logs in $LOGS)"
  printf '%s\n' "${SUMMARY[@]}"
  exit "$1"
}

command -v nvidia-smi >/dev/null && nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
missing=$("$PYTHON" - <<'PYTHON'
import importlib.metadata
import importlib.util
import platform
import sys

need = {"torch": "torch", "numpy": "numpy", "pytest": "pytest", "pytest_benchmark": "pytest-benchmark",
        "pytest_timeout": "pytest-timeout", "pybind11": "pybind11", "cv2": "opencv-python-headless", "ninja": "ninja",
        "cmake": "cmake", "setuptools": "setuptools>=77"}
missing = [name for module, name in need.items() if importlib.util.find_spec(module) is None]
if "setuptools>=77" not in missing and int(importlib.metadata.version("setuptools").split(".")[0]) < 77:
    missing.append("setuptools>=77")
print(" ".join(missing))
if "torch" not in missing:
    print("Python", platform.python_version(), "torch", importlib.metadata.version("torch"), file=sys.stderr)
PYTHON
) || { echo "gpu_acceptance: $PYTHON does not run" >&2; exit 2; }
for tool in ninja cmake; do
  case " $missing " in *" $tool "*) command -v "$tool" >/dev/null && missing="${missing//$tool/}" ;; esac
done
if [ -n "${missing// /}" ]; then
  echo "gpu_acceptance: $PYTHON lacks: $missing (no network is used here: install them beforehand)" >&2
  exit 2
fi

if wanted build; then
  ARCH=$("$PYTHON" -c 'import torch
found = torch.cuda.get_device_capability() if torch.cuda.is_available() else (9, 0)
print("90a-real" if found == (9, 0) else "%d%d-real" % found)')
  echo "building for $ARCH"
  step build 170 env WSIS_CUDA=1 WSIS_CUDA_ARCHITECTURES="$ARCH" "$PYTHON" setup.py build_ext --inplace || finish 1
fi

if wanted launch; then
  step first-launch 45 "$PYTHON" -m benchmarks.gpu_smoke --first
  case $? in
    0) ;;
    3) finish 3 ;;
    *) finish 1 ;;
  esac
fi

# Much of the tests is the CPU's side: four processes where pytest-xdist is there.
SHARED=()
"$PYTHON" -c 'import xdist' 2>/dev/null && [ "$(nproc)" -ge 8 ] && SHARED=(-n 4)
wanted tests && step cuda-tests 120 env OMP_NUM_THREADS=$(($(nproc) > 4 ? 4 : $(nproc))) \
  "$PYTHON" -m pytest tests/ops -k cuda -vv --tb=short -p no:cacheprovider "${SHARED[@]}"
wanted graphs && step cuda-graphs 40 "$PYTHON" -m pytest tests/labels/test_without_read_back.py -vv --tb=short -p no:cacheprovider

# The four tools at once: they take turns on the GPU, and most of their time is the processor's. They look at the
# kernels of wsis alone, but initcheck, which has to see who writes what is read; of it only what wsis reads counts.
SANITIZER="$(command -v compute-sanitizer || ls "${CUDA_HOME:-/usr/local/cuda}"/bin/compute-sanitizer 2>/dev/null || true)"
sanitize() {
  local tool="$1" only=()
  [[ "$("$SANITIZER" --help)" != *--kernel-name* ]] || only=(--kernel-name kns=wsis)
  [ "$tool" != memcheck ] || only+=(--report-api-errors no)  # a wrong launch is an exception here
  [ "$tool" != initcheck ] || only=(--print-limit 10000)  # of all errors, as others may come first
  timeout -k 10 "$SANITIZER_LIMIT" env PYTORCH_NO_CUDA_MEMORY_CACHING=1 "$SANITIZER" --tool "$tool" "${only[@]}" \
    --error-exitcode 9 "$PYTHON" -m benchmarks.gpu_smoke >"$LOGS/$tool.log" 2>&1
  local code=$?
  if [ "$tool" = initcheck ] && [ "$code" -eq 9 ] && ! grep -A 1 '= Uninitialized' "$LOGS/$tool.log" | grep wsis >/dev/null; then
    echo "no uninitialized read by wsis; those above are of other kernels" >>"$LOGS/$tool.log"
    code=0
  fi
  return "$code"
}
if wanted sanitizers && [ -z "$SANITIZER" ]; then
  SUMMARY+=("$(printf '%-22s %s' compute-sanitizer 'NOT RUN: not installed with this CUDA toolkit')")
elif wanted sanitizers; then
  echo "== compute-sanitizer"
  SANITIZER_LIMIT=$((110 * SCALE)) begin=$SECONDS
  TOOLS=(memcheck racecheck initcheck synccheck) RUNNING=()
  for tool in "${TOOLS[@]}"; do sanitize "$tool" & RUNNING+=($!); done
  for i in "${!TOOLS[@]}"; do
    code=0
    wait "${RUNNING[$i]}" || code=$?
    close "${TOOLS[$i]}" "$code" "$SANITIZER_LIMIT" $((SECONDS - begin))
  done
fi

# A report is written in any case: what does not begin in time is left out.
if wanted benchmarks; then
  REMAINING=$((540 - (SECONDS - STARTED) / SCALE))
  [ "$REMAINING" -ge 50 ] || REMAINING=50
  step benchmarks "$REMAINING" "$PYTHON" -m benchmarks.report benchmarks/bench_cuda.py --output "$RESULTS" \
    --limit $(((REMAINING - 30) * SCALE))
fi
finish "$FAILED"
