#include "train/multi_labels.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "train/file_io.h"

namespace train {

using engine::check;
using engine::ErrorKind;
using nlohmann::json;

namespace {

constexpr int64_t kLargestFile = int64_t{1} << 30;

// The number at the end of a name without its ending; -1 where there is none.
int64_t number_of(const std::string& name) {
  const std::string stem = std::filesystem::path(name).stem().string();
  size_t begin = stem.size();
  while (begin > 0 && stem[begin - 1] >= '0' && stem[begin - 1] <= '9') --begin;
  if (begin == stem.size() || stem.size() - begin > 12) return -1;
  return std::stoll(stem.substr(begin));
}

}  // namespace

MultiLabels::MultiLabels(const std::string& path, int64_t classes) : path_(path) {
  const json list = json::parse(read_file(path, kLargestFile), nullptr, /*allow_exceptions=*/false);
  check(list.is_array() && !list.empty(), ErrorKind::kFormat, path,
        ": is no JSON list, expected [[class, ...], ...], a list for each image");
  for (const json& image : list) {
    const size_t number = labels_.size() + 1;
    check(image.is_array(), ErrorKind::kFormat, path, ": image ", number,
          " has no list, expected [class, ...]");
    std::vector<int32_t>& labels = labels_.emplace_back();
    for (const json& label : image) {
      check(
          label.is_number_integer() && label.get<int64_t>() >= 0 && label.get<int64_t>() < classes,
          ErrorKind::kFormat, path, ": image ", number, " has class ", label.dump(),
          ", expected 0 to ", classes - 1, ", the model's");
      labels.push_back(label.get<int32_t>());
    }
  }
}

const std::vector<int32_t>& MultiLabels::of(const data::Dataset& set, int64_t i) const {
  const std::string name = set.name(i);
  const int64_t number = number_of(name);
  check(
      number >= 1 && number <= static_cast<int64_t>(labels_.size()), ErrorKind::kValue, path_,
      ": has labels for images 1 to ", labels_.size(), ", but ", name,
      " does not end in one of these numbers; --multi-labels is for ImageNet's validation images");
  return labels_[static_cast<size_t>(number - 1)];
}

void MultiLabelSum::add(const engine::Tensor& logits, const data::Dataset& set,
                        const std::vector<int64_t>& samples) {
  const int64_t classes = logits.shape()[1];
  const float* row = logits.data<const float>();
  for (const int64_t sample : samples) {
    const std::vector<int32_t>& right = labels_.of(set, sample);
    const int32_t predicted = predicted_class(row, classes);
    row += classes;
    if (right.empty()) continue;
    ++n_;
    correct_ += std::ranges::find(right, predicted) != right.end() ? 1 : 0;
  }
}

}  // namespace train
