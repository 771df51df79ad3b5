#pragma once

#include <cstdint>
#include <vector>

#include "data/dataset.h"

namespace data {

// A set whose pictures are all in memory, one after another: what the small formats (IDX,
// CIFAR) become once their files are read.
class MemoryDataset final : public Dataset {
 public:
  // pixels (n, info.height, info.width, info.channels), labels (n) in [0, info.classes).
  // Throws Error(kInternal) where the sizes do not fit together.
  MemoryDataset(Info info, std::vector<uint8_t> pixels, std::vector<int32_t> labels);

  const Info& info() const override { return info_; }
  int64_t size() const override { return static_cast<int64_t>(labels_.size()); }
  int64_t label(int64_t i) const override;
  void read(int64_t i, ImageU8& out) const override;

 private:
  Info info_;
  std::vector<uint8_t> pixels_;
  std::vector<int32_t> labels_;
};

}  // namespace data
