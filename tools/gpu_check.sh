#!/usr/bin/env bash
# Proves the CUDA backend on a machine with a GPU, without a network: builds, runs the device tests,
# trains on both devices, times kernels and training steps beside PyTorch and looks for memory
# errors. The last line is PASS or FAIL.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
  cat <<'TEXT'
usage: tools/gpu_check.sh [PART...] | --collect
  PART       any of tests bits losses bench peers memcheck racecheck; all of them if none is given
               tests      every test of the CUDA backend, on the device
               bits       two trainings of 50 steps end in the same bytes
               losses     200 training steps against the CPU's losses
               bench      kernels, and a training step of prc-s32-imagenet by operation
               peers      the same step in PyTorch, eager and compiled, where python3 has it
               memcheck, racecheck   compute-sanitizer on small tests, where there is one
  --collect  on a machine that has the packages of tools/setup.sh: copies the headers (and the
             static zlib) that the build needs into $ROBUSTMOE_DEPS, default .deps, to be taken
             along to a machine that lacks them
TEXT
}

all_parts=(tests bits losses bench peers memcheck racecheck)
parts=()
collect=false
while (($# > 0)); do
  case "$1" in
    --collect) collect=true ;;
    -h | --help) usage; exit 0 ;;
    *)
      if [[ " ${all_parts[*]} " != *" $1 "* ]]; then usage >&2; exit 2; fi
      parts+=("$1")
      ;;
  esac
  shift
