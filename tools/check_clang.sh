#!/usr/bin/env bash
# Parses every source file once with clang: a second compiler finds what g++
# accepts by mistake. Nothing is compiled to code.
set -euo pipefail
cd "$(dirname "$0")/.."

# A build tree is made for its list of commands alone.
cmake --preset portable -B build/clang -DROBUSTMOE_CUDA=EMULATED -DCMAKE_CXX_COMPILER=clang++ -DROBUSTMOE_WERROR=OFF >/dev/null

exec python3 - build/clang/compile_commands.json <<'PYTHON'
import concurrent.futures
import json
import os
import shlex
import subprocess
import sys


def command(entry):
    arguments = shlex.split(entry["command"])
    output = arguments.index("-o")
    return arguments[:output] + arguments[output + 2:] + ["-fsyntax-only"]


def parse(entry):
    result = subprocess.run(command(entry), cwd=entry["directory"], stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return entry["file"], result.returncode, result.stdout


# Sources that the build itself writes are not there yet, and nobody's to read.
entries = [entry for entry in json.load(open(sys.argv[1], encoding="utf-8"))
           if not os.path.relpath(entry["file"]).startswith("build/")]
failed = 0
with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
    for path, status, output in pool.map(parse, entries):
        if status != 0:
            failed += 1
            print(f"FAILED   {os.path.relpath(path)}\n{output}")
print(f"{len(entries) - failed} passed, {failed} failed, 0 skipped")
sys.exit(1 if failed or not entries else 0)
PYTHON
