#include "train/right_classes.h"

#include <zlib.h>

#include <algorithm>

#include "engine/core/error.h"

namespace train {

RightClasses::RightClasses(const MultiLabels& labels, const data::Dataset& set, int64_t images,
                           bool needs_one) {
  begin_.reserve(static_cast<size_t>(images) + 1);
  for (int64_t i = 0; i < images; ++i) {
    const std::vector<int32_t>& right = labels.of(set, i);
    engine::check(!right.empty() || !needs_one, engine::ErrorKind::kValue,
                  "data.multi_labels: ", set.name(i),
                  " has no class, which only train.loss=sigmoid can learn from");
    classes_.insert(classes_.end(), right.begin(), right.end());
    begin_.push_back(classes_.size());
  }
}

uint32_t RightClasses::crc32() const {
  const auto sum = [](uLong crc, const auto& v) {
    return ::crc32_z(crc, reinterpret_cast<const Bytef*>(v.data()), v.size() * sizeof v[0]);
  };
  return static_cast<uint32_t>(sum(sum(0, begin_), classes_));
}

void ViewLabels::add(int64_t view, float weight, float* row) const {
  const std::span<const int32_t> right = of(view);
  const float each =
      divided_ && !right.empty() ? weight / static_cast<float>(right.size()) : weight;
  for (const int32_t label : right) {
    engine::check(label >= 0 && label < classes_, engine::ErrorKind::kValue, "label ", label,
                  " is outside the ", classes_, " classes");
    row[label] += each;
  }
}

bool ViewLabels::is_right(int64_t view, int64_t predicted) const {
  return std::ranges::find(of(view), predicted) != of(view).end();
}

}  // namespace train
