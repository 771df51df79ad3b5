#!/usr/bin/env bash
# Our matrix products beside oneDNN's, in turn: the shapes of a recipe's training step, or of so many rows.
#
# usage: tools/bench/peers/products.sh [-n PAIRS] [-t THREADS] [-p f32|both] [OPTIONS OF bench ops]
#   -n        runs of each, default 5
#   -t        default all
#   -p        default both: f32, and bf16, which is slow where there is no AMX
#   OPTIONS   without --recipe cifar10-small-prc; for example --recipe NAME --set train.batch=128 --rows 64
#
# Needs the release build and Debian's libdnnl-dev.
set -euo pipefail
cd "$(dirname "$0")/../../.."

usage() { sed -n '2,10s/^# \{0,1\}//p' "$0"; }
pairs=5
threads=$(nproc)
precision=both
while (($# > 0)); do
  case $1 in
    -h | --help) usage && exit 0 ;;
    -[ntp])
      (($# > 1)) || { usage >&2 && exit 2; }
      case $1 in
        -n) pairs=$2 ;;
        -t) threads=$2 ;;
        -p) precision=$2 ;;
      esac
      shift 2
      ;;
    *) break ;;
  esac
done
count='^[1-9][0-9]{0,3}$'
if ! [[ $pairs =~ $count && $threads =~ $count && $precision =~ ^(f32|both)$ ]]; then
  usage >&2
  exit 2
fi
program=$PWD/build/release/robustmoe
[[ -x $program ]] || { echo "products.sh: no $program; build it first (tools/setup.sh, then cmake)" >&2; exit 1; }
[[ -f /usr/include/dnnl.hpp ]] || { echo "products.sh: oneDNN is not there: apt-get install libdnnl-dev" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
g++ -std=c++20 -O2 -fopenmp tools/bench/peers/onednn_products.cc -o "$work/onednn_products" -ldnnl
"$work/onednn_products" "$program" "$pairs" "$threads" "$precision" --recipe cifar10-small-prc "$@"
