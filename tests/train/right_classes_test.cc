#include "train/right_classes.h"

#include <doctest/doctest.h>

#include <cmath>
#include <string>

#include "tests/train/small_run.h"
#include "train/mix.h"

using engine::ErrorKind;
using train::MultiLabels;
using train::RightClasses;
using train::ViewLabels;
using train::test::contains;
using train::test::error_of;
using train::test::put;
using train::test::run;
using train::test::Settings;
using train::test::TempFolder;

namespace {

constexpr const char* kShapes = "shapes:size=16,train=40,test=20";

// {"0": [...], ...} for the pictures of a set of shapes.
template <class F>
std::string labels_text(int images, F&& classes_of) {
  std::string text = "{";
  for (int i = 0; i < images; ++i) {
    text += (i > 0 ? ", \"" : "\"") + std::to_string(i) + "\": [" + classes_of(i) + "]";
  }
  return text + "}";
}

// Cross-entropy of the first step of a fresh model, whose logits all are -ln 10.
double first_loss(const std::string& labels, const Settings& more) {
  const TempFolder folder;
  Settings settings = {"train.batch=8", "train.steps=1"};
  settings.insert(settings.end(), more.begin(), more.end());
  std::unique_ptr<RightClasses> several;
  const auto set = data::open_dataset(kShapes, data::Split::kTrain);
  if (!labels.empty()) {
    put(folder / "labels.json", labels);
    settings.push_back("data.multi_labels=" + (folder / "labels.json"));
    const MultiLabels read(folder / "labels.json", 10, set->info().class_names);
    several = std::make_unique<RightClasses>(read, *set, 40, false);
  }
  const train::Config config = train::test::small_config(*set, settings);
  train::Model model(config, true);
  train::TrainStep step(config, model, 10, several.get());
  data::Loader loader(*set, train::training_loader(config));
  const data::Batch* batch = loader.next();
  return step.run(*batch, 0).loss.cross_entropy;
}

}  // namespace

TEST_CASE("right classes: by name or number, for softmax shares, for sigmoid each a whole") {
  const TempFolder folder;
  const auto set = data::open_dataset("shapes:size=16,train=3,test=3", data::Split::kTrain);
  const std::string second = set->info().class_names[1];
  put(folder / "labels.json", "{\"2\": [3, 0, 3], \"0\": [\"" + second + "\"], \"1\": [5, 6]}");
  const MultiLabels labels(folder / "labels.json", 10, set->info().class_names);
  const RightClasses right(labels, *set, 3, true);
  CHECK(right.of(0)[0] == 1);
  CHECK(right.of(1).size() == 2);
  CHECK(right.of(2).size() == 2);
  CHECK(right.of(2)[1] == 3);

  data::Batch batch;  // two views each of the pictures 2 and 0
  batch.sources = 2;
  batch.views = 4;
  batch.labels = {9, 9, 9, 9};
  batch.samples = {2, 0};
  for (const bool divided : {false, true}) {
    const ViewLabels views(batch, 10, &right, divided);
    CHECK(views.is_right(1, 3));
    CHECK(!views.is_right(1, 9));
    CHECK(views.is_right(2, 1));
    float row[10] = {};
    views.add(1, 0.5f, row);
    views.add(3, 0.25f, row);
    const float each = divided ? 0.25f : 0.5f;
    CHECK(row[0] == each);
    CHECK(row[3] == each);
    CHECK(row[1] == 0.25f);
    CHECK(row[9] == 0);
  }
  const ViewLabels plain(batch, 10, nullptr, false);
  CHECK(plain.is_right(3, 9));
}

