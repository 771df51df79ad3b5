#!/usr/bin/env bash
# Builds a preset and runs every test binary. The last line is `N passed, N failed, N skipped`, the
# sum of doctest's own counts; a binary that is missing, crashes or runs no test counts as a failure.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
  cat <<'TEXT'
usage: tools/test.sh [--preset NAME] [--threads N] [--filter PATTERN] [--without PATTERN]
                     [--only FOLDERS] [--no-build]
  --preset NAME      preset of CMakePresets.json, default release
  --threads N        OpenMP threads, default all cores
  --filter PATTERN   only test cases whose name matches, as doctest's -tc ('*same bits*')
  --without PATTERN  not the test cases whose name matches
  --only FOLDERS     build and run only these folders' tests, e.g. "engine moe"
  --no-build         run what is built
TEXT
}

usage_error() {
  echo "test: $1" >&2
  usage >&2
  exit 2
}

preset=release
threads=
filter=
without=
only=
build=true
while (($# > 0)); do
  case "$1" in
    --preset | --threads | --filter | --without | --only)
      (($# >= 2)) || usage_error "$1 needs a value"
      case "$1" in
        --preset) preset=$2 ;;
        --threads) threads=$2 ;;
        --filter) filter=$2 ;;
        --without) without=$2 ;;
        --only) only=$2 ;;
      esac
      shift 2
      ;;
    --no-build) build=false; shift ;;
    -h | --help) usage; exit 0 ;;
    *) usage_error "unknown argument $1" ;;
  esac
done
[[ -z $threads || $threads =~ ^[1-9][0-9]*$ ]] || usage_error "--threads wants a positive number"

build_dir=build/$preset
logs=$build_dir/test_logs

targets=()
for folder in $only; do targets+=("--target" "test_$folder"); done

if $build; then
  build_start=$SECONDS
  if ! { tools/setup.sh && cmake --preset "$preset" >/dev/null &&
    cmake --build "$build_dir" --parallel "$(nproc)" "${targets[@]}"; }; then
    echo "FAILED   build ($preset), $((SECONDS - build_start)) s"
    echo "0 passed, 1 failed, 0 skipped"
    exit 1
  fi
  echo "build ($preset): $((SECONDS - build_start)) s"
fi

if [[ -n $threads ]]; then
  export OMP_NUM_THREADS=$threads
fi
case "$preset" in
  dev)
    export ASAN_OPTIONS=${ASAN_OPTIONS:-halt_on_error=1:detect_stack_use_after_return=1:strict_string_checks=1}
    export UBSAN_OPTIONS=${UBSAN_OPTIONS:-halt_on_error=1:print_stacktrace=1}
    ;;
  tsan)
    export TSAN_OPTIONS=${TSAN_OPTIONS:-halt_on_error=1:ignore_noninstrumented_modules=1}
    # archer tells ThreadSanitizer about OpenMP's barriers; without it every parallel loop looks
    # like a race.
    export OMP_TOOL_LIBRARIES=${OMP_TOOL_LIBRARIES:-$(clang++ -print-file-name=libarcher.so)}
    ;;
esac

passed=0
failed=0
skipped=0
ran=0

# Every folder of tests must have its binary, and every test file must be in the build: looking only
# at the binaries that are there would never miss one.
names=()
for folder in engine nn moe data train tools reference; do
  if [[ -n $(find "tests/$folder" -name '*_test.cc' -print -quit 2>/dev/null) ]]; then
    names+=("test_$folder")
  fi
done
if [[ -n $only ]]; then
  names=()
  for folder in $only; do names+=("test_$folder"); done
