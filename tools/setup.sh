#!/usr/bin/env bash
# Installs the Debian packages this project builds with; does nothing where all are there.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: tools/setup.sh [--data] [--check] [--browser]
  --data    also install the data set of the quickstart (dataset-fashion-mnist)
  --check   also install what tools/check.sh and the clang builds need
  --browser also install what the test of the router report's page needs
TEXT
}

packages=(
  build-essential g++ cmake ninja-build
  libeigen3-dev libstb-dev doctest-dev libcxxopts-dev libtomlplusplus-dev nlohmann-json3-dev
  libjpeg-dev zlib1g-dev curl
)
while (($# > 0)); do
  case "$1" in
    --data) packages+=(dataset-fashion-mnist) ;;
    # git and python3 belong to the checks alone: they list and measure the sources.
    --check) packages+=(clang clang-format clang-tidy libclang-rt-dev libomp-dev git python3) ;;
    --browser) packages+=(chromium chromium-driver python3 python3-selenium) ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
  shift
done

die() {
  echo "setup: $1" >&2
  exit 1
}

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  die "no apt-get here; install what third_party/README.md lists with your own package manager"
fi

# One query for all; dpkg-query exits non-zero when it does not know one of them.
installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "${packages[@]}" 2>/dev/null || true)
missing=()
for package in "${packages[@]}"; do
  grep -qxF "installed $package" <<<"$installed" || missing+=("$package")
done
if ((${#missing[@]} == 0)); then
  exit 0
fi

as_root=()
if ((EUID != 0)); then
  if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    as_root=(sudo -n)
  else
    echo "setup: packages are missing and installing them needs root; run this, then again:" >&2
    echo "sudo apt-get update && sudo apt-get install -y --no-install-recommends ${missing[*]}" >&2
    exit 1
  fi
fi

echo "setup: installing ${missing[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT

install_missing() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -q --no-install-recommends "${missing[@]}" </dev/null >"$log" 2>&1
}

# The package lists are refreshed only where the install fails without: on a machine that has them
# that saves a minute.
if ! install_missing; then
  "${as_root[@]}" apt-get update -q </dev/null >"$log" 2>&1 ||
    { tail -n 20 "$log" >&2; die "apt-get update failed; is there a network?"; }
  install_missing ||
    { tail -n 20 "$log" >&2; die "apt-get could not install: ${missing[*]}"; }
fi
echo "setup: done"
