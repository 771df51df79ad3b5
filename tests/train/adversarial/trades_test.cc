// TRADES: its attack, its loss and its step.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "tests/support/tensors.h"
#include "tests/train/small_model.h"
#include "train/adversarial/adversary.h"
#include "train/attacks/pixel_range.h"
#include "train/train_step.h"

using engine::Slab;
using engine::Tensor;
using engine::test::caught;
using engine::test::copy_of;
using engine::test::same_bytes;
using train::AttackedModel;
using train::Config;
using train::LossTerms;
using train::test::SmallModel;

namespace {

using Settings = std::vector<std::string>;

constexpr const char* kData = "shapes:size=16,train=32,test=32";
constexpr int64_t kPixels = int64_t{3} * 16 * 16;
constexpr int64_t kClasses = 10;
const Settings kTrades = {"adversarial.kind=trades", "adversarial.steps=3", "train.batch=16"};
const Settings kResnet = {"model.kind=resnet18", "model.first_width=4", "moe.layers=none",
                          "augment.mean=0.4,0.5,0.6", "augment.stddev=0.2,0.25,0.3"};
// The attack climbs the same loss, whatever the losses of routers.
const Settings kVit = {"moe.importance_weight=0.3", "moe.load_weight=0.2"};

Settings with(Settings settings, const Settings& more) {
  settings.insert(settings.end(), more.begin(), more.end());
  return settings;
}

// Of one image, from the definition.
double divergence(const float* x, const float* y) {
  double zx = 0, zy = 0, sum = 0;
  for (int64_t c = 0; c < kClasses; ++c) {
    zx += std::exp(double{x[c]});
    zy += std::exp(double{y[c]});
  }
  for (int64_t c = 0; c < kClasses; ++c) {
    const double p = std::exp(double{x[c]}) / zx, q = std::exp(double{y[c]}) / zy;
    sum += p * std::log(p / q);
  }
  return sum;
}

double divergences(std::span<const float> x, std::span<const float> y) {
  double sum = 0;
  for (size_t i = 0; i < x.size(); i += kClasses) sum += divergence(&x[i], &y[i]);
  return sum;
}

std::vector<float> pixels_of_images(int64_t count) {
  std::vector<float> pixels;
  const engine::RngKey key(9, engine::Purpose::kTest);
  for (int64_t i = 0; i < count * kPixels; ++i) {
    pixels.push_back(static_cast<float>(key.bits(static_cast<uint64_t>(i)) % 9) / 8);
  }
  return pixels;
}

std::vector<float> logits_of(AttackedModel& model, const std::vector<float>& pixels) {
  const auto logits = model.logits(pixels);
  return {logits.begin(), logits.end()};
}

// A training step, and its loss put together from two passes.
struct Step {
  explicit Step(const Settings& settings)
      : set(data::open_dataset(kData, data::Split::kTrain)),
        config(train::test::small_config(*set, with(kTrades, settings))),
        model(config, true),
        step(config, model, 10),
        loader(*set, train::training_loader(config)),
        batch(loader.next()) {
    const engine::RngKey key(1, engine::Purpose::kTest);
    for (const auto& entry : model.params.entries()) {
      if (!entry.trainable) continue;
      const Tensor w = model.params.view(entry, Slab::kValue);
      for (int64_t i = 0; i < w.numel(); ++i) {
        w.data<float>()[i] +=
            0.05f * static_cast<float>(key.normal(static_cast<uint64_t>(entry.offset + i)));
      }
    }
    std::vector<int64_t> ids(16);
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int64_t>(i);
    const Tensor images = train::pixels_of(*batch, config);
    clean = copy_of<float>(images);
    train::Adversary adversary(config, *model.network);
    second_seed = adversary.second_seed();
    attacked = copy_of<float>(adversary.perturb(
        images, {train::labels_of(*batch).data<const int32_t>(), 16}, batch->step, ids));
  }

  // Logits, and the terms that one pass alone would have.
  std::vector<float> pass(const std::vector<float>& pixels, uint64_t seed, LossTerms& terms,
                          bool replay = true) const {
    std::vector<int64_t> ids(16);
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int64_t>(i);
    engine::StepArena arena;
    engine::Tape tape(arena);
    nn::Forward f{.tape = tape,
                  .mode = nn::Mode::kTrain,
                  .param_grads = false,
                  .replay = replay,
                  .seed = seed,
                  .step = batch->step,
                  .sample_ids = ids};
    moe::ModelOutput out;
    model.network->forward(f, tape.input(engine::test::view(pixels, {16, 3, 16, 16})), out);
    train::Objective(config).loss(f, out, train::labels_of(*batch), {}, 16, terms);
    return copy_of<float>(out.logits);
  }

