#!/usr/bin/env bash
# Does PRC make routers agree on what two views share? Three arms with paired seeds on
# Fashion-MNIST: quick-prc, quick-vmoe (no PRC), and quick-prc with shuffled pairs, a control that
# must not help. All are audited on the same views. Exits non-zero unless, for every seed and in
# every MoE layer, quick-prc has the highest mutual information and at least 4 effective experts.
#
# usage: tools/prc_control.sh [--out DIR] [--seeds "S S ..."] [--threads N] [--steps N]
#   --out DIR    where the runs go (default runs/prc_control); finished runs there are kept
#   --seeds      seeds (default "0 1")
#   --threads N  threads (default: all that it may use)
#   --steps N    shorter or longer runs
set -euo pipefail
cd "$(dirname "$0")/.."

out=runs/prc_control seeds="0 1" threads=0 steps=
while [ $# -gt 0 ]; do
  case $1 in
    --out|--seeds|--threads|--steps)
      [ $# -ge 2 ] || { echo "prc_control.sh: $1 needs a value" >&2; exit 2; }
      declare "${1#--}=$2"
      shift 2 ;;
    -h|--help) sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "prc_control.sh: unknown option $1 (see --help)" >&2; exit 2 ;;
  esac
done

tools/setup.sh --data
cmake --preset release >/dev/null
cmake --build build/release --target robustmoe
robustmoe=build/release/robustmoe
images=$(dpkg -L dataset-fashion-mnist | grep 'train-images-idx3-ubyte' | head -n 1)
data="idx:$(dirname "$images")"

arm() {  # NAME RECIPE SEED MORE...
  local run=$out/$1-seed$3 recipe=$2 seed=$3
  shift 3
  if [ -e "$run/audit.json" ]; then return; fi
  rm -rf "$run"
  "$robustmoe" train --recipe "$recipe" --data "$data" --out "$run" --seed "$seed" \
    --threads "$threads" ${steps:+--steps "$steps"} "$@"
  "$robustmoe" eval --checkpoint "$run" --data "$data" --json "$run/eval.json"
  "$robustmoe" audit --checkpoint "$run" --data "$data" --seed 1 --noise-levels none \
    --json "$run/audit.json" >"$run/audit.txt"
}

status=0
for seed in $seeds; do
  arm quick-prc quick-prc "$seed"
  arm quick-vmoe quick-vmoe "$seed"
  arm shuffled quick-prc "$seed" --set prc.pairs=shuffled
  echo
  "$robustmoe" compare "$out/quick-prc-seed$seed" "$out/quick-vmoe-seed$seed" \
    "$out/shuffled-seed$seed" --first-highest mutual_information || status=1
  "$robustmoe" compare "$out/quick-prc-seed$seed" --min-effective-experts 4 \
    >"$out/effective-seed$seed.txt" || { grep '^missed' "$out/effective-seed$seed.txt"; status=1; }
done
if [ $status -eq 0 ]; then echo "all bars held"; fi
exit $status
