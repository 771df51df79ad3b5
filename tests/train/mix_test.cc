#include "train/mix.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <string>
#include <vector>

using engine::ImageMix;
using train::Config;
using train::Mixer;

namespace {

Config config_of(const std::vector<std::string>& settings) {
  Config config;
  for (const char* setting : {"model.classes=4", "model.image_size=20", "train.batch=8"}) {
    train::set_value(config, setting);
  }
  for (const std::string& setting : settings) train::set_value(config, setting);
  return config;
}

// The draws of one step.
std::vector<ImageMix> draws(const std::vector<std::string>& settings, int64_t step = 0,
                            int64_t views = 8) {
  Mixer mixer(config_of(settings));
  mixer.draw(step, views);
  const auto drawn = mixer.drawn();
  return {drawn.begin(), drawn.end()};
}

std::vector<int64_t> partners(const std::vector<ImageMix>& drawn) {
  std::vector<int64_t> out;
  for (const ImageMix& mix : drawn) out.push_back(mix.partner);
  return out;
}

std::vector<float> weights(const std::vector<ImageMix>& drawn) {
  std::vector<float> out;
  for (const ImageMix& mix : drawn) out.push_back(mix.own);
  return out;
}

size_t different(const std::vector<float>& x) { return std::set<float>(x.begin(), x.end()).size(); }

std::vector<float> targets(const std::vector<std::string>& settings, std::vector<int32_t> labels,
                           std::vector<ImageMix>* drawn = nullptr) {
  Mixer mixer(config_of(settings));
  mixer.draw(3, static_cast<int64_t>(labels.size()));
  if (drawn != nullptr) drawn->assign(mixer.drawn().begin(), mixer.drawn().end());
  engine::StepArena arena;
  const engine::Tensor out =
      mixer.targets(arena, train::ViewLabels(labels, 4), 0, static_cast<int64_t>(labels.size()));
  return {out.data<const float>(), out.data<const float>() + out.numel()};
}

}  // namespace

TEST_CASE("mix: Beta(a, a) has its mean, variance and fourth moment") {
  for (const double alpha : {0.01, 0.2, 0.8, 1.0, 2.5, 40.0}) {
    CAPTURE(alpha);
    engine::RngStream rng(engine::RngKey(7, engine::Purpose::kTest));
    const int n = 200000;
    double mean = 0, second = 0, fourth = 0;
    for (int i = 0; i < n; ++i) {
      const double x = train::draw_beta(alpha, rng);
      REQUIRE((x >= 0 && x <= 1));
      const double d = x - 0.5;
      mean += x / n;
      second += d * d / n;
      fourth += d * d * d * d / n;
    }
    const double variance = 1 / (4 * (2 * alpha + 1));
    // Kurtosis of Beta(a, a): 3 - 6 / (2a + 3).
    const double kurtosis = 3 - 6 / (2 * alpha + 3);
    CHECK(std::abs(mean - 0.5) < 4 * std::sqrt(variance / n));
    CHECK(std::abs(second - variance) < 4 * variance * std::sqrt(kurtosis / n));
    CHECK(fourth == doctest::Approx(kurtosis * variance * variance).epsilon(0.02));
  }
  // So small that gamma variates underflow: an end, never a NaN.
  engine::RngStream rng(engine::RngKey(7, engine::Purpose::kTest));
  for (int i = 0; i < 1000; ++i) {
    const double x = train::draw_beta(1e-5, rng);
    CHECK((x < 1e-6 || x > 1 - 1e-6));
  }
}

TEST_CASE("mix: partners are neighbours within a part, of the same view") {
  using Places = std::vector<int64_t>;
  CHECK(partners(draws({"augment.mixup=0.5"})) == Places{1, 2, 3, 4, 5, 6, 7, 0});
  CHECK(partners(draws({"augment.mixup=0.5", "augment.mix_images=4"})) ==
        Places{1, 2, 3, 0, 5, 6, 7, 4});
  CHECK(partners(draws({"augment.mixup=0.5", "data.two_view=true"})) ==
        Places{2, 3, 4, 5, 6, 7, 0, 1});
  CHECK(partners(draws({"augment.mixup=0.5", "data.two_view=true", "augment.mix_images=4"})) ==
        Places{2, 3, 0, 1, 6, 7, 4, 5});
}

TEST_CASE("mix: one draw for the batch, a part or an image, another for every step") {
  const std::string mixup = "augment.mixup=0.5", parts = "augment.mix_images=2";
  CHECK(different(weights(draws({mixup}))) == 1);
  CHECK(different(weights(draws({mixup, parts}))) == 1);
  const auto device = weights(draws({mixup, parts, "augment.mix_granularity=device"}));
  CHECK(different(device) == 4);
  for (size_t i = 0; i < 8; i += 2) CHECK(device[i] == device[i + 1]);
  CHECK(different(weights(draws({mixup, "augment.mix_granularity=example"}))) == 8);
  const auto pairs =
      weights(draws({mixup, "augment.mix_granularity=example", "data.two_view=true"}));
  CHECK(different(pairs) == 4);
  for (size_t i = 0; i < 8; i += 2) CHECK(pairs[i] == pairs[i + 1]);

  CHECK(weights(draws({mixup}, 5)) == weights(draws({mixup}, 5)));
  CHECK(weights(draws({mixup}, 5)) != weights(draws({mixup}, 6)));
  CHECK(weights(draws({mixup}, 5)) != weights(draws({mixup, "train.seed=1"}, 5)));
}