  LossTerms expected() const {
    LossTerms first, second, all;
    const auto seed = static_cast<uint64_t>(config.train.seed);
    const auto x = pass(clean, seed, first), y = pass(attacked, second_seed, second);
    const double smoothing = config.train.label_smoothing;
    for (size_t i = 0; i < 16; ++i) {
      double z = 0;
      for (size_t c = 0; c < kClasses; ++c) z += std::exp(double{x[i * kClasses + c]});
      const auto label = static_cast<size_t>(train::labels_of(*batch).data<const int32_t>()[i]);
      for (size_t c = 0; c < kClasses; ++c) {
        const double target = (1 - smoothing) * (c == label ? 1 : 0) + smoothing / kClasses;
        all.cross_entropy += target * (std::log(z) - double{x[i * kClasses + c]}) / 16;
      }
    }
    all.divergence = config.adversarial.beta * divergences(x, y) / 16;
    all.importance = (first.importance + second.importance) / 2;
    all.load = (first.load + second.load) / 2;
    all.total = all.cross_entropy + all.divergence + all.importance + all.load;
    return all;
  }

  std::unique_ptr<data::Dataset> set;
  Config config;
  train::Model model;
  train::TrainStep step;
  data::Loader loader;
  const data::Batch* batch;
  std::vector<float> clean, attacked;
  uint64_t second_seed = 0;
};

doctest::Approx near(double value) { return doctest::Approx(value).epsilon(1e-5); }

}  // namespace

TEST_CASE("trades: the gradient of the divergence with respect to pixels") {
  for (const Settings& settings : {kResnet, kVit}) {
    const SmallModel small(kData, settings);
    CAPTURE(small.config.model.kind);
    AttackedModel model(*small.model.network, small.config);
    const std::vector<float> clean = pixels_of_images(3);
    std::vector<float> x = clean, gradient(x.size());
    for (size_t i = 0; i < x.size(); ++i) {
      x[i] += 0.02f * static_cast<float>(engine::test::noise(4, i));
    }
    const std::vector<float> reference = logits_of(model, clean);
    const auto there = model.logits_and_divergence(x, reference, gradient);
    const std::vector<float> logits(there.begin(), there.end());  // before the next pass
    CHECK(same_bytes(logits, logits_of(model, x)));
    double length = 0;
    for (const float g : gradient) length += double{g} * double{g};
    length = std::sqrt(length);
    REQUIRE(length > 1e-3);
    // Along the gradient the sum of divergences grows by its length.
    const auto along = [&](double far) {
      std::vector<float> moved = x;
      for (size_t i = 0; i < x.size(); ++i) {
        moved[i] = static_cast<float>(double{x[i]} + far / length * double{gradient[i]});
      }
      return divergences(reference, logits_of(model, moved));
    };
    CHECK((along(2e-3) - along(-2e-3)) / 4e-3 == doctest::Approx(length).epsilon(0.03));
    CHECK(caught([&] {
            model.logits_and_divergence(x, std::span(reference).first(20), gradient);
          }).is(engine::ErrorKind::kShape, {"20 reference logits", "3 images"}));
  }
  // Images that only fill a routing group of 8.
  const SmallModel grouped(kData, {"moe.dispatch=capacity", "moe.eval_capacity_factor=1"});
  AttackedModel model(*grouped.model.network, grouped.config);
  const std::vector<float> clean = pixels_of_images(3);
  std::vector<float> gradient(clean.size());
  const std::vector<float> reference = logits_of(model, clean);
  CHECK(model.logits_and_divergence(clean, reference, gradient).size() == 3 * kClasses);
  for (const float g : gradient) CHECK(std::abs(g) <= 1e-6);  // nothing is as near as itself
}

