#include "train/predict/predict.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <sstream>
#include <string>
#include <vector>

#include "tests/train/small_model.h"
#include "tests/train/temp_folder.h"
#include "train/predict/route_picture.h"

using engine::ErrorKind;
using train::Prediction;
using train::test::contains;
using train::test::error_of;
using train::test::SmallModel;

namespace {

constexpr const char* kData = "shapes:size=16,train=20,test=20";

// One image of the data set, and what the model makes of it.
struct One {
  explicit One(const std::vector<std::string>& settings = {})
      : small(kData, settings),
        inference(*small.model.network),
        loader(data::Loader::evaluation(*small.test, options(small.config))),
        batch(*loader.next()) {}
  static data::LoaderOptions options(const train::Config& config) {
    data::LoaderOptions o = train::evaluation_loader(config);
    o.batch = 1;
    return o;
  }
  engine::Tensor image() const { return train::pixels_of(batch, small.config); }
  Prediction predict() { return train::predict(inference, small.config, image()); }

  SmallModel small;
  train::Inference inference;
  data::Loader loader;
  const data::Batch& batch;
};

}  // namespace

TEST_CASE("predict: probabilities of the logits, softmax or sigmoid") {
  for (const char* loss : {"train.loss=softmax", "train.loss=sigmoid"}) {
    One one({loss});
    const Prediction p = one.predict();
    const float* logits = one.inference.run(one.image()).logits.data<const float>();
    double sum = 0, exps = 0;
    for (int c = 0; c < 10; ++c) exps += std::exp(static_cast<double>(logits[c]));
    for (int c = 0; c < 10; ++c) {
      const double e = std::exp(static_cast<double>(logits[c]));
      const double want = loss[11] == 's' && loss[12] == 'o' ? e / exps : e / (1 + e);
      CHECK(p.probabilities[c] == doctest::Approx(want).epsilon(1e-9));
      sum += p.probabilities[c];
    }
    if (std::string(loss) == "train.loss=softmax") CHECK(sum == doctest::Approx(1));
    const auto best = train::best_classes(p, 3);
    REQUIRE(best.size() == 3);
    CHECK(best[0] == std::max_element(logits, logits + 10) - logits);
    CHECK(p.probabilities[best[0]] >= p.probabilities[best[1]]);
    CHECK(p.probabilities[best[1]] >= p.probabilities[best[2]]);
    CHECK(train::best_classes(p, 100).size() == 10);
  }
  CHECK(train::best_classes({{.2, .5, .2, .5}, {}}, 4) == std::vector<int64_t>{1, 3, 0, 2});
}

TEST_CASE("predict: the routes are those of Routing, dropped choices left out") {
  for (const bool capacity : {false, true}) {
    const std::vector<std::string> tight = {"moe.dispatch=capacity", "moe.eval_capacity_factor=0.5",
                                            "moe.group_images=1", "moe.capacity_multiple_of=1"};
    One one(capacity ? tight : std::vector<std::string>{});
    const Prediction p = one.predict();
    const moe::ModelOutput& out = one.inference.run(one.image());
    REQUIRE(p.layers.size() == 2);
    int64_t dropped = 0;
    for (size_t l = 0; l < 2; ++l) {
      const moe::Routing& r = out.routings[l];
      CHECK(p.layers[l].layer == r.layer);
      REQUIRE(p.layers[l].patches.size() == 16);
      for (int64_t t = 0; t < 17; ++t) {
        const train::TokenRoute& route =
            t == 0 ? p.layers[l].class_token : p.layers[l].patches[static_cast<size_t>(t - 1)];
        size_t at = 0;
        for (int64_t j = 0; j < 2; ++j) {
          const int32_t e = r.expert.data<const int32_t>()[t * 2 + j];
          if (e < 0) {
            ++dropped;
            continue;
          }
          REQUIRE(at < route.experts.size());
          CHECK(route.experts[at] == e);
          CHECK(route.weights[at] == r.weight.data<const float>()[t * 2 + j]);
          ++at;
        }
        CHECK(at == route.experts.size());
      }
    }
    CHECK((dropped > 0) == capacity);
  }
}

TEST_CASE("trace: rank, softmax, contributions and the margin of one token") {
  One one;
  const moe::ModelOutput& out = one.inference.run(one.image());
  const moe::Routing& r = out.routings[1];
  const std::string text = train::trace_token(out, 1, 4);
  CHECK(contains(text, "block 1, patch 4 (token 5)"));
  // The table: rank, expert, logit, softmax, in the order of the gates.
  std::istringstream lines(text);
  std::string line;
  std::getline(lines, line);
  std::getline(lines, line);
  std::vector<int64_t> order;
  for (int64_t rank = 1; rank <= 4; ++rank) {
    std::getline(lines, line);
    std::istringstream fields(line);
    int64_t read_rank = 0, expert = 0;
    double logit = 0, gate = 0;
    fields >> read_rank >> expert >> logit >> gate;
    CHECK(read_rank == rank);
    CHECK(std::abs(logit - r.logits.data<const float>()[5 * 4 + expert]) <= 6e-5);
    CHECK(std::abs(gate - r.gates.data<const float>()[5 * 4 + expert]) <= 6e-5);
    CHECK(contains(line, "chosen: weight") == (rank <= 2));
    order.push_back(expert);
  }
  const float* logits = r.logits.data<const float>() + 5 * 4;
  std::ostringstream margin;
  margin.precision(4);
  margin << std::fixed << "margin to the next flip: " << logits[order[1]] - logits[order[2]];
  CHECK(contains(text, margin.str()));
  CHECK(contains(text, "expert " + std::to_string(order[2]) + " takes the place of expert " +
                           std::to_string(order[1])));
  // What the first choice adds: its weight times the length of what the expert returned.
  const int32_t slot = r.slot_of.data<const int32_t>()[5 * 2];
  double square = 0;
  for (int64_t i = 0; i < 16; ++i) {
    const double v = r.outputs.data<const float>()[slot * 16 + i];
    square += v * v;
  }
  std::ostringstream adds;
  adds.precision(4);
  adds << std::fixed << "|output| " << std::sqrt(square);
  CHECK(contains(text, adds.str()));

  CHECK(contains(train::trace_token(out, 0, -1), "class token (token 0)"));
  CHECK(contains(error_of(ErrorKind::kValue, [&] { train::trace_token(out, 2, 0); }),
                 "block 2 has no experts; blocks with experts: 0, 1"));
  CHECK(contains(error_of(ErrorKind::kValue, [&] { train::trace_token(out, 1, 16); }),
                 "patch 16: the model has 16"));
}

