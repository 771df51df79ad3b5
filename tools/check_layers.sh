#!/usr/bin/env bash
# Who may include whom:  engine <- nn <- moe;  data uses engine/core;  train uses those four;
# tools and tests use anything. Prints every include that breaks it.
set -euo pipefail
cd "$(dirname "$0")/.."

# What the quoted includes of a folder may begin with, as an extended regular expression.
# engine/config.h holds the build's options, which engine/core itself includes.
allowed() {
  case "$1" in
    engine) echo 'engine/' ;;
    nn) echo '(engine|nn)/' ;;
    moe) echo '(engine|nn|moe)/' ;;
    data) echo '(data/|engine/core/|engine/config\.h)' ;;
    train) echo '(engine|nn|moe|data|train)/' ;;
    tools | tests) echo '(engine|nn|moe|data|train|tools|tests)/' ;;
  esac
}

folders=(engine nn moe data train tools tests)
any="($(IFS='|'; echo "${folders[*]}"))/"
broken=0
files=0
for folder in "${folders[@]}"; do
  [[ -d $folder ]] || continue
  rule=$(allowed "$folder")
  while IFS= read -r file; do
    files=$((files + 1))
    while IFS=: read -r line text; do
      [[ -n $line ]] || continue
      # A path without its folder, or in angle brackets, would slip past the rule.
      if [[ $text =~ \"([^\"]+)\" ]] || [[ $text =~ \<(${any}[^>]+)\> ]]; then
        path=${BASH_REMATCH[1]}
        if [[ ! $path =~ ^$rule ]]; then
          echo "$file:$line: $folder must not include \"$path\""
          broken=$((broken + 1))
        fi
      fi
    done < <(grep -nE '^[[:space:]]*#[[:space:]]*include' "$file" || true)
  done < <(find "$folder" \( -name '*.h' -o -name '*.cuh' -o -name '*.cc' -o -name '*.cpp' -o -name '*.cu' \) | sort)
done
if ((files == 0)); then
  echo "check_layers: found no source files" >&2
  exit 1
fi
echo "layers: $files files, $broken broken includes"
((broken == 0))
