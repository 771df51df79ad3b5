#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "tests/support/tensors.h"
#include "tests/train/temp_folder.h"
#include "train/init/rules.h"
#include "train/init/zoom.h"
#include "train/safetensors.h"

using engine::Dtype;
using engine::ErrorKind;
using engine::ParamStore;
using engine::Shape;
using engine::Slab;
using engine::test::copy_of;
using engine::test::view;
using train::init_from;
using train::InitReport;
using train::SourceTensor;
using train::SourceTensors;
using train::test::contains;
using train::test::error_of;
using train::test::TempFolder;

namespace {

using Names = std::vector<std::string>;

SourceTensor tensor(const Shape& shape, float first) {
  SourceTensor t{shape, std::vector<float>(static_cast<size_t>(shape.numel()))};
  for (size_t i = 0; i < t.values.size(); ++i) t.values[i] = first + static_cast<float>(i);
  return t;
}

// A model of one block, all weights -1.
void declare(ParamStore& params, const Shape& positions = {5, 2}) {
  params.declare("stem.position", positions, false, true);
  params.declare("blocks.0.moe.up", {3, 2, 4}, true, true);
  params.declare("blocks.0.moe.router", {2, 3}, true, true);
  params.declare("head.weight", {2, 6}, true, true);
  params.allocate(Dtype::kF32);
  for (const auto& entry : params.entries()) {
    const engine::Tensor t = params.view(entry, Slab::kValue);
    std::fill_n(t.data<float>(), t.numel(), -1.0f);
  }
}

std::vector<float> values_of(const ParamStore& params, const std::string& path) {
  return copy_of<float>(params.view(params.find(path), Slab::kValue));
}

const char* kRules =
    "tile:blocks\\.(\\d+)\\.mlp\\.up=>blocks.$1.moe.up zoom:stem\\.position drop:old\\..* "
    "keep:blocks\\..*router rename:classifier=>head.weight";

SourceTensors dense() {
  return {{"stem.position", tensor({5, 2}, 0)},
          {"blocks.0.mlp.up", tensor({2, 4}, 10)},
          {"old.weight", tensor({1}, 7)},
          {"classifier", tensor({2, 6}, 100)}};
}

}  // namespace

TEST_CASE("init: taken, renamed, tiled, dropped and kept") {
  ParamStore params;
  declare(params);
  const InitReport report = init_from(dense(), {kRules}, params);
  CHECK(report.taken == Names{"head.weight", "stem.position"});
  CHECK(report.tiled == Names{"blocks.0.moe.up"});
  CHECK(report.dropped == Names{"old.weight"});
  CHECK(report.kept == Names{"blocks.0.moe.router"});
  CHECK(report.zoomed.empty());
  CHECK(report.text() ==
        "2 taken, 1 tiled (blocks.0.moe.up), 1 dropped (old.weight), 1 left as initialised "
        "(blocks.0.moe.router)");
  CHECK(values_of(params, "head.weight") == tensor({2, 6}, 100).values);
  CHECK(values_of(params, "stem.position") == tensor({5, 2}, 0).values);
  CHECK(values_of(params, "blocks.0.moe.router") == std::vector<float>(6, -1));
  const std::vector<float> up = values_of(params, "blocks.0.moe.up");
  for (size_t i = 0; i < up.size(); ++i) CHECK(up[i] == 10 + static_cast<float>(i % 8));
}

TEST_CASE("init: noise on tiled experts, another for each, of the size asked for") {
  SourceTensors source = dense();
  source["blocks.0.mlp.up"] = tensor({20, 40}, 0);
  ParamStore params, again;
  for (ParamStore* store : {&params, &again}) {
    store->declare("blocks.0.moe.up", {5, 20, 40}, true, true);
    store->allocate(Dtype::kF32);
  }
  source = {{"blocks.0.mlp.up", source["blocks.0.mlp.up"]}};
  const char* rule = "tile:blocks\\.0\\.mlp\\.up=>blocks.0.moe.up";
  init_from(source, {rule, 0.1, 3}, params);
  init_from(source, {rule, 0.1, 3}, again);
  const std::vector<float> up = values_of(params, "blocks.0.moe.up");
  CHECK(up == values_of(again, "blocks.0.moe.up"));
  double square = 0;
  for (size_t i = 0; i < up.size(); ++i) {
    const double shift = up[i] - static_cast<float>(i % 800);
    square += shift * shift / static_cast<double>(up.size());
  }
  const double sigma = 0.1 * std::sqrt((800.0 * 800 - 1) / 12);
  CHECK(std::sqrt(square) == doctest::Approx(sigma).epsilon(0.05));
  CHECK(up[5] - 5 != up[805] - 5);
}

TEST_CASE("init: positions of another grid are zoomed") {
  ParamStore params;
  declare(params, {10, 2});
  const InitReport report = init_from(dense(), {kRules}, params);
  CHECK(report.zoomed == Names{"stem.position"});
  const std::vector<float> got = values_of(params, "stem.position");
  // Class slot (0, 1), then the 2 x 2 grid 2 4 / 6 8 as 3 x 3.
  const std::vector<float> first = {0, 2, 3, 4, 4, 5, 6, 6, 7, 8};
  for (size_t i = 0; i < first.size(); ++i) {
    CHECK(got[2 * i] == first[i]);
    CHECK(got[2 * i + 1] == first[i] + 1);
  }
}

