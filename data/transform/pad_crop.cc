#include "data/transform/pad_crop.h"

#include <algorithm>
#include <cstring>

namespace data {

CropBox draw_pad_crop(int64_t height, int64_t width, int64_t pad, engine::RngStream& rng) {
  CropBox box{height, width, rng.integer(-pad, pad + 1), 0, false};
  box.x = rng.integer(-pad, pad + 1);
  return box;
}

void crop(const ImageU8& in, const CropBox& box, ImageU8& out) {
  out.reshape(box.h, box.w, in.channels);
  const int64_t first = std::clamp<int64_t>(-box.x, 0, box.w);
  const int64_t last = std::clamp<int64_t>(in.width - box.x, first, box.w);
  for (int64_t y = 0; y < box.h; ++y) {
    uint8_t* row = out.pixels.data() + y * box.w * in.channels;
    const int64_t source = y + box.y;
    if (source < 0 || source >= in.height || first == last) {
      std::memset(row, 0, static_cast<size_t>(box.w * in.channels));
      continue;
    }
    std::memset(row, 0, static_cast<size_t>(first * in.channels));
    std::memcpy(row + first * in.channels, in.at(source, first + box.x),
                static_cast<size_t>((last - first) * in.channels));
    std::memset(row + last * in.channels, 0, static_cast<size_t>((box.w - last) * in.channels));
  }
}

}  // namespace data
