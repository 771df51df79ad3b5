#include <algorithm>

#include "engine/core/parallel.h"
#include "engine/ops/normalise_bytes_kernels.h"

namespace engine::kernels {
namespace {

void look_up(const uint8_t* bytes, int64_t width, bool mirrored, const float* table, float* y) {
  const uint8_t* first = mirrored ? bytes + width - 1 : bytes;
  const int64_t step = mirrored ? -1 : 1;
  for (int64_t w = 0; w < width; ++w) y[w] = table[first[w * step]];
}

void erase(const int32_t* box, const ByteViews& in, float* y) {
  const int64_t top = std::max(0, box[0]), left = std::max(0, box[1]);
  const int64_t bottom = std::min<int64_t>(in.height, int64_t{box[0]} + box[2]);
  const int64_t right = std::min<int64_t>(in.width, int64_t{box[1]} + box[3]);
  for (int64_t h = top; h < bottom && left < right; ++h) {
    std::fill_n(y + h * in.width + left, right - left, 0.0f);
  }
}

}  // namespace

void normalise_bytes(Cpu, const ByteViews& in, float* y) {
  const int64_t plane = in.height * in.width;
  parallel_for(in.planes(), rows_per_grain(plane), [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      const int64_t image = p / in.channels;
      const float* table = in.table + p % in.channels * 256;
      for (int64_t h = 0; h < in.height; ++h) {
        const int64_t at = p * plane + h * in.width;
        look_up(in.bytes + at, in.width, in.mirrored[image] != 0, table, y + at);
      }
      if (in.erased != nullptr) erase(in.erased + 4 * image, in, y + p * plane);
    }
  });
}

}  // namespace engine::kernels
