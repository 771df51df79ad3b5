#pragma once

#include <string>
#include <vector>

#include "data/dataset.h"

namespace data {

// Single JPEG and PNG files without labels (label 0), in the order given. channels 3, or 1: the
// luma of Rec. 601, (299 R + 587 G + 114 B) / 1000, rounded. Info names no size and no classes.
// Decoded when read; Error as decode_image.
class PictureFiles final : public Dataset {
 public:
  // Error(kValue) for another number of channels.
  PictureFiles(std::vector<std::string> paths, int64_t channels,
               JpegDialect jpeg = JpegDialect::kAccurate);
  const Info& info() const override { return info_; }
  int64_t size() const override { return static_cast<int64_t>(paths_.size()); }
  int64_t label(int64_t) const override { return 0; }
  std::string path(int64_t i) const override { return paths_.at(static_cast<size_t>(i)); }
  void read(int64_t i, ImageU8& out) const override;

 private:
  std::vector<std::string> paths_;
  Info info_;
  JpegDialect jpeg_;
};

}  // namespace data
