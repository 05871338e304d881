#!/usr/bin/env bash
# Every GPU test and benchmark in one go, under 8 minutes on one GPU, results into one folder:
#   benchmarks/gpu.sh [FOLDER]        default: benchmarks/results/DATE-GPU
# Goes on past failures; the last lines say which sections passed. PYTHON=python3.12 benchmarks/gpu.sh picks an interpreter with torch and triton.
set -uo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
gpu=$("$PYTHON" -c 'import torch; print(torch.cuda.get_device_name().replace(" ", "-"))') || { echo "no GPU that torch can use"; exit 1; }
out=${1:-benchmarks/results/$(date -u +%Y-%m-%d)-$gpu}
mkdir -p "$out"

# The compiled CPU library comes with the installed package; without it the CPU tests would test the reference.
"$PYTHON" -c 'import importlib.metadata as m; m.version("lsm2-kernels")' 2>/dev/null ||
  "$PYTHON" -m pip install --quiet --no-build-isolation --no-deps . || echo "not installed: CPU is served by the reference"

"$PYTHON" -m lsm2_kernels | tee "$out/machine.txt"
nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.mem,temperature.gpu,power.draw --format=csv >> "$out/machine.txt" 2>/dev/null
git rev-parse HEAD >> "$out/machine.txt" 2>/dev/null

passed=() failed=()
section() { # section NAME SECONDS COMMAND...
  local name=$1 limit=$2; shift 2
  echo "== $name"
  if timeout "$limit" "$@" > "$out/$name.txt" 2>&1; then passed+=("$name"); else failed+=("$name"); fi
  tail -n 25 "$out/$name.txt"
}
suite() { # suite NAME SECONDS: one benchmark file
  section "$1" "$2" "$PYTHON" -m pytest "benchmarks/$1.py" --benchmark-json="$out/$1.json"
}
section kernel_tests 180 "$PYTHON" -m pytest tests/kernels -q --deselect tests/kernels/test_aot.py
suite attention 150
suite packing 40
suite train_step 100

echo "passed: ${passed[*]:-none}"
echo "failed: ${failed[*]:-none}"
echo "results: $out"
[ ${#failed[@]} -eq 0 ]
