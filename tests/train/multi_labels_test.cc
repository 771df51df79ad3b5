#include "train/multi_labels.h"

#include <doctest/doctest.h>

#include <string>

#include "data/split.h"
#include "tests/train/small_model.h"
#include "tests/train/temp_folder.h"

using engine::ErrorKind;
using train::MultiLabels;
using train::MultiLabelSum;
using train::test::contains;
using train::test::error_of;
using train::test::put;
using train::test::TempFolder;

namespace {

// Three images with these names.
class Named final : public data::Dataset {
 public:
  explicit Named(std::vector<std::string> names) : names_(std::move(names)) {}
  const data::Info& info() const override { return info_; }
  int64_t size() const override { return static_cast<int64_t>(names_.size()); }
  int64_t label(int64_t) const override { return 0; }
  void read(int64_t, data::ImageU8&) const override {}
  std::string name(int64_t i) const override { return names_[static_cast<size_t>(i)]; }

 private:
  data::Info info_;
  std::vector<std::string> names_;
};

}  // namespace

TEST_CASE("multi-labels: right is any of an image's classes, images without any do not count") {
  const TempFolder folder;
  put(folder / "real.json", "[[1, 2], [], [0], [3]]");
  const MultiLabels labels(folder / "real.json", 4);
  const Named set(
      {"val/n02/ILSVRC2012_val_00000003.JPEG", "ILSVRC2012_val_00000001.JPEG", "x_2.png", "4.jpg"});
  CHECK(labels.of(set, 0) == std::vector<int32_t>{0});
  CHECK(labels.of(set, 1) == std::vector<int32_t>{1, 2});
  CHECK(labels.of(set, 2).empty());
  CHECK(labels.of(set, 3) == std::vector<int32_t>{3});
  // Predicted: 1, 2, 0, 3.
  std::vector<float> logits = {0, 9, 1, 1, 0, 1, 5, 2, 7, 0, 0, 0, 1, 2, 3, 4};
  MultiLabelSum sum(labels);
  sum.add(engine::Tensor(logits.data(), {4, 4}, engine::Dtype::kF32, engine::Device::kCpu), set,
          {0, 1, 2, 3});
  CHECK(sum.n() == 3);
  CHECK(sum.accuracy() == doctest::Approx(2.0 / 3));
  CHECK(sum.accuracy_se() == doctest::Approx(std::sqrt(2.0 / 9 / 3)));
}

TEST_CASE("multi-labels: with one right class each it is the accuracy") {
  const train::test::SmallModel small("shapes:size=16,train=20,test=30", {});
  const TempFolder folder;
  std::string list;  // pictures that are drawn are called 0, 1, ...: all but the first
  for (int64_t i = 1; i < 30; ++i) {
    list += (i > 1 ? ",[" : "[[") + std::to_string(small.test->label(i)) + "]";
  }
  put(folder / "labels.json", list + "]");
  const MultiLabels labels(folder / "labels.json", 10);
  MultiLabelSum sum(labels);
  const auto part =
      data::open_dataset("shapes:size=16,train=20,test=30", data::parse_split("test[1:]"));
  const train::Evaluation all = train::evaluate(*small.model.network, small.config, *part, &sum);
  CHECK(all.n == 29);
  CHECK(sum.n() == 29);
  CHECK(sum.accuracy() == all.accuracy);
  CHECK(sum.accuracy_se() == all.accuracy_se);
  MultiLabelSum other(labels);
  const std::string message = error_of(ErrorKind::kValue, [&] {
    train::evaluate(*small.model.network, small.config, *small.test, &other);
  });
  CHECK(contains(message, "but 0 does not end in one of these numbers"));
}

TEST_CASE("multi-labels: files that are none") {
  const TempFolder folder;
  const auto message = [&](const std::string& text) {
    put(folder / "f.json", text);
    return error_of(ErrorKind::kFormat, [&] { MultiLabels(folder / "f.json", 4); });
  };
  CHECK(contains(message(""), "is no JSON list"));
  CHECK(contains(message("{}"), "is no JSON list"));
  CHECK(contains(message("[]"), "is no JSON list"));
  CHECK(contains(message("[[1], 2]"), "image 2 has no list"));
  CHECK(contains(message("[[1], [4]]"), "image 2 has class 4, expected 0 to 3"));
  CHECK(contains(message("[[-1]]"), "has class -1"));
  CHECK(contains(message("[[1.5]]"), "has class 1.5"));
  CHECK(contains(message("[[1]"), "is no JSON list"));
  CHECK(error_of(ErrorKind::kIo, [] { MultiLabels("/none.json", 4); }).size() > 5);
}