fi
for binary in "$build_dir"/tests/test_*; do
  [[ -z $only ]] || break
  name=${binary##*/}
  if [[ -f $binary && -x $binary && " ${names[*]} " != *" $name "* ]]; then
    names+=("$name")
  fi
done
# The CUDA emulator's own are part of builds that have the emulator.
in_build() { grep -qF "/$1" "$build_dir/compile_commands.json" 2>/dev/null; }
while IFS= read -r file; do
  if [[ $file == tests/cuda_emulator/* ]] && ! in_build tests/cuda_emulator/emulator.cc; then
    continue
  fi
  if ! in_build "$file"; then
    echo "FAILED   $file is not part of the build in $build_dir"
    failed=$((failed + 1))
  fi
done < <(find tests -name '*_test.cc' | sort)

mkdir -p "$logs"

# The three numbers of doctest's summary, `test cases: 12 | 11 passed | 1 failed | 3 skipped`, with
# or without colours; nothing where the binary died before it.
read_summary() {
  sed -e 's/\x1b\[[0-9;]*m//g' "$1" |
    sed -nE 's/^\[doctest\] test cases: +[0-9]+ \| +([0-9]+) passed \| +([0-9]+) failed \| +([0-9]+) skipped.*/\1 \2 \3/p' |
    tail -n 1
}

run_binary() {
  local name=$1 binary=$build_dir/tests/$1 log=$logs/$1.log
  local -a arguments=(--no-colors=true)
  if [[ -n $without ]]; then
    arguments+=("-tce=$without")
  fi
  if [[ -n $filter ]]; then
    arguments+=("-tc=$filter")
  fi
  if [[ ! -x $binary ]]; then
    echo "FAILED   $name: $binary is not there"
    failed=$((failed + 1))
    return
  fi
  local start=$SECONDS status=0 case_passed=0 case_failed=0 case_skipped=0 summary
  "$binary" "${arguments[@]}" </dev/null >"$log" 2>&1 || status=$?
  summary=$(read_summary "$log")
  read -r case_passed case_failed case_skipped <<<"${summary:-0 0 0}"
  # doctest reports cases left out by a filter and cases decorated with skip as one number.
  if [[ -n $filter$without ]]; then
    case_skipped=0
  fi
  local problem=
  if [[ -z $summary ]]; then
    problem="ended without a summary, exit status $status"
  elif ((status != 0 && case_failed == 0)); then
    # Not a failed case but, for one, a leak found after the last one.
    problem="exit status $status though no case failed"
  elif ((case_passed + case_failed == 0)) && [[ -z $filter ]]; then
    problem="ran no test"
  fi
  if [[ -n $problem ]]; then
    case_failed=$((case_failed + 1))
  fi
  passed=$((passed + case_passed))
  failed=$((failed + case_failed))
  skipped=$((skipped + case_skipped))
  ran=$((ran + case_passed + case_failed))
  local counts="$case_passed passed, $case_failed failed, $case_skipped skipped"
  if ((case_failed == 0)); then
    echo "ok       $name: $counts, $((SECONDS - start)) s"
  else
    tail -n 200 "$log"
    echo "FAILED   $name: $counts${problem:+: $problem} ($log)"
  fi
}

# The router report in a browser, where there is one. It tests scripts, not the program, so once is
# enough: not with sanitizers, for one folder or for cases of some name.
run_browser() {
  local script=tests/tools/report_browser_test.py log=$logs/report_browser.log
  local start=$SECONDS status=0 python=python3 summary
  # Debian's selenium belongs to Debian's Python.
  if ! "$python" -c 'import selenium' 2>/dev/null && [[ -x /usr/bin/python3 ]]; then
    python=/usr/bin/python3
  fi
  if command -v "$python" >/dev/null; then
    "$python" "$script" "$build_dir/robustmoe" </dev/null >"$log" 2>&1 || status=$?
  else
    echo "0 passed, 0 failed, 1 skipped" >"$log"
  fi
  summary=$(tail -n 1 "$log" |
    sed -nE 's/^([0-9]+) passed, ([0-9]+) failed, ([0-9]+) skipped$/\1 \2 \3/p')
  local p=0 f=0 s=0
  read -r p f s <<<"${summary:-0 1 0}"
  if ((status != 0 && f == 0)); then f=1; fi
  passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s)) ran=$((ran + p + f))
  local counts="$p passed, $f failed, $s skipped"
  if ((f == 0)); then
    echo "ok       $script: $counts, $((SECONDS - start)) s"
  else
    tail -n 200 "$log"
    echo "FAILED   $script: $counts ($log)"
  fi
}

run_start=$SECONDS
for name in "${names[@]}"; do
  run_binary "$name"
done
if [[ -z $only && -z $filter && $preset != dev && $preset != tsan ]]; then
  run_browser
fi
echo "tests ($preset${threads:+, $threads threads}): $((SECONDS - run_start)) s"

# With a filter one binary may well hold no such case, but not all of them.
if ((ran == 0 && failed == 0)); then
  echo "FAILED   no test ran${filter:+ that matches \"$filter\"}"
  failed=1
fi
echo "$passed passed, $failed failed, $skipped skipped"
((failed == 0))
