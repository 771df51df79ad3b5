#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <string>
#include <vector>

#include "tests/support/bits.h"
#include "tests/train/small_model.h"
#include "tests/train/temp_folder.h"
#include "train/attacks/fixed_expert.h"
#include "train/attacks/ordered_network.h"
#include "train/attacks/routing_under_attack.h"
#include "train/evaluate.h"

// What attacks do to routing, and experts by themselves; of vision transformers and of residual
// networks.
using engine::ErrorKind;
using engine::Tensor;
using engine::test::copy_of;
using train::test::error_of;
using train::test::SmallModel;

namespace {

using Settings = std::vector<std::string>;
constexpr const char* kData = "shapes:size=16,train=20,test=24";
const Settings kVit = {};
const Settings kCnn = {"model.kind=resnet18", "model.first_width=4", "moe.layers=blocks layer4",
                       "moe.top_k=2", "image_moe.weight=plain"};

train::Victims victims(train::AttackedModel& model, const data::Dataset& set, int64_t count) {
  train::Victims v;
  for (int64_t i = 0; i < count; ++i) {
    data::ImageU8 image;
    set.read(i, image);
    for (size_t c = 0; c < 3; ++c) {
      for (size_t p = 0; p < 256; ++p) {
        v.clean.push_back(static_cast<float>(image.pixels[3 * p + c]) / 255);
      }
    }
    v.samples.push_back(i);
  }
  const auto logits = model.logits(v.clean);
  for (int64_t i = 0; i < count; ++i) {
    v.labels.push_back(train::predicted_class(logits.data() + i * 10, 10));
  }
  v.adversarial = v.clean;
  v.broken.assign(static_cast<size_t>(count), 0);
  return v;
}

}  // namespace

TEST_CASE("ordered network: one expert for all is that expert, and no orders change nothing") {
  for (const Settings& settings : {kVit, kCnn}) {
    SmallModel small(kData, settings);
    train::OrderedNetwork ordered(*small.model.network);
    train::AttackedModel plain(*small.model.network, small.config), told(ordered, small.config);
    const train::Victims v = victims(plain, *small.test, 6);
    const auto as_it_is = copy_of<float>(Tensor(const_cast<float*>(plain.logits(v.clean).data()),
                                                {60}, engine::Dtype::kF32,  // NOLINT
                                                engine::Device::kCpu));
    const auto logits = [&] {
      const auto l = told.logits(v.clean);
      return std::vector<float>(l.begin(), l.end());
    };
    CHECK(logits() == as_it_is);
    std::set<std::vector<float>> different = {as_it_is};
    for (int64_t e = 0; e < 4; ++e) {
      ordered.orders() = {{.layer = 0, .expert = e}};
      different.insert(logits());
      const moe::Routing& r = told.routings()[0];
      const auto chosen = copy_of<int32_t>(r.chosen);
      CHECK(std::ranges::count(chosen, e) == static_cast<int64_t>(chosen.size()));
      for (const float w : copy_of<float>(r.weight)) CHECK(w == 1);
      CHECK(told.routings()[1].top_k == 2);  // the other layer routes as ever
    }
    CHECK(different.size() == 5);
    ordered.orders() = {{.layer = 0, .expert = 4}};
    error_of(ErrorKind::kValue, logits);
  }
}

TEST_CASE("routing under attack: nothing changes where the images are the same") {
  for (const Settings& settings : {kVit, kCnn}) {
    SmallModel small(kData, settings);
    train::AttackedModel model(*small.model.network, small.config);
    train::Victims v = victims(model, *small.test, 6);
    v.broken[2] = 1;
    train::RoutingWatcher watcher(*small.model.network, small.config);
    train::RoutingChanges changes;
    double share = 0;
    watcher.begin(v, share);
    watcher.add(v, v, changes);
    REQUIRE(changes.layers.size() == 2);
    for (const auto& layer : changes.layers) {
      CHECK(layer.change == 0);
      CHECK(layer.flips == 0);
      CHECK(layer.tokens == 5 * (settings == kVit ? 17 : 1));
    }
    CHECK(changes.frozen_right == 5);
    CHECK(share > 0.005);
  }
}