TEST_CASE("trace: drops, a full mixture, experts that chose, and Soft MoE") {
  One tight({"moe.dispatch=capacity", "moe.eval_capacity_factor=0.3", "moe.group_images=1",
             "moe.capacity_multiple_of=1"});
  const moe::ModelOutput& out = tight.inference.run(tight.image());
  std::string all;
  for (int64_t p = 0; p < 16; ++p) all += train::trace_token(out, 0, p);
  CHECK(contains(all, "chosen, but dropped"));
  One full({"moe.eval_top_k=4"});
  CHECK(contains(train::trace_token(full.inference.run(full.image()), 0, 0), "nothing can flip"));
  One experts({"moe.chooser=experts", "moe.importance_weight=0", "moe.load_weight=0"});
  CHECK(contains(train::trace_token(experts.inference.run(experts.image()), 0, 0),
                 "experts chose their tokens"));
  One soft({"moe.chooser=soft", "moe.importance_weight=0", "moe.load_weight=0",
            "moe.capacity_factor=1"});
  const std::string trace = train::trace_token(soft.inference.run(soft.image()), 0, 0);
  CHECK(contains(trace, "soft: softmax is each expert's part"));
  CHECK_FALSE(contains(trace, "chosen: weight"));
  const Prediction p = soft.predict();
  for (const train::LayerRoutes& layer : p.layers) {
    for (const auto& route : layer.patches) CHECK(route.experts.size() == 2);
  }
}

TEST_CASE("routes: colours, numbers and frames") {
  const train::Colour red = train::expert_colour(0, 3), green = train::expert_colour(1, 3),
                      blue = train::expert_colour(2, 3);
  CHECK((red.r == 255 && red.g == 0 && red.b == 0));
  CHECK((green.r == 0 && green.g == 255 && green.b == 0));
  CHECK((blue.r == 0 && blue.g == 0 && blue.b == 255));

  data::ImageU8 black;
  black.reshape(8, 8, 3);
  std::ranges::fill(black.pixels, uint8_t{0});
  train::LayerRoutes layer{0, 3, {}, {}};
  layer.patches = {{{0, 1}, {1.0f, 0.5f}}, {{2}, {0.7f}}, {{}, {}}, {{1, 0}, {0.6f, 0.4f}}};
  const Prediction p{{1}, {layer, layer}};
  const data::ImageU8 plain = train::draw_routes(black, p, 4, nullptr);
  CHECK(plain.width == 2 * 40 + 2 * 8);
  CHECK(plain.height == 2 * 80 + 3 * 8);
  // Patch 0: red at its left edge as strongly as 0.15 + 0.5, green at its right.
  CHECK(int{plain.at(8 + 20, 8 + 1)[0]} == 166);
  CHECK(int{plain.at(8 + 20, 8 + 1)[1]} == 0);
  CHECK(int{plain.at(8 + 38, 8 + 38)[1]} == 102);
  // Patch 1 has no second expert; patch 2, dropped by all, stays as it is.
  CHECK(int{plain.at(8 + 38, 8 + 40 + 38)[2]} == 0);
  CHECK(int{plain.at(8 + 40 + 5, 8 + 5)[0]} == 0);
  CHECK(int{plain.at(8 + 2, 8 + 2)[0]} == 255);  // the number's ground

  train::LayerRoutes moved = layer;
  moved.patches[3].experts = {0, 1};
  const Prediction q{{1}, {moved, layer}};
  const train::NoisyView view{&q, &black};
  const data::ImageU8 both = train::draw_routes(black, p, 4, &view);
  CHECK(both.width == 4 * 40 + 3 * 8);
  const int64_t left = 80 + 2 * 8;
  const auto framed = [&](int64_t row, int64_t patch) {
    const uint8_t* pixel = both.at(8 + row * 88 + patch / 2 * 40 + 39, left + patch % 2 * 40 + 20);
    return pixel[0] == 255 && pixel[1] == 255 && pixel[2] == 255;
  };
  for (int64_t row = 0; row < 2; ++row) {
    for (int64_t patch = 0; patch < 4; ++patch)
      CHECK(framed(row, patch) == (row == 0 && patch == 3));
  }
}
