#!/usr/bin/env bash
# A small reproduction of PRC with its controls. Every arm trains with the same initialisation,
# order and crops per seed, first with K = 2, then fine-tuned from that with K = 1:
#   baseline  importance and load losses
#   prc       PRC in their place
#   shuffled  PRC on shuffled pairs: correspondence is gone, sharpness is not
#   none      no auxiliary loss
#   entropy   a penalty on the gates' entropy: sharpness without any pairing
# Ends with one table for each K: means over seeds, and by seed the differences to the first arm
# with the one-sided p that they are above 0. Whatever it says is a result; only a failure of the
# program exits non-zero. Finished runs are kept and broken ones resumed, so it may be stopped at
# any moment and started again.
#
# usage: tools/reproduce.sh --data KIND:PATH [options]
#   --data KIND:PATH     e.g. cifar10:/path/to/cifar-10-batches-bin
#   --out DIR            where the runs go (default runs/reproduce)
#   --recipe NAME        the baseline arm (default cifar10-small-vmoe)
#   --arms "ARM ..."     default "baseline prc shuffled none entropy"; the first is compared with
#   --seeds "S ..."      default "0 1 2"
#   --steps N            steps with K = 2 (default: the recipe's)
#   --finetune-steps N   steps with K = 1 (default 0: leave this part out)
#   --images N           images evaluated and audited (default 0: all)
#   --path-images N      images followed on 64 steps into noise of 0.2 (default 256)
#   --entropy-weight W   default 0.01
#   --threads N          default: all that it may use
#   --device D           default cpu
#   --set KEY=VALUE      for every run, may be repeated
set -euo pipefail
cd "$(dirname "$0")/.."

data="" out=runs/reproduce recipe=cifar10-small-vmoe arms="baseline prc shuffled none entropy"
seeds="0 1 2" steps="" finetune_steps=0 images=0 path_images=256 entropy_weight=0.01 threads=0
device=cpu sets=()
while [ $# -gt 0 ]; do
  case $1 in
    -h|--help) sed -n '2,32s/^# \{0,1\}//p' "$0"; exit 0 ;;
    --set) sets+=(--set "${2?--set needs a value}"); shift 2 ;;
    --data|--out|--recipe|--arms|--seeds|--steps|--finetune-steps|--images|--path-images|\
    --entropy-weight|--threads|--device)
      [ $# -ge 2 ] || { echo "reproduce.sh: $1 needs a value" >&2; exit 2; }
      name=${1#--}
      declare "${name//-/_}=$2"
      shift 2 ;;
    *) echo "reproduce.sh: unknown option $1 (see --help)" >&2; exit 2 ;;
  esac
done
[ -n "$data" ] || { echo "reproduce.sh: --data is required (see --help)" >&2; exit 2; }

no_balance=(--set moe.importance_weight=0 --set moe.load_weight=0)
arm_settings() {  # ARM, into the array `settings`
  case $1 in
    baseline) settings=() ;;
    prc) settings=("${no_balance[@]}" --set prc.form=paper) ;;
    shuffled) settings=("${no_balance[@]}" --set prc.form=paper --set prc.pairs=shuffled) ;;
    none) settings=("${no_balance[@]}") ;;
    entropy) settings=("${no_balance[@]}" --set "moe.entropy_weight=$entropy_weight") ;;
    *) echo "reproduce.sh: unknown arm $1 (see --help)" >&2; exit 2 ;;
  esac
}
for arm in $arms; do arm_settings "$arm"; done

tools/setup.sh
cmake --preset release >/dev/null
cmake --build build/release --target robustmoe
robustmoe=build/release/robustmoe

# Runs of other settings must not end in one table.
options="data=$data recipe=$recipe steps=$steps finetune_steps=$finetune_steps images=$images
path_images=$path_images entropy_weight=$entropy_weight set=${sets[*]}"
mkdir -p "$out"
if [ -e "$out/options" ] && [ "$(cat "$out/options")" != "$options" ]; then
  echo "reproduce.sh: $out holds runs of other options ($(tr '\n' ' ' <"$out/options")): choose another --out" >&2
  exit 1
fi
echo "$options" >"$out/options"

train() {  # RUN MORE...: trains, evaluates and audits, as far as that is not done
  local run=$1
  shift
  if [ -e "$run/path.json" ]; then return; fi
  if [ -e "$run/config.toml" ]; then
    "$robustmoe" train --resume --out "$run" --data "$data" --threads "$threads" --device "$device"
  else
    rm -rf "$run"
    "$robustmoe" train --recipe "$recipe" --out "$run" --data "$data" --threads "$threads" \
      --device "$device" "$@"
  fi
  local on=(--checkpoint "$run" --data "$data" --threads "$threads")
  "$robustmoe" eval "${on[@]}" --limit "$images" --json "$run/eval.json"
  "$robustmoe" audit "${on[@]}" --limit "$images" --seed 1 --json "$run/audit.json" \
    >"$run/audit.txt"
  "$robustmoe" audit "${on[@]}" --limit "$path_images" --seed 1 --noise-levels none \
    --noise-path 64:0.2 --json "$run/path.json" >"$run/path.txt"
}

table() {  # K RUN...
  echo
  echo "K = $1"
  "$robustmoe" compare --paired "${@:2}" --json "$out/table-k$1.json"
}

two=() one=()
for seed in $seeds; do
  for arm in $arms; do
    arm_settings "$arm"
    run=$out/k2/$arm-seed$seed
    train "$run" --seed "$seed" ${steps:+--steps "$steps"} "${settings[@]}" "${sets[@]}"
    two+=("$run")
    [ "$finetune_steps" -gt 0 ] || continue
    tuned=$out/k1/$arm-seed$seed
    train "$tuned" --seed "$seed" --steps "$finetune_steps" --init "$run" --set moe.top_k=1 \
      "${settings[@]}" "${sets[@]}"
    one+=("$tuned")
  done
done
table 2 "${two[@]}"
[ ${#one[@]} -eq 0 ] || table 1 "${one[@]}"
