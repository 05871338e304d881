#!/usr/bin/env bash
# Every GPU test and benchmark in one go, under 8 minutes on one GPU, results into one folder:
#   benchmarks/gpu.sh [--dry-run] [--resume | --only SECTION,SECTION...] [FOLDER]     default: runs/DATE-GPU
#
#   environment   versions, clocks, temperature, rates of matrix products and of copies    environment.json
#   kernel_tests  the tests of the kernels that concern a GPU, the Triton suite natively   kernel_tests.xml
#   attention     benchmarks.attention.race: ours against every other way                  attention.json
#   train_step    benchmarks.step.race: a step of the 25M model, packed and otherwise      train_step.json
#   training_run  benchmarks.science.training_run: the 25M model trains, two minutes       training_run.json, png
#   memory        what a training step holds at its peak                                   memory.json
#   shapes        attention by length, batch, heads, head dim; masked_attention            shapes.json
#   packing       pack and unpack against plain copies                                     packing.json
#   tile_sweep    benchmarks.triton.tile_sweep: which tiles are fastest here               tile_sweep.json
#
# Goes on past failures; every section has its own time limit, and what it printed is in log.txt. The last
# lines, also in summary.txt, say how each section went; report.html shows the results where matplotlib is
# installed. --resume leaves out the sections that passed in this folder before; --only runs some anew.
# --dry-run does all of it with tiny sizes on a CPU, in about two minutes, and says nothing about speed.
# `python -m benchmarks.measure.results FOLDER --csv benchmarks/results/DATE-GPU.csv` keeps the numbers.
# Needed are torch and Triton, numpy, einops, pyarrow, safetensors, rich, pytest and pytest-benchmark; with
# pytest-xdist the tests are sooner done. PYTHON=python3.12 picks an interpreter.
set -uo pipefail

SECTIONS="environment kernel_tests attention train_step training_run memory shapes packing tile_sweep"
PYTHON=${PYTHON:-python3}
dry_run="" resume="" only=$SECTIONS out=""
while [ $# -gt 0 ]; do
  case $1 in
    --dry-run) dry_run=--dry-run ;;
    --resume) resume=yes ;;
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
  machine=dry-run patience=20 # of any CPU, which may have other work
else
  patience=1
  unset TRITON_INTERPRET
  machine=$("$PYTHON" -c 'import torch; print(torch.cuda.get_device_name().replace(" ", "-"))') ||
    { echo "no GPU that torch can use" >&2; exit 1; }
fi
out=${out:-$PWD/runs/$(date -u +%Y-%m-%d)-$machine}
mkdir -p "$out"
log=$out/log.txt summary=$out/summary.txt
touch "$log" "$summary"
if [ -n "$resume" ]; then
  for name in $(awk '$2 == "passed" { print $1 }' "$summary"); do only=" $only "; only=${only/ $name / }; done
fi
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
  local name=$1 limit=$2 start=$SECONDS lines result=passed status headline; shift 2
  [[ " $only " = *" $name "* ]] || return 0
  lines=$(wc -l < "$log")
  echo "== $name: $*" | tee -a "$log"
  # The first signal lets Python write what it has.
  timeout --signal=INT --kill-after=10 $((patience * limit)) "$@" >> "$log" 2>&1
  status=$?
  [ $status -eq 0 ] || result=failed
  [ $status -ne 124 ] && [ $status -ne 137 ] || result=timeout
  tail -n "+$((lines + 2))" "$log" | tail -n 40
  headline=$(tail -n "+$((lines + 2))" "$log" | grep -v '^[[:space:]]*$' | tail -n 1)
  note "$name" $result $((SECONDS - start)) "$headline"
}
suite() { # suite NAME SECONDS FILE... [PYTEST_OPTIONS...]: pytest-benchmark, which writes results at the end
  local name=$1 limit=$2; shift 2
  section "$name" "$limit" "$PYTHON" -m pytest -s $dry_run --benchmark-json="$out/$name.json" \
    --seconds $((patience * limit * 3 / 4)) "$@"
}

tests=(tests/kernels/test_gpu.py tests/kernels/triton_suite/packing_tests.py
  tests/kernels/triton_suite/attention_tests.py tests/kernels/test_gpu_graphs.py tests/kernels/test_attention.py
  tests/kernels/test_packing.py tests/kernels/test_opcheck.py tests/kernels/test_compile.py)
if [ -n "$dry_run" ]; then
  tests=("${tests[@]:0:2}")
  train_step=(--ways ours_cross ours_full paper dense nested)
  memory=(-k 80) shapes=(-k "length-64 or 95-forward") packing=(-k pack-128)
else
  tests+=(-k "not cpu" --durations=5)
  ! has xdist || tests+=(-n 12) # most of the time goes into compiling kernels
  train_step=(--presets base --missing 49 20 80 --rounds 5 --seconds 30) memory=(-k 49) shapes=() packing=()
fi
plot=()
! has matplotlib || plot=(--plot "$out/training_run.png")
section environment 15 "$PYTHON" -m benchmarks.measure.environment --json "$out/environment.json" $dry_run
section kernel_tests 90 "$PYTHON" -m pytest -q "${tests[@]}" --junitxml="$out/kernel_tests.xml"
section attention 85 "$PYTHON" -m benchmarks.attention.race --seconds 75 --json "$out/attention.json" $dry_run
section train_step 45 "$PYTHON" -m benchmarks.step.race --json "$out/train_step.json" \
  "${train_step[@]}" $dry_run
section training_run 120 "$PYTHON" -m benchmarks.science.training_run --seconds 90 \
  --json "$out/training_run.json" "${plot[@]}" $dry_run
suite memory 20 benchmarks/step/bench_memory.py "${memory[@]}"
suite shapes 40 benchmarks/attention/bench_shapes.py benchmarks/attention/bench_masked.py "${shapes[@]}"
suite packing 10 benchmarks/attention/bench_packing.py "${packing[@]}"
section tile_sweep 40 "$PYTHON" -m benchmarks.triton.tile_sweep --seconds 30 \
  --json "$out/tile_sweep.json" $dry_run
! has matplotlib || "$PYTHON" -m benchmarks.measure.report "$out" --out "$out/report.html"

echo "== results in $out"
cat "$summary"
! grep -qE '^[a-z_]+ +(failed|timeout)' "$summary"
