#!/usr/bin/env bash
# Proves the CUDA backend on a machine with a GPU, without a network: builds, runs the device tests,
# times the kernels and looks for memory errors. The last line is PASS or FAIL.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
  cat <<'TEXT'
usage: tools/gpu_check.sh [--no-memcheck] | --collect
  --collect      on a machine that has the packages of tools/setup.sh: copies the headers (and the
                 static zlib) that the build needs into $ROBUSTMOE_DEPS, default .deps, to be taken
                 along to a machine that lacks them
  --no-memcheck  leave out compute-sanitizer, the slow part
TEXT
}

memcheck=true
collect=false
while (($# > 0)); do
  case "$1" in
    --collect) collect=true ;;
    --no-memcheck) memcheck=false ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
  shift
done

deps=${ROBUSTMOE_DEPS:-.deps}
[[ $deps == /* ]] || deps=$PWD/$deps
build=build/gpu_check

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

# run_tests COMMAND...: runs the device tests under COMMAND. --no-skip: a test that cannot see
# the device fails here instead of counting as skipped.
run_tests() {
  "$@" "$build/tests/test_engine" --no-colors=true --no-skip=true -tc='cuda:*' </dev/null
}

check_tests() {
  local log=$build/tests.log status=0 counts
  run_tests env >"$log" 2>&1 || status=$?
  tail -n 60 "$log"
  counts=$(sed -nE 's/^\[doctest\] test cases: +[0-9]+ \| +([0-9]+) passed \| +([0-9]+) failed.*/\1 \2/p' "$log")
  if [[ ! $counts =~ ^[1-9][0-9]*\ 0$ ]] || ((status != 0)); then
    failures+=("device tests (${counts:-no summary}, exit status $status)")
  else
    notes+=("${counts% *} device tests passed")
  fi
}

run_benchmark() {
  local bench=$build/gpu_bench
  nvcc -std=c++20 -O3 -arch=native --expt-relaxed-constexpr -DROBUSTMOE_CUDA -I. \
    -Xcompiler -fopenmp -o "$bench" tools/bench/gpu_bench.cu "$build/libengine.a" \
    -cudart shared -lcublasLt -lgomp || { failures+=("building the benchmark"); return; }
  "$bench" || failures+=("benchmark")
}

check_memory() {
  local log=$build/memcheck.log status=0
  if ! $memcheck; then
    notes+=("memcheck left out")
    return
  fi
  if ! command -v compute-sanitizer >/dev/null; then
    notes+=("no compute-sanitizer here")
    return
  fi
  # Errors of API calls are expected: one test asks for more memory than there is.
  run_tests compute-sanitizer --tool memcheck --report-api-errors no --error-exitcode 77 \
    >"$log" 2>&1 || status=$?
  grep -E '^=========' "$log" | tail -n 30 || true
  # Some virtual machines do not let the tool at the device: that says nothing about this program.
  if grep -qi 'device not supported' "$log"; then
    notes+=("compute-sanitizer cannot use this device")
  elif ((status != 0)) || ! grep -q 'ERROR SUMMARY: 0 errors' "$log"; then
    failures+=("memcheck (exit status $status, $log)")
  else
    notes+=("memcheck clean")
  fi
}

echo "== device"
nvidia-smi -L >/dev/null 2>&1 || die "no GPU here"
command -v nvcc >/dev/null || die "no nvcc here"
print_facts
mkdir -p "$build"
echo "== build"
start=$SECONDS
configure || die "configuring ($build/configure.log)"
cmake --build "$build" --target test_engine --parallel "$(nproc)" >"$build/build.log" 2>&1 ||
  { grep -E 'error|FAILED|fatal' -A 5 "$build/build.log" | head -n 60; die "building ($build/build.log)"; }
echo "$((SECONDS - start)) s"
echo "== device tests"
check_tests
echo "== benchmark"
run_benchmark
echo "== memcheck"
check_memory
finish
