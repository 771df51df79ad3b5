#include "data/memory_dataset.h"

#include <cstring>
#include <utility>

#include "engine/core/error.h"

namespace data {
namespace {

using engine::check;
using engine::ErrorKind;

}  // namespace

MemoryDataset::MemoryDataset(Info info, std::vector<uint8_t> pixels, std::vector<int32_t> labels)
    : info_(std::move(info)), pixels_(std::move(pixels)), labels_(std::move(labels)) {
  const int64_t wanted = size() * info_.height * info_.width * info_.channels;
  check(static_cast<int64_t>(pixels_.size()) == wanted, ErrorKind::kInternal, info_.kind, ": ",
        pixels_.size(), " bytes of pixels for ", size(), " pictures, expected ", wanted);
}

int64_t MemoryDataset::label(int64_t i) const {
  check(i >= 0 && i < size(), ErrorKind::kValue, info_.kind, ": no image ", i, " in a set of ",
        size());
  return labels_[static_cast<size_t>(i)];
}

void MemoryDataset::read(int64_t i, ImageU8& out) const {
  check(i >= 0 && i < size(), ErrorKind::kValue, info_.kind, ": no image ", i, " in a set of ",
        size());
  out.reshape(info_.height, info_.width, info_.channels);
  const size_t bytes = out.pixels.size();
  std::memcpy(out.pixels.data(), pixels_.data() + static_cast<size_t>(i) * bytes, bytes);
}

}  // namespace data
