#!/usr/bin/env bash
# Our matrix products beside oneDNN's, on the shapes of a recipe's training step, in turn.
#
# usage: tools/bench/peers/products.sh [RECIPE [PAIRS [THREADS]]]
#   RECIPE   default cifar10-small-prc
#   PAIRS    runs of each, default 5
#   THREADS  default all
#
# Needs the release build and Debian's libdnnl-dev.
set -euo pipefail
cd "$(dirname "$0")/../../.."

if [[ ${1-} == -h || ${1-} == --help ]]; then
  sed -n '2,9s/^# \{0,1\}//p' "$0"
  exit 0
fi
program=$PWD/build/release/robustmoe
[[ -x $program ]] || { echo "products.sh: no $program; build it first (tools/setup.sh, then cmake)" >&2; exit 1; }
[[ -f /usr/include/dnnl.hpp ]] || { echo "products.sh: oneDNN is not there: apt-get install libdnnl-dev" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
g++ -std=c++20 -O2 -fopenmp tools/bench/peers/onednn_products.cc -o "$work/onednn_products" -ldnnl
"$work/onednn_products" "$program" "${1-cifar10-small-prc}" "${2-5}" "${3-$(nproc)}"
