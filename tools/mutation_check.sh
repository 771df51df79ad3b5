#!/usr/bin/env bash
# Whether the golden values (tests/golden) can tell right from wrong: breaks a copy of the sources
# in one place at a time, as a reader of the paper might get it wrong, and runs the golden tests on
# each. Every mutation must make them fail. Takes about a quarter of an hour on two cores; nothing here is changed.
#
# usage: tools/mutation_check.sh [--keep DIR] [--only TEXT]
#   --keep DIR   work there, and keep what is built for the next time
#   --only WHAT  only mutations whose description begins with WHAT, such as "RandAugment" or "JPEG|crop"
#
# The last line is the sum, "N passed, N failed, N skipped".
set -euo pipefail
cd "$(dirname "$0")/.."

work="" only=""
while [ $# -gt 0 ]; do
  case $1 in
    -h|--help) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 0 ;;
    --keep) work=${2?--keep needs a folder}; shift 2 ;;
    --only) only=${2?--only needs the begin of a description}; shift 2 ;;
    *) echo "mutation_check.sh: unknown option $1 (see --help)" >&2; exit 2 ;;
  esac
done
if [ -z "$work" ]; then
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
fi

# what | file | text as it is | text of the mutation
mutations='
PRC: wrong sign of the off-diagonal term|moe/prc_loss.cc|t.off_diagonal += v * v|t.off_diagonal -= v * v
PRC: wrong sign of the diagonal gradient|moe/prc_loss.cc|-factor * 2 * lambda_diag|factor * 2 * lambda_diag
PRC: factor E/N without E|moe/prc_loss.cc|const double factor = static_cast<double>(experts) / static_cast<double>(pairs.count);|const double factor = 1.0 / static_cast<double>(pairs.count);
PRC: gradient without the factor E/N|moe/prc_loss.cc|factor = e / static_cast<double>(pairs.count);|factor = 1;
PRC: S transposed in the gradient|moe/prc_loss.cc|ga += m[i * experts + j]|ga += m[j * experts + i]
PRC: slots summed before they are squared|moe/prc_loss.cc|const int64_t count = slots * experts;|const int64_t count = experts;
PRC: noise in S|train/objective.cc|pairs_.router == "noisy" ? r.gates : r.clean|pairs_.router == "noisy" ? r.clean : r.gates
importance: on the noisy gates|train/objective.cc|importance_loss(r.clean|importance_loss(r.gates
importance: over the batch, not the group|train/objective.cc|moe_.group_images > 0 ? moe_.group_images : r.images|moe_.group_images > 999 ? moe_.group_images : r.images
load: threshold without noise|train/objective.cc|load_loss(r.logits, r.noisy_logits|load_loss(r.logits, r.logits
load: no gradient through the threshold|moe/balance_loss.cc|dtau -= d;|dtau -= 0 * d;
weights of the choices without noise|moe/moe_layer.cc|engine::pick(routing.gates|engine::pick(routing.clean
noise not divided by the experts|moe/router.cc|config_.noise_std / static_cast<double>(config_.experts)|config_.noise_std
batch priority: the least sure first|moe/dispatch.cc|key[a] > key[b]|key[a] < key[b]
capacity: one slot more|moe/dispatch.cc|counter[e]++ >= capacity|counter[e]++ > capacity
gshard: without a factor E|nn/loss/gshard_loss.cc|static_cast<double>(g.experts) /|1.0 /
entropy: wrong sign|nn/loss/mean_entropy.cc|sum -= r|sum += r
Soft MoE: tokens not of unit length|moe/soft_moe.cc|engine::linear(engine::unit_rows(x)|engine::linear(engine::scale(x, 1)
Soft MoE: without the scale|moe/soft_moe.cc|unit_rows(mu_.on(f), factor_.on(f))|unit_rows(mu_.on(f))
Soft MoE: noise not divided by the experts|moe/soft_moe.cc|config_.noise_std / static_cast<double>(config_.experts)|config_.noise_std
RandAugment: grey of 1/256|data/transform/augment/color.cc|1.0f / 255.0f|1.0f / 256.0f
RandAugment: blend rounds|data/transform/augment/pixel_ops.h|? 255.0f : least|? 255.0f : least + 0.5f
RandAugment: mean of the picture in contrast|data/transform/augment/contrast.cc|centre == ContrastCentre::kMean|centre != ContrastCentre::kMean
RandAugment: sharpness in whole numbers|data/transform/augment/sharpness.cc|255.0f : means[i]|255.0f : means[i] + 0.01f
RandAugment: borders exchanged|data/transform/augment/rand_augment.cc|== RandAugmentDialect::kPrc ? Border|!= RandAugmentDialect::kPrc ? Border
RandAugment: halves down, grey border|data/transform/augment/warp.cc|std::abs(x - down) >= 0.5f|std::abs(x - down) > 0.5f
RandAugment: halves down, reflected border|data/transform/augment/warp.cc|static_cast<float>(down) >= 0.5f|static_cast<float>(down) > 0.5f
RandAugment: the last pixel of all is the one before it|data/transform/augment/warp.cc|from[3 * last]|from[3 * last - 3]
RandAugment: shear the other way in the matrix|data/transform/augment/affine.cc|{{1, 0, 0, -level, 1, 0}}|{{1, 0, 0, level, 1, 0}}
RandAugment: solarize one later|data/transform/augment/solarize.cc|v >= least|v > least
RandAugment: equalize without half a step|data/transform/augment/equalize.cc|below + step / 2|below
resize: corners aligned|data/transform/resize.cc|(static_cast<float>(i) + 0.5f) * scale|(static_cast<float>(i) + 0.49f) * scale
resize: by area, the last pixel not weighted|data/transform/resize_area.cc|value * x.weight(j)|value
resize: Pillow without antialiasing|data/transform/resize_pil.cc|std::max(scale, 1.0)|1.0
JPEG: dialects exchanged|data/codec/decode_jpeg.cc|== JpegDialect::kFast ? JDCT|!= JpegDialect::kFast ? JDCT
JPEG: CMYK rounded as the other dialect does|data/codec/decode_jpeg.cc|== JpegDialect::kAccurate ? 127|!= JpegDialect::kAccurate ? 127
crop: area and aspect independent of the height|data/transform/inception_crop.cc|std::sqrt(area_max / aspect)|std::sqrt(area_max)
jitter: mean of contrast not rounded|data/transform/augment/color_jitter.cc|(mean + 0.5)|(mean)
jitter: hue turned the other way|data/transform/augment/hue.cc|hsv[0] + shift|hsv[0] - shift
ResNet: running variance not unbiased|engine/ops/batch_norm.cc|/ static_cast<double>(rows - 1)|/ static_cast<double>(rows)
ResNet: start of running statistics forgotten at once|engine/ops/batch_norm.cc|momentum, running->mean|1 - momentum, running->mean
timm: exact and approximate GELU exchanged|train/network.cc|config.model.gelu == "erf"|config.model.gelu != "erf"
'

mkdir -p "$work/tree"
# Only what differs, so that a kept folder builds only that.
git ls-files | while IFS= read -r file; do
  cmp -s "$file" "$work/tree/$file" || cp --parents "$file" "$work/tree"
done
cd "$work/tree"
cmake --preset release >/dev/null
build() { cmake --build build/release --target test_train >"$work/build.log" 2>&1; }
golden() { build/release/tests/test_train --test-case='golden*' >"$work/test.log" 2>&1; }
build || { tail -n 20 "$work/build.log" >&2; exit 1; }
golden || { echo "the golden tests fail without any mutation"; exit 1; }

passed=0 failed=0
while IFS='|' read -r what file old new; do
  if [[ -z $what || ! $what =~ ^($only) ]]; then continue; fi
  cp "$file" "$work/original"
  OLD=$old NEW=$new perl -0pi -e 's/\Q$ENV{OLD}\E/$ENV{NEW}/' "$file"
  if cmp -s "$file" "$work/original"; then
    result="FAILED   nothing to break: the text is not in $file"
  elif ! build; then
    result="FAILED   does not compile"
  elif golden; then
    result="FAILED   not noticed"
  else
    result="noticed "
  fi
  cp "$work/original" "$file"
  case $result in FAILED*) failed=$((failed + 1)) ;; *) passed=$((passed + 1)) ;; esac
  echo "$result $what"
done <<<"$mutations"
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