done
if ((${#parts[@]} == 0)); then parts=("${all_parts[@]}"); fi

deps=${ROBUSTMOE_DEPS:-.deps}
[[ $deps == /* ]] || deps=$PWD/$deps
build=build/gpu_check
program=$build/robustmoe
suites=(engine nn moe train tools)

collect_deps() {
  local from=/usr/include name libz
  rm -rf "$deps"
  mkdir -p "$deps/include/eigen3" "$deps/share/eigen3" "$deps/lib"
  cp -rL "$from/eigen3/Eigen" "$from/eigen3/signature_of_eigen3_matrix_library" \
    "$deps/include/eigen3/"
  cp -rL /usr/share/eigen3/cmake "$deps/share/eigen3/"
  for name in doctest toml++ nlohmann stb cxxopts.hpp zlib.h; do
    cp -rL "$from/$name" "$deps/include/"
  done
  # zconf.h lies beside zlib.h or, on newer systems, among the headers of the architecture.
  cp -L "$(find "$from" -name zconf.h -print -quit)" "$deps/include/"
  libz=$(g++ -print-file-name=libz.a)
  if [[ $libz == /* ]]; then cp -L "$libz" "$deps/lib/"; fi
  uname -m >"$deps/architecture"
  echo "collected $(du -sh "$deps" | cut -f 1) in $deps"
}

if $collect; then
  collect_deps
  exit 0
fi

failures=()
notes=()

finish() {
  local note=
  if ((${#notes[@]} > 0)); then note=$(printf '; %s' "${notes[@]}"); fi
  if ((${#failures[@]} > 0)); then
    printf 'FAIL: %s%s\n' "$(printf '%s, ' "${failures[@]}" | sed 's/, $//')" "$note"
    exit 1
  fi
  echo "PASS${note/;/:}"
  exit 0
}

die() {
  failures+=("$1")
  finish
}

if ! command -v nvcc >/dev/null && [[ -x /usr/local/cuda/bin/nvcc ]]; then
  export PATH=$PATH:/usr/local/cuda/bin
fi

print_facts() {
  nvidia-smi --query-gpu=name,compute_cap,driver_version,memory.total,clocks.max.sm --format=csv
  nvcc --version | grep release
  cmake --version | head -n 1
  g++ --version | head -n 1
}

configure() {
  local -a options=(-DROBUSTMOE_WERROR=OFF -DCMAKE_CUDA_ARCHITECTURES=native)
  if [[ -d $deps ]]; then
    options+=("-DCMAKE_PREFIX_PATH=$deps")
    # A library of another processor would be found and then not link.
    if [[ $(cat "$deps/architecture") != "$(uname -m)" ]]; then
      options+=("-DCMAKE_IGNORE_PATH=$deps/lib")
    fi
  fi
  cmake --preset cuda -B "$build" "${options[@]}" >"$build/configure.log" 2>&1 ||
    { tail -n 20 "$build/configure.log"; return 1; }
}

# run_suite SUITE COMMAND...: runs the suite's device tests under COMMAND. --no-skip: a test that
# cannot see the device fails here instead of counting as skipped.
run_suite() {
  local suite=$1
  shift
  "$@" "$build/tests/test_$suite" --no-colors=true --no-skip=true -tc='cuda:*' </dev/null
}

check_tests() {
  local suite log status counts passed=0
  for suite in "${suites[@]}"; do
    log=$build/tests_$suite.log
    status=0
    run_suite "$suite" env >"$log" 2>&1 || status=$?
    counts=$(sed -nE 's/^\[doctest\] test cases: +[0-9]+ \| +([0-9]+) passed \| +([0-9]+) failed.*/\1 \2/p' "$log")
    echo "test_$suite: ${counts:-no summary}"
    if [[ ! $counts =~ ^[1-9][0-9]*\ 0$ ]] || ((status != 0)); then
      grep -A 12 -E 'ERROR|TEST CASE' "$log" | head -n 60 || true
      failures+=("device tests of $suite (${counts:-no summary}, exit status $status, $log)")
    else
      passed=$((passed + ${counts% *}))
    fi
  done
  notes+=("$passed device tests passed")
}

# A training of the small recipe on pictures that need no files.
train() {
  local device=$1 steps=$2 out=$3
  rm -rf "$out"
  "$program" train --recipe quick-prc --data shapes: --device "$device" --steps "$steps" --out "$out" \
    --set log.every=1 --set eval.limit=64 >"$out.log" 2>&1 ||
    { tail -n 5 "$out.log"; return 1; }
}

check_bits() {
  local run
  for run in 1 2; do
    train cuda 50 "$build/bits_$run" || { failures+=("training on the GPU"); return; }
  done
  local step=checkpoints/step-000000050/model.safetensors
  if cmp "$build/bits_1/$step" "$build/bits_2/$step"; then
    notes+=("50 steps repeat their bits")
  else
    failures+=("two trainings of 50 steps differ")
  fi
}

# losses RUN: the loss of every step.
losses() {
  grep '"kind": *"train"' "$1/metrics.jsonl" | sed -E 's/.*"loss": *([-0-9.e+]+).*/\1/'
}

check_losses() {
  local device
  for device in cuda cpu; do
    train "$device" 200 "$build/losses_$device" || { failures+=("training for losses"); return; }
  done
  local verdict
  verdict=$(paste <(losses "$build/losses_cuda") <(losses "$build/losses_cpu") | awk '
    { d = ($1 - $2) / $2; if (d < 0) d = -d; if (NR <= 20 && d > worst) worst = d
      if (NR > 150) { n++; a += $1; b += $2; aa += $1 * $1; bb += $2 * $2 } }
    END { if (NR != 200) { print "FAIL: " NR " steps"; exit }
          ma = a / n; mb = b / n
          se = sqrt((aa / n - ma * ma + bb / n - mb * mb) / (n - 1))
          apart = (ma > mb ? ma - mb : mb - ma) / se
          printf "%s: first 20 losses within %.2g of the CPU, means of the last 50 %.2g standard errors apart\n",
                 worst < 1e-3 && apart < 3 ? "ok" : "FAIL", worst, apart }')
  echo "$verdict"
  if [[ $verdict == ok:* ]]; then notes+=("${verdict#ok: }"); else failures+=("losses (${verdict#FAIL: })"); fi
}

# The published recipe without what PyTorch's step lacks: capacity, dropout, rounding of dispatch.
plain=(--set moe.dispatch=dropless --set moe.eval_capacity_factor=0 --set moe.expert_dropout=0
  --set moe.dropout_mask=token --set moe.bf16_dispatch=false)

run_benchmark() {
  local bench=$build/gpu_bench precision
  nvcc -std=c++20 -O3 -arch=native --expt-relaxed-constexpr --extended-lambda -DROBUSTMOE_CUDA -I. \
    -Xcompiler -fopenmp -o "$bench" tools/bench/gpu_bench.cu "$build/libengine.a" \
    -cudart shared -lcublas -lcublasLt -lgomp || { failures+=("building the benchmark"); return; }
  "$bench" | tee "$build/gpu_bench.log" || failures+=("benchmark")
  for precision in bf16 tf32 f32; do
    "$program" bench train --recipe prc-s32-imagenet --device cuda "${plain[@]}" \
      --set "train.precision=$precision" --json "$build/bench_$precision.json" ||
      failures+=("bench train in $precision")
  done
  "$program" bench train --recipe prc-s32-imagenet --device cuda --steps 3 --ops "${plain[@]}" \
    --set train.precision=bf16 || failures+=("bench train --ops")
  local peak reached
  peak=$(sed -nE 's/^matrix peak bf16 +([0-9.]+) .*/\1/p' "$build/gpu_bench.log")
  reached=$(sed -E 's/.*"tflops": *([0-9.e+]+).*/\1/' "$build/bench_bf16.json" 2>/dev/null || true)
  if [[ -n $peak && -n $reached ]]; then
    notes+=("$(awk -v r="$reached" -v p="$peak" 'BEGIN {
      printf "training step at %.1f of %.1f Tflop/s measured, %.1f %%", r, p, 100 * r / p }')")
  fi
}

run_peers() {
  if ! python3 -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
    notes+=("no PyTorch with a GPU here")
    return
  fi
  local form
  for form in "" --compile; do
    # shellcheck disable=SC2086  # an empty form is no argument
    python3 tools/bench/peers/torch_step.py --work s32 --device cuda --pairs 512 --bf16 --steps 7 $form ||
      notes+=("PyTorch ${form:-eager} failed")
  done
}

# check_sanitizer TOOL: on the engine's device tests but the largest.
check_sanitizer() {
  local tool=$1 log=$build/$1.log status=0
  if ! command -v compute-sanitizer >/dev/null; then
    notes+=("no compute-sanitizer here")
    return
  fi
  # Errors of API calls are expected: one test asks for more memory than there is.
  timeout 150 "${sanitizer[@]}" --tool "$tool" "$build/tests/test_engine" --no-colors=true \
    --no-skip=true -tc='cuda:*' -tce='*gemm*,*what cannot fit*' </dev/null >"$log" 2>&1 || status=$?
  grep -E '^=========' "$log" | tail -n 30 || true
  # Some virtual machines do not let the tool at the device: that says nothing about this program.
  if grep -qi 'device not supported' "$log"; then
    notes+=("compute-sanitizer cannot use this device")
  elif ((status == 124)); then
    notes+=("$tool took too long")
  elif ((status != 0)) || ! grep -qE 'ERROR SUMMARY: 0 errors|RACECHECK SUMMARY: 0 hazards' "$log"; then
    failures+=("$tool (exit status $status, $log)")
  else
    notes+=("$tool clean")
  fi
}
sanitizer=(compute-sanitizer --report-api-errors no --error-exitcode 77)

echo "== device"
nvidia-smi -L >/dev/null 2>&1 || die "no GPU here"
command -v nvcc >/dev/null || die "no nvcc here"
print_facts
mkdir -p "$build"
echo "== build"
start=$SECONDS
configure || die "configuring ($build/configure.log)"
cmake --build "$build" --target robustmoe "${suites[@]/#/test_}" --parallel "$(nproc)" \
  >"$build/build.log" 2>&1 ||
  { grep -E 'error|FAILED|fatal' -A 5 "$build/build.log" | head -n 60; die "building ($build/build.log)"; }
echo "$((SECONDS - start)) s"
for part in "${parts[@]}"; do
  start=$SECONDS
  echo "== $part"
  case "$part" in
    tests) check_tests ;;
    bits) check_bits ;;
    losses) check_losses ;;
    bench) run_benchmark ;;
    peers) run_peers ;;
    memcheck | racecheck) check_sanitizer "$part" ;;
  esac
  echo "$((SECONDS - start)) s"
done
finish