TEST_CASE("zoom: corners aligned, up and down, with and without class slots") {
  // Columns of [0, 1, 4] to five: the worked example in both directions of a grid.
  SourceTensor three{{9, 1}, {0, 1, 4, 0, 1, 4, 0, 1, 4}};
  const SourceTensor five = train::zoom_positions(three, {{25, 1}, std::vector<float>(25)}, "p");
  for (size_t i = 0; i < 25; ++i) {
    CHECK(five.values[i] == doctest::Approx(std::vector<float>{0, .5, 1, 2.5, 4}[i % 5]));
  }
  CHECK(train::zoom_positions(five, three, "p").values == three.values);
  // A class slot that the source lacks keeps the target's value; one that the target lacks goes.
  SourceTensor with_slot{{10, 1}, std::vector<float>(10, 9)};
  const SourceTensor gained = train::zoom_positions(three, with_slot, "p");
  CHECK(gained.values[0] == 9);
  CHECK(gained.values[3] == 4);
  CHECK(train::zoom_positions(gained, three, "p").values == three.values);
  const SourceTensor one = train::zoom_positions(three, {{1, 1}, {5}}, "p");
  CHECK(one.values == std::vector<float>{0});
  CHECK(contains(error_of(ErrorKind::kFormat,
                          [&] {
                            train::zoom_positions({{7, 1}, std::vector<float>(7)}, three, "pos");
                          }),
                 "pos: 7 positions are no square grid"));
  CHECK(contains(error_of(ErrorKind::kFormat,
                          [&] {
                            train::zoom_positions({{9, 2}, std::vector<float>(18)}, three, "pos");
                          }),
                 "cannot be zoomed"));
}

TEST_CASE("init: whatever is left over is named, and nothing has changed") {
  const auto message = [](const SourceTensors& source, const std::string& rules, ErrorKind kind) {
    ParamStore params;
    declare(params);
    const std::string text = error_of(kind, [&] { init_from(source, {rules}, params); });
    for (const auto& entry : params.entries()) {
      for (const float x : values_of(params, entry.path)) CHECK(x == -1);
    }
    CHECK(text.find('\n') == std::string::npos);
    return text;
  };
  const auto format = [&](const SourceTensors& source, const std::string& rules) {
    return message(source, rules, ErrorKind::kFormat);
  };
  const std::string none = format(dense(), "");
  for (const char* part :
       {"classifier is not in this model: rename or drop it", "old.weight is not in this model",
        "blocks.0.moe.router gets nothing: keep or rename", "head.weight gets nothing"}) {
    CHECK_MESSAGE(contains(none, part), part);
  }
  // Of many of a kind five are named.
  SourceTensors many = dense();
  for (int i = 0; i < 40; ++i) many["other." + std::to_string(10 + i)] = tensor({2}, 0);
  const std::string few = format(many, std::string(kRules) + " keep:nowhere");
  CHECK(contains(few,
                 "other.14 is not in this model: rename or drop it; 35 more are not in this "
                 "model; rule keep:nowhere matches nothing"));
  CHECK_FALSE(contains(few, "other.15"));
  const std::string rules = kRules;
  CHECK(
      contains(format(dense(), rules + " drop:nothing.*"), "rule drop:nothing.* matches nothing"));
  CHECK(contains(format(dense(), rules + " keep:nowhere"), "rule keep:nowhere matches nothing"));
  SourceTensors twice = dense();
  twice["head.weight"] = tensor({2, 6}, 0);
  CHECK(contains(format(twice, rules), "head.weight comes from both classifier and head.weight"));
  SourceTensors wide = dense();
  wide["classifier"] = tensor({2, 7}, 0);
  CHECK(contains(format(wide, rules),
                 "head.weight has another shape: (2,7) where the model has (2,6)"));
  wide = dense();
  wide["blocks.0.mlp.up"] = tensor({4, 2}, 0);
  CHECK(contains(format(wide, rules), "blocks.0.moe.up cannot be tiled from (4,2)"));
  const auto value = [&](const std::string& text) {
    return message(dense(), text, ErrorKind::kValue);
  };
  CHECK(contains(value(rules + " drop:class.*"), "classifier falls under two rules"));
  CHECK(contains(value("renam:a=>b"), "the nearest is rename"));
  CHECK(contains(value("rename:a"), "expected => and the new name"));
  CHECK(contains(value("drop:a=>b"), "has no =>"));
  CHECK(contains(value("drop:(a"), "(a is no regular expression"));
}

TEST_CASE("init: a tile of the right size and the wrong shape is refused") {
  ParamStore params;
  params.declare("up", {3, 4, 2}, true, true);
  params.allocate(Dtype::kF32);
  CHECK(contains(error_of(ErrorKind::kFormat,
                          [&] {
                            init_from({{"mlp", tensor({2, 4}, 0)}}, {"tile:mlp=>up"}, params);
                          }),
                 "cannot be tiled"));
}

TEST_CASE("read_source: f32, f64 and bf16 become f32, and what is not finite is refused") {
  const TempFolder folder;
  const std::string path = folder / "w.safetensors";
  std::vector<double> wide = {1.5, -2};
  std::vector<float> single = {3};
  std::vector<engine::bf16> half = {engine::to_bf16(0.5f)};
  std::vector<int32_t> steps = {7};
  const auto write = [&] {
    const std::vector<train::NamedTensor> tensors = {{"d", view(wide, {2})},
                                                     {"s", view(single, {1, 1})},
                                                     {"h", view(half, {1})},
                                                     {"step", view(steps, {1})}};
    train::write_safetensors(path, tensors);
  };
  write();
  const SourceTensors read = train::read_source(path);
  CHECK(read.size() == 3);
  CHECK(read.at("d").values == std::vector<float>{1.5f, -2});
  CHECK(read.at("s").shape == Shape{1, 1});
  CHECK(read.at("h").values == std::vector<float>{0.5f});
  wide[1] = std::numeric_limits<double>::infinity();
  write();
  CHECK(std::isinf(train::read_source(path).at("d").values[1]));
}