TEST_CASE("routing under attack: changes are those of the passes before and after") {
  for (const Settings& settings : {kVit, kCnn}) {
    SmallModel small(kData, settings);
    train::AttackedModel model(*small.model.network, small.config);
    const train::Victims v = victims(model, *small.test, 6);
    train::Victims attacked = v;
    for (size_t i = 0; i < attacked.adversarial.size(); ++i) {
      float& x = attacked.adversarial[i];
      x = std::clamp(x + (i % 7 < 3 ? 0.4f : -0.4f), 0.0f, 1.0f);
    }
    train::RoutingWatcher watcher(*small.model.network, small.config);
    train::RoutingChanges changes;
    double share = 0;
    watcher.begin(v, share);
    watcher.add(v, attacked, changes);
    // The same by hand.
    const auto routes = [&](const std::vector<float>& pixels) {
      model.logits(pixels);
      std::vector<std::vector<int32_t>> chosen;
      for (const moe::Routing& r : model.routings()) chosen.push_back(copy_of<int32_t>(r.chosen));
      return chosen;
    };
    const auto before = routes(v.clean), after = routes(attacked.adversarial);
    double most = 0;
    for (size_t l = 0; l < 2; ++l) {
      double change = 0;
      int64_t flips = 0;
      const auto tokens = static_cast<int64_t>(before[l].size()) / 2;
      for (size_t t = 0; t < before[l].size(); t += 2) {
        const std::set<int32_t> a = {before[l][t], before[l][t + 1]};
        std::set<int32_t> both = a;
        both.insert({after[l][t], after[l][t + 1]});
        const double shared = 4.0 - static_cast<double>(both.size());
        change += 1 - shared / static_cast<double>(both.size());
        flips += before[l][t] != after[l][t] ? 1 : 0;
      }
      CHECK(changes.layers[l].change == doctest::Approx(change).epsilon(1e-12));
      CHECK(changes.layers[l].flips == flips);
      CHECK(changes.layers[l].tokens == tokens);
      most = std::max(most, change);
    }
    CHECK(most > 0);  // or all this would say nothing
    // Frozen by hand: the choices and weights of the clean pass, on the attacked images.
    model.logits(v.clean);
    std::vector<std::vector<int32_t>> chosen;
    std::vector<std::vector<float>> weight;
    for (const moe::Routing& r : model.routings()) {
      chosen.push_back(copy_of<int32_t>(r.chosen));
      weight.push_back(copy_of<float>(r.weight));
    }
    train::OrderedNetwork ordered(*small.model.network);
    for (size_t l = 0; l < 2; ++l) {
      const auto rows = static_cast<int64_t>(chosen[l].size()) / 2;
      ordered.orders().push_back({.layer = static_cast<int64_t>(l),
                                  .chosen = engine::test::view(chosen[l], {rows, 2}),
                                  .weight = engine::test::view(weight[l], {rows, 2})});
    }
    train::AttackedModel frozen(ordered, small.config);
    const auto fixed = frozen.logits(attacked.adversarial);
    // Labels that the frozen model says, so that the count is of it and of no other.
    train::Victims said = v;
    for (size_t i = 0; i < said.labels.size(); ++i) {
      said.labels[i] = train::predicted_class(fixed.data() + 10 * i, 10);
    }
    const auto free = model.logits(attacked.adversarial);
    CHECK(!std::equal(free.begin(), free.end(), fixed.begin()));
    train::RoutingChanges of_frozen;
    watcher.begin(said, share);
    watcher.add(said, attacked, of_frozen);
    CHECK(of_frozen.frozen_right == 6);
    // Batches add up: the same once more is twice the sums.
    watcher.begin(v, share);
    const double once = changes.layers[0].change;
    watcher.add(v, attacked, changes);
    CHECK(changes.layers[0].change == doctest::Approx(2 * once).epsilon(1e-12));
  }
}

TEST_CASE("routing under attack: the routers' share of the gradient, against differences") {
  // In f32 a difference is coarse; what counts is that r is what freezing takes away.
  SmallModel small(kData, kCnn);
  train::OrderedNetwork ordered(*small.model.network);
  train::AttackedModel model(ordered, small.config);
  const train::Victims v = victims(model, *small.test, 1);
  std::vector<float> all(v.clean.size()), past(v.clean.size());
  model.logits_and_gradient(v.clean, v.labels, all);
  std::vector<moe::LayerOrder> orders;
  std::vector<std::vector<int32_t>> chosen;
  std::vector<std::vector<float>> weight;
  for (const moe::Routing& r : model.routings()) {
    chosen.push_back(copy_of<int32_t>(r.chosen));
    weight.push_back(copy_of<float>(r.weight));
  }
  for (size_t l = 0; l < 2; ++l) {
    orders.push_back({.layer = static_cast<int64_t>(l),
                      .chosen = engine::test::view(chosen[l], {1, 2}),
                      .weight = engine::test::view(weight[l], {1, 2})});
  }
  ordered.orders() = orders;
  model.logits_and_gradient(v.clean, v.labels, past);
  double r = 0, p = 0;
  for (size_t i = 0; i < all.size(); ++i) {
    r += std::pow(static_cast<double>(all[i]) - past[i], 2);
    p += std::pow(static_cast<double>(past[i]), 2);
  }
  train::RoutingWatcher watcher(*small.model.network, small.config);
  double share = 0;
  watcher.begin(v, share);
  CHECK(share == doctest::Approx(std::sqrt(r) / (std::sqrt(r) + std::sqrt(p))).epsilon(1e-5));
  // Along a line the frozen model's loss changes as its gradient says.
  const auto loss = [&](double t) {
    std::vector<float> x = v.clean;
    for (size_t i = 0; i < x.size(); ++i) x[i] += static_cast<float>(t * (i % 3 == 0 ? 1 : -1));
    return train::image_loss(model.logits(x).data(), 10, v.labels[0],
                             engine::CrossEntropy::kSoftmax);
  };
  double along = 0;
  for (size_t i = 0; i < past.size(); ++i) along += past[i] * (i % 3 == 0 ? 1 : -1);
  CHECK((loss(2e-4) - loss(-2e-4)) / 4e-4 == doctest::Approx(along).epsilon(0.02).scale(1));
}

