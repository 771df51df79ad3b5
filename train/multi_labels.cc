#include "train/multi_labels.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "train/file_io.h"

namespace train {

using engine::check;
using engine::ErrorKind;
using nlohmann::json;

namespace {

constexpr int64_t kLargestFile = int64_t{1} << 28;

// A number or text, not too long for a message.
std::string shown(const json& value) {
  constexpr size_t kMost = 60;
  const std::string text = value.dump(-1, ' ', false, json::error_handler_t::replace);
  return text.size() <= kMost ? text : text.substr(0, kMost) + "...";
}

// The number at the end of a name without its ending; -1 where there is none.
int64_t number_of(const std::string& name) {
  const std::string stem = std::filesystem::path(name).stem().string();
  size_t begin = stem.size();
  while (begin > 0 && stem[begin - 1] >= '0' && stem[begin - 1] <= '9') --begin;
  if (begin == stem.size() || stem.size() - begin > 12) return -1;
  return std::stoll(stem.substr(begin));
}

// JSON without anything deeper than a list in a list or object, and without keys that come twice.
json parse_flat(const std::string& path) {
  constexpr int kDeepest = 2;
  std::unordered_set<std::string> names;
  const auto look = [&](int depth, json::parse_event_t event, const json& value) {
    const bool opens =
        event == json::parse_event_t::array_start || event == json::parse_event_t::object_start;
    check(!opens || depth < kDeepest, ErrorKind::kFormat, path,
          ": has lists in an image's list of classes, expected [class, ...]");
    check(event != json::parse_event_t::key || names.insert(value.get<std::string>()).second,
          ErrorKind::kFormat, path, ": names ", shown(value), " twice");
    return true;
  };
  return json::parse(read_file(path, kLargestFile), look, /*allow_exceptions=*/false);
}

// Lists of classes, by number or name.
class ClassReader {
 public:
  ClassReader(const std::string& path, int64_t classes, const std::vector<std::string>& names)
      : path_(path), classes_(classes) {
    for (size_t i = 0; i < names.size(); ++i) {
      const bool first = numbers_.emplace(names[i], static_cast<int32_t>(i)).second;
      if (!first) numbers_[names[i]] = kSeveral;
    }
  }
  std::vector<int32_t> operator()(const json& list, const std::string& image) const {
    check(list.is_array(), ErrorKind::kFormat, path_, ": ", image,
          " has no list, expected [class, ...]");
    std::vector<int32_t> labels;
    for (const json& label : list) labels.push_back(number(label, image));
    std::ranges::sort(labels);
    labels.erase(std::unique(labels.begin(), labels.end()), labels.end());
    return labels;
  }

 private:
  int32_t number(const json& label, const std::string& image) const {
    if (label.is_string()) {
      const auto found = numbers_.find(label.get<std::string>());
      check(found == numbers_.end() || found->second != kSeveral, ErrorKind::kFormat, path_, ": ",
            image, " has class ", shown(label), ", the name of several: write its number");
      if (found != numbers_.end()) return found->second;
    }
    check(label.is_number_integer() && label.get<int64_t>() >= 0 && label.get<int64_t>() < classes_,
          ErrorKind::kFormat, path_, ": ", image, " has class ", shown(label), ", expected 0 to ",
          classes_ - 1, ", the model's, or the name of one");
    return label.get<int32_t>();
  }

  static constexpr int32_t kSeveral = -1;

  const std::string& path_;
  int64_t classes_;
  std::unordered_map<std::string, int32_t> numbers_;
};

}  // namespace

MultiLabels::MultiLabels(const std::string& path, int64_t classes,
                         const std::vector<std::string>& class_names)
    : path_(path) {
  const json all = parse_flat(path);
  check((all.is_array() || all.is_object()) && !all.empty(), ErrorKind::kFormat, path,
        ": is no JSON list, expected [[class, ...], ...], a list for each image, or {\"NAME\": "
        "[class, ...], ...}");
  const ClassReader read(path, classes, class_names);
  labels_.reserve(all.size());
  if (all.is_array()) {
    for (const json& list : all) {
      labels_.push_back(read(list, "image " + std::to_string(labels_.size() + 1)));
    }
    return;
  }
  for (const auto& [name, list] : all.items()) {
    by_name_.emplace(name, labels_.size());
    labels_.push_back(read(list, name));
  }
}

const std::vector<int32_t>& MultiLabels::of(const data::Dataset& set, int64_t i) const {
  const std::string name = set.name(i);
  if (!by_name_.empty()) {
    const auto found = by_name_.find(name);
    check(found != by_name_.end(), ErrorKind::kValue, path_, ": has no labels for ", name);
    return labels_[found->second];
  }
  const int64_t number = number_of(name);
  check(number >= 1 && number <= static_cast<int64_t>(labels_.size()), ErrorKind::kValue, path_,
        ": has labels for images 1 to ", labels_.size(), ", but ", name,
        " does not end in one of these numbers; a list is for ImageNet's validation images, others "
        "need {\"NAME\": [class, ...], ...}");
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
