#!/usr/bin/env bash
# Everything that needs a GPU, in under 9 minutes and without a network: build for the GPU at hand, first launch, CUDA
# tests, compute-sanitizer, benchmarks, report in benchmarks/results. Run from anywhere; PYTHON chooses the interpreter.
# The limits of the steps add up to 530 s; SCALE=5 makes every one five times longer, for a slow or busy machine.
# Exit codes: 0 all passed, 1 a step failed, 2 something needed is not installed, 3 no CUDA device.
set -uo pipefail
cd "$(dirname "$0")/.."
PYTHON="${PYTHON:-python3}"
SCALE="${SCALE:-1}"
LOGS="$(mktemp -d -t wsis-gpu-XXXXXX)"
STARTED=$SECONDS
SUMMARY=()
FAILED=0

# step NAME LIMIT_SECONDS COMMAND...: runs it, keeps its output, and goes on.
step() {
  local name="$1" limit=$(($2 * SCALE)) begin=$SECONDS code=0
  shift 2
  echo "== $name"
  timeout "$limit" "$@" >"$LOGS/$name.log" 2>&1 || code=$?
  tail -n 4 "$LOGS/$name.log"
  local state="passed"
  [ "$code" -eq 0 ] || { state="FAILED (exit $code)"; [ "$code" -ne 124 ] || state="FAILED (over $limit s)"; FAILED=1; }
  SUMMARY+=("$(printf '%-22s %-22s %4d s' "$name" "$state" $((SECONDS - begin)))")
  return "$code"
}

finish() {
  echo "== summary ($((SECONDS - STARTED)) s, logs in $LOGS)"
  printf '%s\n' "${SUMMARY[@]}"
  exit "$1"
}

command -v nvidia-smi >/dev/null && nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
missing=$("$PYTHON" - <<'PYTHON'
import importlib.util
need = {"torch": "torch", "numpy": "numpy", "pytest": "pytest", "pytest_benchmark": "pytest-benchmark",
        "pybind11": "pybind11", "ninja": "ninja", "cmake": "cmake", "setuptools": "setuptools"}
print(" ".join(name for module, name in need.items() if importlib.util.find_spec(module) is None))
PYTHON
) || { echo "gpu_acceptance: $PYTHON does not run" >&2; exit 2; }
for tool in ninja cmake; do
  case " $missing " in *" $tool "*) command -v "$tool" >/dev/null && missing="${missing//$tool/}" ;; esac
done
if [ -n "${missing// /}" ]; then
  echo "gpu_acceptance: $PYTHON lacks: $missing (no network is used here: install them beforehand)" >&2
  exit 2
fi

ARCH=$("$PYTHON" -c 'import torch
print("%d%d-real" % torch.cuda.get_device_capability() if torch.cuda.is_available() else "90-real")')
[ "$ARCH" = "90-real" ] && [ "$("$PYTHON" -c 'import torch; print(torch.cuda.is_available())')" = "True" ] && ARCH="90a-real"
echo "== building for $ARCH"
step build 170 env WSIS_CUDA=1 WSIS_CUDA_ARCHITECTURES="$ARCH" "$PYTHON" setup.py build_ext --inplace || finish 1

step first-launch 45 "$PYTHON" -m benchmarks.gpu_smoke --first
case $? in
  0) ;;
  3) finish 3 ;;
  *) finish 1 ;;
esac

step cuda-tests 120 "$PYTHON" -m pytest tests/ops -q -k "cuda" -p no:cacheprovider
step cuda-graphs 40 "$PYTHON" -m pytest tests/labels/test_without_read_back.py -q -p no:cacheprovider

SANITIZER="$(command -v compute-sanitizer || ls "${CUDA_HOME:-/usr/local/cuda}"/bin/compute-sanitizer 2>/dev/null || true)"
if [ -n "$SANITIZER" ]; then
  for tool in memcheck racecheck initcheck synccheck; do
    step "$tool" 30 env PYTORCH_NO_CUDA_MEMORY_CACHING=1 "$SANITIZER" --tool "$tool" --error-exitcode 9 \
      "$PYTHON" -m benchmarks.gpu_smoke
  done
else
  SUMMARY+=("$(printf '%-22s %s' compute-sanitizer 'NOT RUN: not installed with this CUDA toolkit')")
fi

REMAINING=$((530 - (SECONDS - STARTED) / SCALE))
step benchmarks $((REMAINING > 30 ? REMAINING : 30)) "$PYTHON" -m benchmarks.report -k cuda
finish "$FAILED"