TEST_CASE("mix: mixup keeps at least half of the image") {
  Mixer mixer(config_of({"augment.mixup=0.2", "augment.mix_granularity=example"}));
  double sum = 0, smallest = 1;
  for (int64_t step = 0; step < 2000; ++step) {
    mixer.draw(step, 8);
    for (const ImageMix& mix : mixer.drawn()) {
      smallest = std::min(smallest, static_cast<double>(mix.own));
      sum += mix.own / 16000;
      CHECK(mix.height * mix.width == 0);
    }
  }
  CHECK(smallest >= 0.5);
  CHECK(smallest < 0.51);
  // The mean of max(x, 1 - x) of Beta(a, a) is 1/2 + 2^(-2a) / (a B(a, a)).
  const double a = 0.2, log_b = 2 * std::lgamma(a) - std::lgamma(2 * a);
  CHECK(sum == doctest::Approx(0.5 + std::pow(2, -2 * a) / (a * std::exp(log_b))).epsilon(0.005));
}

TEST_CASE("mix: CutMix boxes have the sides and the places of the publication") {
  Mixer mixer(config_of({"augment.cutmix=1", "augment.mix_granularity=example"}));
  std::vector<int64_t> sides(21, 0), tops(20, 0);
  int64_t inner = 0;
  for (int64_t step = 0; step < 4000; ++step) {
    mixer.draw(step, 8);
    for (const ImageMix& mix : mixer.drawn()) {
      REQUIRE((mix.y >= 0 && mix.x >= 0 && mix.y + mix.height <= 20 && mix.x + mix.width <= 20));
      CHECK(mix.own == 1);
      const bool whole =
          mix.y > 0 && mix.x > 0 && mix.y + mix.height < 20 && mix.x + mix.width < 20;
      if (!whole || mix.height == 0) continue;
      CHECK(mix.height == mix.width);
      CHECK(mix.height % 2 == 0);  // cut at half the side on each hand
      ++sides[static_cast<size_t>(mix.height)];
      ++inner;
    }
  }
  // lambda uniform: P(floor(20 sqrt(1 - lambda)) / 2 * 2 = s) = ((s + 2)^2 - s^2) / 400, and the
  // box lies inside with probability ((19 - s) / 20)^2, its centre being in [s/2 + 1, 19 - s/2].
  double total = 0;
  const auto expected = [](double s) { return (4 * s + 4) / 400 * (19 - s) * (19 - s) / 400; };
  for (int s = 2; s <= 18; s += 2) total += expected(s);
  for (int s = 2; s <= 18; s += 2) {
    CAPTURE(s);
    const double want = 32000 * expected(s);
    CHECK(std::abs(static_cast<double>(sides[static_cast<size_t>(s)]) - want) <
          4.5 * std::sqrt(want) + 1);
  }
  CHECK(static_cast<double>(inner) == doctest::Approx(32000 * total).epsilon(0.05));
}

TEST_CASE("mix: of both, cutmix_share are CutMix") {
  struct Case {
    std::string share;
    int low, high;
  };
  for (const Case& c : {Case{"0", 0, 0}, Case{"0.25", 210, 300}, Case{"1", 1000, 1000}}) {
    CAPTURE(c.share);
    Mixer mixer(
        config_of({"augment.cutmix=1", "augment.mixup=1", "augment.cutmix_share=" + c.share}));
    int cut = 0;
    for (int64_t step = 0; step < 1000; ++step) {
      mixer.draw(step, 8);
      cut += mixer.drawn()[0].own == 1;
    }
    CHECK(cut >= c.low);
    CHECK(cut <= c.high);
  }
  // CutMix alone does not ask for its share.
  CHECK(draws({"augment.cutmix=1", "augment.cutmix_share=0"})[0].own == 1);
}

TEST_CASE("mix: targets by hand") {
  using Row = std::vector<float>;
  // Smoothing alone: nothing is mixed.
  CHECK(targets({"train.label_smoothing=0.2"}, {2, 0}) ==
        Row{0.05f, 0.05f, 0.05f + 0.8f, 0.05f, 0.05f + 0.8f, 0.05f, 0.05f, 0.05f});
  std::vector<ImageMix> drawn;
  const auto mixup = targets({"augment.mixup=1"}, {2, 0, 2}, &drawn);
  const float a = drawn[0].own, b = 1 - a;
  CHECK(mixup == Row{b, 0, a, 0, a, 0, b, 0, 0, 0, a + b, 0});
  const auto both = targets({"augment.mixup=1", "train.label_smoothing=0.4"}, {1, 3});
  const float off = 0.4f / 4, on = 0.6f;
  CHECK(both == Row{off, off + on * a, off, off + on * b, off, off + on * b, off, off + on * a});
  const auto cut = targets({"augment.cutmix=1"}, {1, 3}, &drawn);
  const float share = 1 - static_cast<float>(drawn[0].height * drawn[0].width) / 400;
  CHECK(drawn[0].height * drawn[0].width > 0);
  CHECK(cut == Row{0, share, 0, 1 - share, 0, 1 - share, 0, share});
  CHECK_THROWS_AS(targets({"augment.mixup=1"}, {1, 4}), engine::Error);
}
