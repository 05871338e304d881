#!/usr/bin/env bash
# Builds the C++ kernels with sanitizers and runs kernel tests on that build. The first finding ends the run:
#
#     tests/sanitize.sh [address] [arguments for pytest]   wrong or freed memory, misaligned access, overflows
#     tests/sanitize.sh thread [arguments for pytest]      data races between the threads that share a batch
#
# Needs g++, cmake, and the environment that `make test` installs.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
python=$root/.venv/bin/python
kind=address
case ${1:-} in address | thread) kind=$1 && shift ;; esac
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PATH="$root/.venv/bin:$PATH"

if [ $kind = address ]; then
    flags="-fsanitize=address,undefined -fno-sanitize-recover=all"
    runtimes="libasan.so libubsan.so"
    tests=(test_cpu_kernels.py test_cpu_same_bits.py test_cpu_mistakes.py test_attention.py test_packing.py
        test_fuzz_attention.py test_fuzz_packing.py test_fuzz_mistakes.py)
    set -- -k "not memory_does_not_grow" "$@" # it is long, and a sanitizer itself needs memory
else
    flags="-fsanitize=thread"
    runtimes="libtsan.so"
    tests=(test_cpu_kernels.py test_cpu_same_bits.py test_attention.py test_packing.py)
    set -- -k "threads or thread_counts or packing" "$@"
fi

# Python itself is not instrumented, so the sanitizers' runtimes must be loaded before it.
preload=
for runtime in $runtimes; do
    preload+=" $(g++ -print-file-name="$runtime")"
done
if [ $kind = thread ]; then
    g++ -std=c++17 -O1 -fPIC -shared -o "$work/openmp_for_tsan.so" tests/kernels/openmp_for_tsan.cpp
    preload+=" $work/openmp_for_tsan.so"
fi

# The AMX kernels take part wherever tests/kernels/amx_emulator.cpp can stand in for what the processor lacks.
assume_amx=OFF
if grep -qw avx512_bf16 /proc/cpuinfo && ! grep -qw amx_bf16 /proc/cpuinfo; then
    g++ -std=c++17 -O3 -march=x86-64-v3 -fPIC -shared -o "$work/amx_emulator.so" \
        tests/kernels/amx_emulator.cpp
    preload+=" $work/amx_emulator.so"
    assume_amx=ON
fi

echo "== building csrc with $flags"
cmake -S csrc -B "$work/build" -DPython_EXECUTABLE="$python" -DCMAKE_CXX_COMPILER=g++ \
    -DCMAKE_BUILD_TYPE=Sanitized -DLSM2_ASSUME_AMX=$assume_amx \
    -DCMAKE_CXX_FLAGS="$flags -O1 -g -fno-omit-frame-pointer" --log-level=WARNING
cmake --build "$work/build" --parallel 2

# A copy of the package with that library in it, which goes before the installed one.
mkdir "$work/package"
cp -r lsm2_kernels "$work/package"
cp "$work/build/lsm2_kernels_cpu.so" "$work/package/lsm2_kernels"
export PYTHONPATH=$work/package PYTHONDONTWRITEBYTECODE=1 OMP_WAIT_POLICY=PASSIVE

echo "== running ${tests[*]} with$preload"
cd "$work/package"
# pytest must not take the signal that the emulator needs, nor keep the report of a sanitizer that ends it.
export ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 TSAN_OPTIONS=halt_on_error=1
LD_PRELOAD=$preload "$python" -m pytest -c "$root/pyproject.toml" --rootdir "$root" \
    -p no:cacheprovider -p no:faulthandler --capture=sys -q "$@" "${tests[@]/#/$root/tests/kernels/}"