TEST_CASE(
    "ordered network: around another one its orders come first, the rest is the inner one's") {
  SmallModel small(kData, kCnn);
  train::OrderedNetwork inner(*small.model.network), both(*small.model.network);
  const train::Network& as_any = inner;
  train::OrderedNetwork outer(as_any);
  train::AttackedModel nested(outer, small.config), straight(both, small.config);
  const train::Victims v = victims(straight, *small.test, 4);
  const auto check = [&](std::vector<moe::LayerOrder> in, std::vector<moe::LayerOrder> out,
                         std::vector<moe::LayerOrder> want) {
    inner.orders() = std::move(in);
    outer.orders() = std::move(out);
    both.orders() = std::move(want);
    const auto a = nested.logits(v.clean);
    const std::vector<float> got(a.begin(), a.end());
    const auto b = straight.logits(v.clean);
    CHECK(got == std::vector<float>(b.begin(), b.end()));
    return got;
  };
  const moe::LayerOrder zero{.layer = 0, .expert = 0}, one{.layer = 0, .expert = 1};
  const moe::LayerOrder last{.layer = 1, .expert = 2};
  const auto a = check({zero}, {}, {zero});
  const auto b = check({zero}, {one}, {one});
  const auto c = check({zero}, {last}, {zero, last});
  CHECK(a != b);
  CHECK(a != c);
}

TEST_CASE("fixed experts: each is the model with that expert, clean and attacked") {
  for (const Settings& settings : {kVit, kCnn}) {
    SmallModel small(kData, settings);
    const train::Network& network = *small.model.network;
    const std::string name = network.moe_layer_names()[1];
    CHECK(train::find_moe_layer(network, name) == 1);
    const auto message =
        error_of(ErrorKind::kValue, [&] { train::find_moe_layer(network, "layer9"); });
    CHECK(train::test::contains(message, name));
    train::PgdOptions options;
    options.ball = {train::Norm::kLinf, 0.02};
    options.step = 0.01;
    options.steps = 2;
    const std::vector<train::AttackPlan> plans = {train::plan_attack("pgd", options, 0),
                                                  train::plan_attack("pgd", options, 0)};
    const auto rows = train::evaluate_fixed_experts(network, small.config, *small.test, 1, plans);
    REQUIRE(rows.size() == 5);
    CHECK(rows[4].expert == -1);
    const train::Evaluation routed = train::evaluate(network, small.config, *small.test);
    CHECK(rows[4].clean.loss == routed.loss);
    CHECK(rows[4].attacked.right == static_cast<int64_t>(std::llround(routed.accuracy * 24)));
    std::set<double> losses;
    train::OrderedNetwork ordered(network);
    for (int64_t e = 0; e < 4; ++e) {
      ordered.orders() = {{.layer = 1, .expert = e}};
      CHECK(rows[static_cast<size_t>(e)].clean.loss ==
            train::evaluate(ordered, small.config, *small.test).loss);
      CHECK(rows[static_cast<size_t>(e)].attacked.n == 24);
      losses.insert(rows[static_cast<size_t>(e)].clean.loss);
    }
    CHECK(losses.size() == 4);
    const std::string text = train::fixed_expert_text(rows);
    CHECK(std::ranges::count(text, '\n') >= 5);
    CHECK(train::test::contains(text, "routed"));
    CHECK(train::test::contains(train::fixed_expert_json(rows), "\"pgd.2_accuracy\""));
  }
  SmallModel dense(kData, {"moe.layers=none"});
  error_of(ErrorKind::kValue, [&] {
    train::evaluate_fixed_experts(*dense.model.network, dense.config, *dense.test, 0, {});
  });
}