TEST_CASE("trades: the attack as one would write it down, without labels") {
  for (const Settings& settings : {kResnet, kVit}) {
    const SmallModel small(kData, with(settings, kTrades));
    CAPTURE(small.config.model.kind);
    AttackedModel model(*small.model.network, small.config);
    const std::vector<float> clean = pixels_of_images(6);
    std::vector<float> x = clean, gradient(x.size()), normalised(x.size()), got(x.size());
    const std::vector<float> reference = logits_of(model, clean);
    for (size_t i = 0; i < x.size(); ++i) {
      const engine::RngKey key =
          engine::RngKey(static_cast<uint64_t>(small.config.train.seed), engine::Purpose::kAttack)
              .with(5)
              .with(i / kPixels);
      x[i] = static_cast<float>(clean[i] + 0.001 * key.normal(i % kPixels));
    }
    const double started = divergences(reference, logits_of(model, x));
    for (int t = 0; t < 3; ++t) {
      model.logits_and_divergence(x, reference, gradient);
      for (size_t i = 0; i < x.size(); ++i) {
        const double sign = gradient[i] > 0 ? 1 : gradient[i] < 0 ? -1 : 0;
        const double moved = x[i] + 2.0 / 255 * sign;
        x[i] = static_cast<float>(
            std::clamp(std::clamp(moved, clean[i] - 8.0 / 255, clean[i] + 8.0 / 255), 0.0, 1.0));
      }
    }
    train::normalise_pixels(small.config, clean, normalised);
    train::Adversary adversary(small.config, *small.model.network);
    const auto perturbed = [&](std::vector<int32_t> labels) {
      const std::vector<int64_t> ids = {0, 1, 2, 3, 4, 5};
      return copy_of<float>(
          adversary.perturb(engine::test::view(normalised, {6, 3, 16, 16}), labels, 5, ids));
    };
    const std::vector<float> found = perturbed({0, 1, 2, 3, 4, 5});
    CHECK(same_bytes(found, perturbed({9, 9, 9, 9, 9, 9})));
    train::unnormalise_pixels(small.config, found, got);
    // Some pixels may differ by a whole step, where a gradient is a rounding from 0.
    int64_t other = 0;
    double largest = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      other += std::abs(double{x[i]} - double{got[i]}) > 1e-5;
      largest = std::max(largest, std::abs(double{got[i]} - double{clean[i]}));
    }
    CHECK(other <= 6 * kPixels / 50);
    CHECK(largest <= 8.0 / 255 + 1e-6);
    CHECK(divergences(reference, logits_of(model, got)) > 10 * started);
    CHECK(std::ranges::all_of(got, [](float v) { return v >= 0 && v <= 1; }));
  }
}

TEST_CASE("trades: the loss is put together from two passes, and its terms add up") {
  for (const Settings& settings :
       {kResnet, kVit, with(kVit, {"train.label_smoothing=0.2", "adversarial.beta=2.5"}),
        with(kResnet, {"adversarial.attack_mode=train", "train.label_smoothing=0.1"})}) {
    Step run(settings);
    const LossTerms expected = run.expected();
    const train::StepResult& result = run.step.run(*run.batch, run.batch->step);
    const LossTerms& loss = result.loss;
    CHECK(loss.cross_entropy == near(expected.cross_entropy));
    CHECK(loss.divergence == near(expected.divergence));
    CHECK(loss.importance == near(expected.importance));
    CHECK(loss.load == near(expected.load));
    CHECK(loss.total == near(expected.total));
    CHECK(loss.divergence > 1e-3);
    CHECK((expected.load > 0) == !result.layers.empty());
  }
}

TEST_CASE("trades: micro-batches add up to the batch") {
  const Settings settings = {"moe.importance_weight=0", "moe.load_weight=0"};
  Step whole(settings), parts(with(settings, {"train.micro_batch=4"}));
  const LossTerms one = whole.step.run(*whole.batch, 0).loss,
                  sum = parts.step.run(*parts.batch, 0).loss;
  CHECK(sum.cross_entropy == near(one.cross_entropy));
  CHECK(sum.divergence == near(one.divergence));
  CHECK(sum.total == near(one.total));
}

TEST_CASE("trades: the gradient goes through both passes") {
  Step run(
      with(kResnet, {"optimizer.name=sgd", "optimizer.momentum=0", "optimizer.weight_decay=0"}));
  const Tensor weights = run.model.params.slab(Slab::kValue);
  const std::vector<float> before = copy_of<float>(weights);
  const double length = run.step.run(*run.batch, run.batch->step).gradient_norm;
  const std::vector<float> gradient = copy_of<float>(run.model.params.slab(Slab::kMoment1));
  REQUIRE(length > 0.1);
  const auto along = [&](double far) {
    for (size_t i = 0; i < before.size(); ++i) {
      weights.data<float>()[i] =
          static_cast<float>(double{before[i]} + far / length * double{gradient[i]});
    }
    return run.expected().total;
  };
  const double h = 1e-3;
  CHECK((along(h) - along(-h)) / (2 * h) == doctest::Approx(length).epsilon(0.02));
}

TEST_CASE("trades: running statistics see the images, then their neighbours") {
  Step run(kResnet), other(kResnet);
  run.step.run(*run.batch, run.batch->step);
  LossTerms ignored;
  other.pass(other.clean, 0, ignored, /*replay=*/false);
  other.pass(other.attacked, 0, ignored, /*replay=*/false);
  int64_t statistics = 0;
  for (const auto& entry : run.model.params.entries()) {
    if (entry.trainable) continue;
    ++statistics;
    CHECK(same_bytes(copy_of<float>(run.model.params.view(entry, Slab::kValue)),
                     copy_of<float>(other.model.params.view(entry, Slab::kValue))));
  }
  CHECK(statistics == 40);  // two for each of 20 norms
}
