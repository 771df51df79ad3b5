#!/usr/bin/env bash
# Everything that can be checked without running a test: format, sizes, layers, kernel launches,
# text, clang-tidy. The last line is `N passed, N failed, N skipped`, one for each check.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
  cat <<'TEXT'
usage: tools/check.sh [--base REF | --all] [--no-tidy]
  --base REF   clang-tidy looks at what changed since REF, default HEAD~1
  --all        clang-tidy looks at everything
  --no-tidy    leave out clang-tidy, the slow one
TEXT
}

base=HEAD~1
tidy=true
while (($# > 0)); do
  case "$1" in
    --base)
      (($# >= 2)) || { usage >&2; exit 2; }
      base=$2
      shift
      ;;
    --all) base= ;;
    --no-tidy) tidy=false ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
  shift
done

tools/setup.sh --check

# Tracked files and new ones that git does not ignore; a file deleted but not yet committed is left
# out.
list_files() {
  git ls-files --cached --others --exclude-standard -- "$@" | sort -u | while IFS= read -r file; do
    if [[ -f $file ]]; then echo "$file"; fi
  done
}

mapfile -t sources < <(list_files '*.h' '*.cuh' '*.cc' '*.cpp' '*.cu')
if ((${#sources[@]} == 0)); then
  echo "check: found no source files" >&2
  exit 1
fi

check_format() {
  printf '%s\0' "${sources[@]}" | xargs -0 -n 16 -P "$(nproc)" clang-format --dry-run -Werror
}

# A launch error is reported by the next CUDA call that asks, which may be far away, so every
# launch is followed by check_cuda in the very next statement.
check_launches() {
  python3 - "${sources[@]}" <<'PYTHON'
import re
import sys

broken = 0
for path in sys.argv[1:]:
    code = open(path, encoding="utf-8").read()
    code = re.sub(r"//[^\n]*|/\*.*?\*/", lambda m: re.sub(r"[^\n]", " ", m.group()), code,
                  flags=re.DOTALL)
    for launch in re.finditer("<<<", code):
        rest = code[launch.end():].partition(";")[2]
        if not re.match(r"[\s}]*(engine::)?check_cuda\s*\(", rest):
            print(f"{path}:{code.count(chr(10), 0, launch.start()) + 1}: "
                  "kernel launch without check_cuda in the next statement")
            broken += 1
sys.exit(1 if broken else 0)
PYTHON
}

# What no compiler reads: paths of somebody's machine, links that lead nowhere, own macros,
# `using namespace` in a header, -ffast-math, whitespace, golden files grown too large.
check_text() {
  local -a files
  mapfile -t files < <(list_files)
  python3 - "${files[@]}" <<'PYTHON'
import json
import os
import re
import sys

MACHINE_PATH = re.compile(r"(?<![\w.~$}*-])/(?:home|root|Users|work|mnt|scratch)/\w")
# Macros that configure somebody else's header; own ones are not written here.
FOREIGN_MACRO = re.compile(r"(DOCTEST|STB|STBI|EIGEN|TOML|CXXOPTS|JSON|_GNU)_")
GOLDEN_LIMIT_BYTES = 5 * 1000 * 1000
CODE = (".h", ".cuh", ".cc", ".cpp", ".cu")
TEXT = CODE + (".md", ".sh", ".py", ".cmake", ".toml", ".json", ".txt", ".html", ".css", ".js")

problems = []
golden_bytes = 0
for path in sys.argv[1:]:
    if path.startswith("tests/golden/"):
        golden_bytes += os.path.getsize(path)
    name = os.path.basename(path)
    if not (path.endswith(TEXT) or path.startswith(".ci/") or name.startswith(".clang")):
        continue
    try:
        text = open(path, encoding="utf-8", newline="").read()
    except UnicodeDecodeError:
        problems.append(f"{path}: not UTF-8")
        continue
    if text and not text.endswith("\n"):
        problems.append(f"{path}: no newline at the end")
    if "\r" in text:
        problems.append(f"{path}: carriage returns")
    for number, line in enumerate(text.split("\n"), 1):
        where = f"{path}:{number}"
        if MACHINE_PATH.search(line):
            problems.append(f"{where}: path of one machine: {line.strip()}")
        if line != line.rstrip():
            problems.append(f"{where}: whitespace at the end of the line")
        if re.match(r"(<{7}|>{7}) ", line):
            problems.append(f"{where}: conflict marker")
        if "\t" in line and not path.startswith("tests/golden/"):
            problems.append(f"{where}: tab")
        if path.endswith(CODE):
            macro = re.match(r"\s*#\s*define\s+(\w+)", line)
            if macro and not FOREIGN_MACRO.match(macro.group(1)):
                problems.append(f"{where}: own macro {macro.group(1)}")
            if path.endswith((".h", ".cuh")) and re.match(r"\s*using\s+namespace\b", line):
                problems.append(f"{where}: using namespace in a header")
        elif (name == "CMakeLists.txt" or path.endswith((".cmake", "Presets.json"))) and \
                re.search("-f" "fast-math|-O" "fast", line):
            problems.append(f"{where}: fast-math changes results")
    if path.endswith(".json"):
        try:
            json.loads(text)
        except ValueError as error:
            problems.append(f"{path}: {error}")
    if path.endswith(".md"):
        prose = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", prose):
            target = target.split("#")[0]
            if target and not re.match(r"[a-z]+:", target) and \
                    not os.path.exists(os.path.join(os.path.dirname(path), target)):
                problems.append(f"{path}: link to {target}, which is not there")
if golden_bytes > GOLDEN_LIMIT_BYTES:
    problems.append(f"tests/golden: {golden_bytes} bytes, the limit is {GOLDEN_LIMIT_BYTES}")
print("\n".join(problems), end="\n" if problems else "")
sys.exit(1 if problems else 0)
PYTHON
}

check_scripts() {
  local -a scripts
  mapfile -t scripts < <(list_files '*.sh' .ci/run)
  local script status=0
  for script in "${scripts[@]}"; do
    bash -n "$script" || status=1
  done
  # Not among the packages that setup installs; where somebody has it, it speaks.
  if command -v shellcheck >/dev/null; then
    shellcheck "${scripts[@]}" || status=1
  fi
  return "$status"
}

# The .cc files to look at: those changed, and for a changed header the file of the same name. Peers
# need libraries that nothing else here does.
tidy_files() { list_tidy_files | grep -v '^tools/bench/peers/' || true; }
list_tidy_files() {
  if [[ -z $base ]] || ! git rev-parse --quiet --verify "$base^{commit}" >/dev/null; then
    printf '%s\n' "${sources[@]}" | grep '\.cc$'
    return
  fi
  {
    git diff --name-only --diff-filter=d "$base" --
    git ls-files --others --exclude-standard
  } | sed -n 's/\.h$/.cc/p; /\.cc$/p' | sort -u | while IFS= read -r file; do
    if [[ -f $file ]]; then echo "$file"; fi
  done
}

check_tidy() {
  # Configured anew each time, so that a new file is in it.
  cmake --preset release >/dev/null || return 1
  local -a files
  mapfile -t files < <(tidy_files)
  echo "clang-tidy: ${#files[@]} files"
  ((${#files[@]} > 0)) || return 0
  # The flags are g++'s; clang need not know all its warnings.
  printf '%s\0' "${files[@]}" |
    xargs -0 -n 1 -P "$(nproc)" clang-tidy -p build/release --quiet \
      --extra-arg=-Wno-unknown-warning-option 2>&1 |
    { grep -vE '^[0-9]+ (warning|error)s?( and [0-9]+ errors?)? (generated|treated)' || true; }
}

passed=0
failed=0
skipped=0

run_check() {
  local name=$1 start=$SECONDS
  shift
  if "$@"; then
    echo "ok       $name, $((SECONDS - start)) s"
    passed=$((passed + 1))
  else
    echo "FAILED   $name, $((SECONDS - start)) s"
    failed=$((failed + 1))
  fi
}

run_check format check_format
run_check sizes tools/check_sizes.sh
run_check layers tools/check_layers.sh
run_check launches check_launches
run_check text check_text
run_check scripts check_scripts
if $tidy; then
  run_check clang-tidy check_tidy
else
  echo "skipped  clang-tidy"
  skipped=1
fi
echo "$passed passed, $failed failed, $skipped skipped"
((failed == 0))
