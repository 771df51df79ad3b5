#!/usr/bin/env bash
# Kills training runs at random moments and resumes them: each must end with the same
# model.safetensors, byte for byte, as the same run undisturbed. The run crosses ends of epochs
# with accumulation, averaged weights and a warm-up on. First --kills SIGKILLs on one run, at
# least a quarter of them while a checkpoint is being written; then 3 a run, 1 of them so, for
# 1, 2 and 5 threads and 0, 1 and 4 loader workers.
#
# usage: tools/resume_check.sh [--kills N] [--seed S] [--keep]
#   --kills N  kills of the first run (default 20)
#   --seed S   seed of the moments (default: random, printed)
#   --keep     leave the runs where they are
# Needs build/release/robustmoe (ROBUSTMOE names another program).
set -euo pipefail
cd "$(dirname "$0")/.."

kills=20 seed=$RANDOM keep=
while [ $# -gt 0 ]; do
  case $1 in
    --kills|--seed)
      [[ ${2:-} =~ ^[0-9]+$ ]] || { echo "resume_check.sh: $1 needs a number" >&2; exit 2; }
      declare "${1#--}=$2"
      shift 2 ;;
    --keep) keep=yes; shift ;;
    -h|--help) sed -n '2,13s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "resume_check.sh: unknown option $1 (see --help)" >&2; exit 2 ;;
  esac
done
program=${ROBUSTMOE:-build/release/robustmoe}
[ -x "$program" ] || { echo "resume_check.sh: no $program; build it first" >&2; exit 1; }
RANDOM=$seed

work=$(mktemp -d "${TMPDIR:-/tmp}/resume-check-XXXXXX")
child=
clean_up() {
  [ -z "$child" ] || kill -KILL "$child" 2>/dev/null || true
  if [ -n "$keep" ]; then echo "runs kept in $work"; else rm -rf "$work"; fi
}
trap clean_up EXIT
echo "seed $seed, runs in $work"

# 300 images in steps of 64 views: an epoch ends every 4.7 steps.
steps=120
# Sets `command` to the arguments of a run from its beginning.
command_of() {  # RUN THREADS WORKERS
  command=(train --recipe quick-vmoe --data "shapes:size=16,train=300,test=20" --out "$1"
    --threads "$2" --set data.workers="$3" --steps "$steps" --set train.batch=64
    --set data.two_view=false --set train.micro_batch=16 --set train.ema=0.99
    --set schedule.warmup_steps=30 --set checkpoint.every=4 --set log.every=20
    --set model.width=32 --set model.mlp=64
    --set model.patch=4 --set model.heads=4 --set model.layers=4 --set "moe.layers=1,3")
}

# The last checkpoint's weights, and the checksum of their tensors without the file's header,
# which holds the settings.
weights() { printf '%s/checkpoints/step-%09d/model.safetensors' "$1" $steps; }
tensors() {
  local header
  header=$(od -A n -t u8 -N 8 "$(weights "$1")")
  tail -c +$((header + 9)) "$(weights "$1")" | sha256sum
}

# Is a checkpoint of this run half-written?
writing() { compgen -G "$1/checkpoints/.writing-step-?????????-[0-9]*" >/dev/null; }

# Starts or resumes the run in the background, waits for a random moment - with "inside" from
# there on for a half-written checkpoint - and kills it. Sets `killed` and `inside` to 0 or 1.
strike() {  # RUN inside|any
  if compgen -G "$1/checkpoints/step-*" >/dev/null; then
    "$program" train --resume --out "$1" >>"$1.log" 2>&1 &
  else  # killed before its first checkpoint: nothing to go on from
    rm -rf "$1"
    "$program" "${command[@]}" >>"$1.log" 2>&1 &
  fi
  child=$!
  local ms=$((RANDOM % most_ms)) deadline=$((SECONDS + 20)) status=0
  sleep "$((ms / 1000)).$(printf '%03d' $((ms % 1000)))"
  if [ "$2" = inside ]; then
    until writing "$1" || [ $SECONDS -ge $deadline ] || ! kill -0 $child 2>/dev/null; do :; done
  fi
  kill -KILL $child 2>/dev/null || true
  wait $child 2>/dev/null || status=$?
  child=
  killed=0 inside=0
  if [ $status -eq 137 ]; then killed=1; fi
  if [ $killed -eq 1 ] && writing "$1"; then inside=1; fi
}

# Kills a run so often and finishes it. Sets kills_done and inside_done; fails if it ended first.
harass() {  # RUN KILLS LEAST_INSIDE
  local mode
  kills_done=0 inside_done=0
  rm -rf "$1"
  while [ $kills_done -lt "$2" ]; do
    mode=any
    if [ $inside_done -lt "$3" ]; then
      if [ $((kills_done % 2)) -eq 0 ] || [ $(($2 - kills_done)) -le $(($3 - inside_done)) ]; then
        mode=inside
      fi
    fi
    strike "$1" $mode
    [ $killed -eq 1 ] || return 1
    kills_done=$((kills_done + 1)) inside_done=$((inside_done + inside))
  done
  [ $inside_done -ge "$3" ]
}

# Trains undisturbed, then with kills, and compares. One line of the table.
check() {  # THREADS WORKERS KILLS LEAST_INSIDE
  local name="$1-threads-$2-workers-$3-kills" begin verdict=passed attempt=1
  local calm="$work/calm-$name" struck="$work/struck-$name"
  command_of "$calm" "$1" "$2"
  begin=$(date +%s%N)
  "$program" "${command[@]}" >"$calm.log" 2>&1 || { cat "$calm.log" >&2; exit 1; }
  # The kills are spread over the run; where it ends before the last, all begins anew, faster.
  most_ms=$((($(date +%s%N) - begin) / 1000000 / $3 + 20))
  command_of "$struck" "$1" "$2"
  until harass "$struck" "$3" "$4" || [ $attempt -eq 5 ]; do
    attempt=$((attempt + 1)) most_ms=$((most_ms * 2 / 3 + 10))
  done
  "$program" train --resume --out "$struck" >>"$struck.log" 2>&1 || true
  if [ ! -f "$(weights "$struck")" ]; then
    verdict="failed: no last checkpoint, see $struck.log"
    keep=yes
  elif ! cmp -s "$(weights "$calm")" "$(weights "$struck")"; then
    verdict="failed: not the undisturbed bytes"
  elif [ "${tensors_of_all:=$(tensors "$calm")}" != "$(tensors "$struck")" ]; then
    verdict="failed: not the first run's tensors"
  elif [ $kills_done -lt "$3" ] || [ $inside_done -lt "$4" ]; then
    verdict="failed: too few kills"
  fi
  if [ "$verdict" = passed ]; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
  printf '%7d  %7d  %5d  %6d  %s\n' "$1" "$2" $kills_done $inside_done "$verdict"
}

passed=0 failed=0 tensors_of_all=
echo "threads  workers  kills  inside  result   (inside: while a checkpoint was being written)"
check 2 1 "$kills" $(((kills + 3) / 4))
for threads in 1 2 5; do
  for workers in 0 1 4; do
    check $threads $workers 3 1
  done
done
echo "$passed passed, $failed failed, 0 skipped"
[ $failed -eq 0 ]
