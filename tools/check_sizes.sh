#!/usr/bin/env bash
# Lines of files and functions: p50, p95 and maximum, and a failure above the hard limits.
#   tools/check_sizes.sh [--list]   --list also names what is above the soft targets
set -euo pipefail
cd "$(dirname "$0")/.."

exec python3 - "$@" <<'PYTHON'
import pathlib
import re
import sys

SOURCE_FOLDERS = ["engine", "nn", "moe", "data", "train", "tools"]
SUFFIXES = {".h", ".cuh", ".cc", ".cpp", ".cu"}
FILE_TARGET, FILE_LIMIT, TEST_FILE_LIMIT = 400, 600, 800
HEADER_TARGET = 150
FUNCTION_TARGET, FUNCTION_LIMIT = 60, 100
# Counted by themselves, and not with the folder around them; "cuda": the GPU's kernels of all
# folders, which say again for another machine what the CPU's say.
PARTS = ["moe/cnn", "cuda"]
# Lines of several folders together, without tests: (folders, limit).
TOTALS = [(("engine", "nn", "moe", "moe/cnn"), 15000), (("moe",), 2100), (("moe/cnn",), 1500),
          (("cuda",), 8500)]

# Comments, literals and preprocessor lines are blanked, newlines kept, so that only braces and
# brackets of code are left. Raw strings come before plain ones; a digit separator (1'000) is not
# the start of a character literal.
BLANKED = re.compile(
    r'''//(?:\\\n|[^\n])*'''
    r'''|/\*.*?\*/'''
    r'''|R"(?P<tag>[^\s()\\]{0,16})\(.*?\)(?P=tag)"'''
    r'''|"(?:\\.|[^"\\\n])*"'''
    r'''|(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])+\''''
    r'''|^[ \t]*\#(?:\\\n|[^\n])*''',
    re.DOTALL | re.MULTILINE)


def blank(match):
    return re.sub(r"[^\n]", " ", match.group())


def without_templates(header):
    """The header of a definition without template<...>, in which `class` is no class, and without
    requires(...), which is no parameter list."""
    for start, opening, closing in [(r"\btemplate\s*<", "<", ">"), (r"\brequires\s*\(", "(", ")")]:
        while (match := re.search(start, header)):
            depth, end = 1, match.end()
            while end < len(header) and depth:
                depth += {opening: 1, closing: -1}.get(header[end], 0)
                end += 1
            header = header[:match.start()] + header[end:]
    return header


def is_function(header):
    header = without_templates(header)
    before = header.split("(")[0]
    return "(" in header and not re.search(r"\b(namespace|class|struct|union|enum)\b", before)


def functions(code):
    """(name, first line, lines) of every function body; lambdas count as part of theirs."""
    found = []
    scopes = []  # one entry an open brace: the function it begins, "inside" or "scope"
    header, header_line, line, parens = "", 1, 1, 0

    for position, char in enumerate(code):
        if char == "\n":
            line += 1
        in_function = bool(scopes) and scopes[-1] != "scope"
        if in_function:
            if char == "{":
                scopes.append("inside")
            elif char == "}":
                opened = scopes.pop()
                if opened == "inside":
                    continue
                # `: a_{1}, b_{2} {`: the brace that closed was a member's, the body is yet to come.
                following = code[position + 1:].lstrip()[:1] if opened[2] else ""
                if following and following in ",{":
                    header = opened[0] + " "
                    header_line = opened[1]
                    continue
                found.append((opened[0], opened[1], line - opened[1] + 1))
                header, parens = "", 0
            continue
        if char == "{":
            if parens > 0:
                scopes.append("inside")  # a default argument
            elif is_function(header):
                member_list = re.search(r"\)[^()?]*:[^:]", header) is not None
                scopes.append((header, header_line, member_list))
            else:
                scopes.append("scope")
                header = ""
            continue
        if char == "}":
            if scopes:
                scopes.pop()
            header, parens = "", 0
            continue
        if char == ";" and parens == 0:
            header = ""
            continue
        parens += {"(": 1, ")": -1}.get(char, 0)
        if not header.strip():
            if char.isspace():
                continue
            header, header_line = "", line
        header += char
        if re.fullmatch(r"\s*(public|private|protected)\s*:", header):
            header = ""
    return [(function_name(header), first, lines) for header, first, lines in found]


def function_name(header):
    header = without_templates(header)
    match = re.search(r"(operator\s*\S+?|~?[A-Za-z_][\w:]*)\s*\(", header)
    return match.group(1) if match else header.strip()[:40]


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))] if values else 0


def report(what, values, unit="lines"):
    print(f"sizes: {what:<18} {len(values):5d}   p50 {percentile(values, 0.5):4d}   "
          f"p95 {percentile(values, 0.95):4d}   max {max(values, default=0):4d} {unit}")


def main():
    list_soft = "--list" in sys.argv[1:]
    files, headers, test_files, function_sizes, test_functions = [], [], [], [], []
    folder_lines = {}
    hard, soft = [], []
    for folder in SOURCE_FOLDERS + ["tests"]:
        for path in sorted(pathlib.Path(folder).rglob("*")):
            if path.suffix not in SUFFIXES or not path.is_file():
                continue
            text = path.read_text(encoding="utf-8")
            lines = text.count("\n")
            is_test = folder == "tests" or path.stem.endswith("_test")
            limit = TEST_FILE_LIMIT if is_test else FILE_LIMIT
            if lines > limit:
                hard.append(f"{path}: {lines} lines, the limit is {limit}")
            elif not is_test and path.suffix in (".h", ".cuh") and lines > HEADER_TARGET:
                soft.append(f"{path}: header of {lines} lines, the target is {HEADER_TARGET}")
            elif not is_test and lines > FILE_TARGET:
                soft.append(f"{path}: {lines} lines, the target is {FILE_TARGET}")
            if is_test:
                test_files.append(lines)
            else:
                files.append(lines)
                part = next((p for p in PARTS if str(path).startswith(p + "/")), folder)
                if path.suffix in (".cu", ".cuh") and folder != "tools":
                    part = "cuda"
                folder_lines[part] = folder_lines.get(part, 0) + lines
                if path.suffix in (".h", ".cuh"):
                    headers.append(lines)
            for name, first, length in functions(BLANKED.sub(blank, text)):
                (test_functions if is_test else function_sizes).append(length)
                where = f"{path}:{first}: {name} has {length} lines"
                if length > FUNCTION_LIMIT:
                    hard.append(f"{where}, the limit is {FUNCTION_LIMIT}")
                elif length > FUNCTION_TARGET:
                    soft.append(f"{where}, the target is {FUNCTION_TARGET}")
    if not files:
        sys.exit("check_sizes: found no source files")

    report("files", files)
    report("headers", headers)
    report("functions", function_sizes)
    report("test files", test_files)
    report("test functions", test_functions)
    print("sizes: lines by folder    " +
          "   ".join(f"{folder} {folder_lines.get(folder, 0)}" for folder in SOURCE_FOLDERS + PARTS))
    for folders, limit in TOTALS:
        lines = sum(folder_lines.get(folder, 0) for folder in folders)
        print(f"sizes: {'+'.join(folders)}: {lines} of {limit} lines")
        if lines > limit:
            hard.append(f"{'+'.join(folders)}: {lines} lines, the limit is {limit}")
    print(f"sizes: {len(soft)} above a soft target, {len(hard)} above a hard limit")
    for line in (soft if list_soft else []) + hard:
        print(line)
    sys.exit(1 if hard else 0)


main()
PYTHON