TEST_CASE("right classes: what a file says wrong") {
  const TempFolder folder;
  const auto set = data::open_dataset("shapes:size=16,train=2,test=3", data::Split::kTrain);
  const auto message = [&](const std::string& text, ErrorKind kind, bool needs_one = true) {
    put(folder / "labels.json", text);
    return error_of(kind, [&] {
      const MultiLabels labels(folder / "labels.json", 10, set->info().class_names);
      RightClasses(labels, *set, 2, needs_one);
    });
  };
  CHECK(contains(message("{\"0\": [1]}", ErrorKind::kValue), "labels.json: has no labels for 1"));
  CHECK(contains(message("{\"0\": [\"cat\"]}", ErrorKind::kFormat), "0 has class \"cat\""));
  CHECK(contains(message("{\"0\": 1}", ErrorKind::kFormat), "0 has no list"));
  CHECK(contains(message("{\"0\": [10]}", ErrorKind::kFormat), "expected 0 to 9"));
  std::string deep = "{\"0\": ";
  for (int i = 0; i < 100'000; ++i) deep += "[";
  CHECK(contains(message(deep, ErrorKind::kFormat), "has lists in an image's list of classes"));
  CHECK(contains(message("{\"0\": [1], \"1\": [1], \"0\": [2]}", ErrorKind::kFormat),
                 "names \"0\" twice"));
  const std::string long_name(100'000, 'x');
  CHECK(message("{\"0\": [\"" + long_name + "\"]}", ErrorKind::kFormat).size() < 300);
  put(folder / "labels.json", "{\"0\": [\"b\"], \"1\": [\"a\"]}");
  const auto two_of_a_name = [&] { MultiLabels(folder / "labels.json", 3, {"a", "a", "b"}); };
  CHECK(contains(error_of(ErrorKind::kFormat, two_of_a_name),
                 "1 has class \"a\", the name of several"));
  put(folder / "labels.json", "{\"0\": [\"b\"]}");
  CHECK(MultiLabels(folder / "labels.json", 3, {"a", "a", "b"}).of(*set, 0)[0] == 2);
  CHECK(contains(message("{\"0\": [], \"1\": [2]}", ErrorKind::kValue),
                 "data.multi_labels: 0 has no class, which only train.loss=sigmoid can learn"));
}

TEST_CASE("right classes: the loss of a first step") {
  const double log1 = std::log(10.0), on = std::log(11.0), off = std::log(1.1);
  // A class each is what the set itself says.
  const auto set = data::open_dataset(kShapes, data::Split::kTrain);
  const std::string same = labels_text(40, [&](int i) { return std::to_string(set->label(i)); });
  for (const char* loss : {"train.loss=softmax", "train.loss=sigmoid"}) {
    CHECK(first_loss(same, {loss}) == doctest::Approx(first_loss("", {loss})).epsilon(1e-6));
  }
  // Three classes, or none: every logit is -ln 10, so sigmoids say 1/11.
  const std::string three = labels_text(40, [](int) { return "1, 4, 9"; }),
                    none = labels_text(40, [](int) { return ""; });
  CHECK(first_loss(three, {"train.loss=softmax"}) == doctest::Approx(log1).epsilon(1e-6));
  CHECK(first_loss(three, {"train.loss=sigmoid"}) ==
        doctest::Approx(3 * on + 7 * off).epsilon(1e-6));
  CHECK(first_loss(none, {"train.loss=sigmoid"}) == doctest::Approx(10 * off).epsilon(1e-6));
  CHECK(first_loss(three, {"train.loss=sigmoid", "augment.mixup=0.5", "train.micro_batch=4",
                           "moe.group_images=4"}) ==
        doctest::Approx(3 * on + 7 * off).epsilon(1e-6));
}

TEST_CASE("right classes: a run is resumed with the same ones only") {
  const TempFolder folder;
  const auto mostly = [](const char* first) {
    return labels_text(40, [&](int i) { return i == 0 ? first : "1, 4"; });
  };
  put(folder / "labels.json", mostly("2"));
  const Settings settings = {"data.multi_labels=" + (folder / "labels.json")};
  run(folder / "straight", settings);
  run(folder / "run", settings, {.stop = true});
  put(folder / "labels.json", mostly("3"));
  CHECK(contains(
      error_of(ErrorKind::kValue, [&] { run(folder / "run", settings, {.resume = true}); }),
      "other training data"));
  // The same in another place.
  put(folder / "moved.json", mostly("2"));
  run(folder / "run", {"data.multi_labels=" + (folder / "moved.json")}, {.resume = true});
  CHECK(train::test::tensors(train::test::file_of_step(folder / "run", 12, "model.safetensors")) ==
        train::test::tensors(
            train::test::file_of_step(folder / "straight", 12, "model.safetensors")));
}
