#include "train/audit/pairs.h"

#include <algorithm>

#include "engine/core/error.h"
#include "engine/core/parallel.h"

namespace train {

using engine::check;
using engine::ErrorKind;
using engine::Tensor;

namespace {

// A patch of one channel whose corner is at `first`.
bool one_value(const float* first, int64_t patch, int64_t stride) {
  for (int64_t y = 0; y < patch; ++y) {
    const float* row = first + y * stride;
    if (!std::all_of(row, row + patch, [first](float x) { return x == *first; })) return false;
  }
  return true;
}

}  // namespace

void find_flat_patches(const Tensor& pixels, int64_t patch, std::vector<uint8_t>& flat) {
  const int64_t images = pixels.shape()[0], channels = pixels.shape()[1];
  const int64_t size = pixels.shape()[2], grid = size / patch;
  check(size % patch == 0, ErrorKind::kShape, "images of ", size, " pixels in patches of ", patch);
  flat.assign(static_cast<size_t>(images * grid * grid), 1);
  const float* data = pixels.data<const float>();
  engine::parallel_for(images, 8, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      for (int64_t p = 0; p < grid * grid; ++p) {
        const int64_t corner = (p / grid * size + p % grid) * patch;
        for (int64_t c = 0; c < channels; ++c) {
          const float* plane = data + (b * channels + c) * size * size;
          if (!one_value(plane + corner, patch, size)) flat[b * grid * grid + p] = 0;
        }
      }
    }
  });
}

void find_pairs(const Tensor& match, const std::vector<uint8_t>& flat, int64_t tokens,
                std::vector<AuditPair>& pairs) {
  const int64_t sources = match.shape()[0], patches = match.shape()[1];
  const int64_t before = tokens - patches;  // the class token
  check(before == 0 || before == 1, ErrorKind::kShape, "audit: ", tokens, " tokens for ", patches,
        " patches");
  check(static_cast<int64_t>(flat.size()) == 2 * sources * patches, ErrorKind::kShape,
        "audit: marks of ", flat.size(), " patches for two views of ", sources, " images of ",
        patches);
  pairs.clear();
  const int32_t* partner = match.data<const int32_t>();
  for (int64_t i = 0; i < sources; ++i) {
    const uint8_t* flat1 = flat.data() + 2 * i * patches;
    const uint8_t* flat2 = flat1 + patches;
    for (int64_t p = 0; p < patches; ++p) {
      const int64_t q = partner[i * patches + p];
      if (q < 0 || flat1[p] != 0 || flat2[q] != 0) continue;
      pairs.push_back({i, 2 * i * tokens + before + p, (2 * i + 1) * tokens + before + q});
    }
  }
}

}  // namespace train
