#!/usr/bin/env bash
# The main job from nothing: installs what is missing, builds, trains a V-MoE without and with
# PRC on Fashion-MNIST for the same number of views, evaluates and audits both on the same
# views and prints one table. Exits non-zero when a bar is missed.
#
# usage: tools/quickstart.sh [--out DIR] [--seed S] [--threads N] [--steps N]
#   --out DIR    where the runs go (default runs/quickstart; a run there already is replaced)
#   --seed S     seed of both runs (default 0)
#   --threads N  threads (default: all that it may use)
#   --steps N    shorter or longer runs; the accuracy bar is checked only without it
set -euo pipefail
cd "$(dirname "$0")/.."

out=runs/quickstart seed=0 threads=0 steps=
while [ $# -gt 0 ]; do
  case $1 in
    --out|--seed|--threads|--steps)
      [ $# -ge 2 ] || { echo "quickstart.sh: $1 needs a value" >&2; exit 2; }
      declare "${1#--}=$2"
      shift 2 ;;
    -h|--help) sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "quickstart.sh: unknown option $1 (see --help)" >&2; exit 2 ;;
  esac
done

start=$SECONDS
tools/setup.sh --data
cmake --preset release >/dev/null
cmake --build build/release --target robustmoe
robustmoe=build/release/robustmoe
built=$SECONDS

# The one place where Debian's package puts the files.
images=$(dpkg -L dataset-fashion-mnist | grep 'train-images-idx3-ubyte' | head -n 1)
data="idx:$(dirname "$images")"

trained=0
for recipe in quick-vmoe quick-prc; do
  run="$out/$recipe"
  rm -rf "$run"
  begin=$SECONDS
  "$robustmoe" train --recipe "$recipe" --data "$data" --out "$run" --seed "$seed" \
    --threads "$threads" ${steps:+--steps "$steps"}
  trained=$((trained + SECONDS - begin))
  "$robustmoe" eval --checkpoint "$run" --data "$data" --json "$run/eval.json"
  # The same seed: both are audited on the same views.
  "$robustmoe" audit --checkpoint "$run" --data "$data" --seed 1 --json "$run/audit.json" \
    > "$run/audit.txt"
done

echo
echo "quick-vmoe (importance and load losses) and quick-prc (PRC in their place):"
bars=(--no-dead-experts)
[ -n "$steps" ] || bars+=(--min-accuracy 0.82)
status=0
"$robustmoe" compare "$out/quick-vmoe" "$out/quick-prc" "${bars[@]}" || status=1
echo
echo "files: $out/quick-vmoe and $out/quick-prc (config.toml, metrics.jsonl, checkpoints, audit.txt)"
echo "time: $((built - start)) s setup and build, $trained s training, $((SECONDS - start)) s in all"
if [ -z "$steps" ] && [ "$trained" -gt 480 ]; then
  echo "missed: training took $trained s, the bar is 480 s"
  status=1
fi
if [ $status -eq 0 ]; then echo "all bars held"; fi
exit $status
