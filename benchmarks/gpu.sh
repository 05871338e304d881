#!/usr/bin/env bash
# Every GPU test and benchmark in one go, under 8 minutes on one GPU, results into one folder:
#   benchmarks/gpu.sh [--dry-run] [--only SECTION,SECTION...] [FOLDER]        default: benchmarks/results/DATE-GPU
#
#   environment   versions, clocks, temperature, measured rates of matrix products and of copies           environment.json
#   kernel_tests  the tests of the kernels that concern a GPU, the Triton suite natively                    kernel_tests.xml
#   attention     python -m benchmarks.attention_gpu: ours against every other way                          attention.json
#   tile_sweep    python -m benchmarks.tile_sweep: which tiles are fastest here                             tile_sweep.json
#   train_step    python -m benchmarks.train_step: a step of the 25M model, packed and as others do it      train_step.json
#   packing       pack and unpack against plain copies                                                      packing.json
#
# Goes on past failures; every section has its own time limit, and what it printed is in log.txt. The last lines, also in summary.txt, say
# how each section went. --only runs some sections anew into a folder that has the others. --dry-run does all of it with tiny sizes on a CPU,
# in under two minutes, and says nothing about speed. Needed are torch and Triton, numpy, einops, pyarrow, safetensors, rich and pytest;
# with pytest-benchmark packing runs, too, and with pytest-xdist the tests are sooner done. PYTHON=python3.12 picks an interpreter.
set -uo pipefail

SECTIONS="environment kernel_tests attention tile_sweep train_step packing"
PYTHON=${PYTHON:-python3}
dry_run="" only=$SECTIONS out=""
while [ $# -gt 0 ]; do
  case $1 in
    --dry-run) dry_run=--dry-run ;;
    --only) only=${2-}; only=${only//,/ }; shift ;;
    -*) echo "unknown option $1; see the head of $0" >&2; exit 2 ;;
    *) out=$1; [[ $out = /* ]] || out=$PWD/$out ;;
  esac
  shift || break
done
for name in ${only:-nothing}; do
  [[ " $SECTIONS " = *" $name "* ]] || { echo "there is no section $name; there are $SECTIONS" >&2; exit 2; }
done

cd "$(dirname "$0")/.."
if [ -n "$dry_run" ]; then
  export CUDA_VISIBLE_DEVICES="" TRITON_INTERPRET=1
  machine=dry-run
else
  unset TRITON_INTERPRET
  machine=$("$PYTHON" -c 'import torch; print(torch.cuda.get_device_name().replace(" ", "-"))') || { echo "no GPU that torch can use" >&2; exit 1; }
fi
out=${out:-$PWD/benchmarks/results/$(date -u +%Y-%m-%d)-$machine}
mkdir -p "$out"
log=$out/log.txt summary=$out/summary.txt
touch "$log" "$summary"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export PYTHONUNBUFFERED=1 # what a section printed before its time was up is in the log

has() { "$PYTHON" -c "import $1" 2>/dev/null; }
note() { # note NAME RESULT SECONDS HEADLINE: this section's line in the summary, instead of an earlier one
  local name
  grep -v "^$1 " "$summary" > "$scratch/lines"
  printf '%-13s %-8s %4s s  %.160s\n' "$@" >> "$scratch/lines"
  for name in $SECTIONS; do grep "^$name " "$scratch/lines"; done > "$summary"
}
section() { # section NAME SECONDS COMMAND...
  local name=$1 limit=$2 start=$SECONDS lines result=passed status; shift 2
  [[ " $only " = *" $name "* ]] || return 0
  lines=$(wc -l < "$log")
  echo "== $name: $*" | tee -a "$log"
  timeout --signal=INT --kill-after=10 "$limit" "$@" >> "$log" 2>&1 # the first signal lets Python write what it has
  status=$?
  [ $status -eq 0 ] || result=failed
  [ $status -ne 124 ] && [ $status -ne 137 ] || result=timeout
  tail -n "+$((lines + 2))" "$log" | tail -n 40
  note "$name" $result $((SECONDS - start)) "$(tail -n "+$((lines + 2))" "$log" | grep -v '^[[:space:]]*$' | tail -n 1)"
}
suite() { # suite NAME SECONDS PYTEST_OPTIONS...: one file of pytest-benchmark
  local name=$1 limit=$2; shift 2
  [[ " $only " = *" $name "* ]] || return 0
  if has pytest_benchmark; then
    section "$name" "$limit" "$PYTHON" -m pytest "benchmarks/$name.py" -s --benchmark-json="$out/$name.json" "$@"
  else
    note "$name" skipped 0 "pytest-benchmark is not installed"
  fi
}

tests=(tests/kernels/test_gpu.py tests/kernels/triton_suite/packing.py tests/kernels/triton_suite/attention.py
  tests/kernels/test_attention.py tests/kernels/test_packing.py tests/kernels/test_opcheck.py tests/kernels/test_compile.py)
if [ -n "$dry_run" ]; then
  tests=("${tests[@]:0:2}")
  train_step=(--ways ours_cross ours_full paper dense nested) packing=(-k pack-128)
else
  tests+=(-k "not cpu" --durations=5)
  ! has xdist || tests+=(-n 12) # most of the time goes into compiling kernels
  train_step=(--presets base --missing 49 20 80 --rounds 5 --seconds 45) packing=()
fi
section environment 30 "$PYTHON" -m benchmarks.environment --json "$out/environment.json" $dry_run
section kernel_tests 130 "$PYTHON" -m pytest -q "${tests[@]}" --junitxml="$out/kernel_tests.xml"
section attention 130 "$PYTHON" -m benchmarks.attention_gpu --json "$out/attention.json" $dry_run
section tile_sweep 85 "$PYTHON" -m benchmarks.tile_sweep --json "$out/tile_sweep.json" $dry_run
section train_step 70 "$PYTHON" -m benchmarks.train_step --json "$out/train_step.json" "${train_step[@]}" $dry_run
suite packing 30 "${packing[@]}"

echo "== results in $out"
cat "$summary"
! grep -qE '^[a-z_]+ +(failed|timeout)' "$summary"
