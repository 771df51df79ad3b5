#include "train/attacks/apgd.h"

#include <doctest/doctest.h>

#include <cmath>
#include <string>
#include <vector>

#include "engine/ops/pointwise.h"
#include "tests/support/bits.h"
#include "tests/support/gradcheck.h"
#include "tests/train/small_model.h"
#include "train/attacks/pgd.h"
#include "train/evaluate.h"

using engine::CrossEntropy;
using engine::ErrorKind;
using engine::Tensor;
using engine::test::caught;
using engine::test::view;
using train::ApgdOptions;
using train::attack_loss;
using train::AttackedModel;
using train::AttackLoss;
using train::Norm;
using train::Victims;
using train::test::SmallModel;

namespace {

constexpr const char* kData = "shapes:size=16,train=20,test=40";
constexpr int64_t kPixels = int64_t{3} * 16 * 16;
const std::vector<std::string> kResnet = {"model.kind=resnet18", "model.first_width=4",
                                          "moe.layers=none"};

// A model whose logits are of size 3, so that its cross-entropy has a gradient.
struct Soft : SmallModel {
  explicit Soft(const std::vector<std::string>& settings) : SmallModel(kData, settings) {
    AttackedModel attacked(*model.network, config);
    const auto logits = attacked.logits(engine::test::values<float>(4 * kPixels, 1));
    float largest = 0;
    for (const float z : logits) largest = std::max(largest, std::abs(z));
    for (const auto& entry : model.params.entries()) {
      if (!entry.path.starts_with("fc.") && !entry.path.starts_with("head.output.")) continue;
      const Tensor values = model.params.view(entry, engine::Slab::kValue);
      for (int64_t i = 0; i < values.numel(); ++i) values.data<float>()[i] *= 3 / largest;
    }
  }
};

// Random images as victims, labelled with the model's own guesses.
Victims guessed(AttackedModel& model, int64_t count) {
  Victims v;
  const engine::RngKey key(4, engine::Purpose::kTest);
  for (int64_t i = 0; i < count * kPixels; ++i) {
    v.clean.push_back(static_cast<float>(key.uniform(static_cast<uint64_t>(i))));
  }
  v.adversarial = v.clean;
  const auto logits = model.logits(v.clean);
  for (int64_t i = 0; i < count; ++i) {
    v.labels.push_back(train::predicted_class(logits.data() + i * 10, 10));
    v.samples.push_back(i);
  }
  v.broken.assign(static_cast<size_t>(count), 0);
  return v;
}

ApgdOptions weak(AttackLoss loss = AttackLoss::kClassification, int64_t steps = 12) {
  return {.ball = {Norm::kLinf, 0.004}, .steps = steps, .loss = loss, .seed = 3};
}

int64_t broken(const Victims& v) { return std::ranges::count(v.broken, 1); }

// APGD with cross-entropy on one image, written down step by step from the specification. Returns
// the best image, or the first that is misclassified.
std::vector<float> naive_apgd(AttackedModel& model, const Victims& v, int64_t image, double eps,
                              int64_t steps, uint64_t seed) {
  const std::vector<float> clean(v.clean.begin() + image * kPixels,
                                 v.clean.begin() + (image + 1) * kPixels);
  const std::vector<int32_t> label = {v.labels[static_cast<size_t>(image)]};
  const auto projected = [&](double x, size_t p) {
    return static_cast<float>(std::clamp(std::clamp(x, clean[p] - eps, clean[p] + eps), 0.0, 1.0));
  };
  const engine::RngKey key =
      engine::RngKey(seed, engine::Purpose::kAttack).with(static_cast<uint64_t>(image)).with(0);
  std::vector<double> t(kPixels);
  double largest = 0;
  for (size_t p = 0; p < t.size(); ++p) {
    t[p] = 2 * key.uniform(p) - 1;
    largest = std::max(largest, std::abs(t[p]));
  }
  std::vector<float> x = clean, gradient(kPixels);
  for (size_t p = 0; p < t.size(); ++p) x[p] = projected(clean[p] + eps * t[p] / largest, p);
  std::vector<float> old = x, best = x, best_gradient;
  bool wrong = false;
  const auto loss_at = [&] {
    const auto logits = model.logits_and_gradient(x, label, gradient);
    wrong = train::predicted_class(logits.data(), 10) != label[0];
    return train::image_loss(logits.data(), 10, label[0], CrossEntropy::kSoftmax);
  };
  double best_loss = loss_at(), last_best = best_loss, step = 2 * eps;
  if (wrong) return x;
  best_gradient = gradient;
  std::vector<double> losses(static_cast<size_t>(steps) + 1, 0.0);
  bool reduced = true;
  int64_t k = std::max<int64_t>(int64_t(0.22 * double(steps)), 1), counter = 0;
  const int64_t shrink = std::max<int64_t>(int64_t(0.03 * double(steps)), 1);
  const int64_t least = std::max<int64_t>(int64_t(0.06 * double(steps)), 1);
  for (int64_t i = 0; i < steps; ++i) {
    std::vector<float> next(kPixels);
    for (size_t p = 0; p < next.size(); ++p) {
      const double sign = (gradient[p] > 0) - (gradient[p] < 0);
      const double z = projected(x[p] + step * sign, p), a = i == 0 ? 1 : 0.75;
      next[p] = projected(x[p] + a * (z - x[p]) + (1 - a) * (double{x[p]} - old[p]), p);
    }
    old = x;
    x = next;
    const double loss = loss_at();
    if (wrong) return x;
    losses[static_cast<size_t>(i) + 1] = loss;
    if (loss > best_loss) {
      best_loss = loss;
      best = x;
      best_gradient = gradient;
    }
    if (++counter < k) continue;
    int64_t rises = 0;
    for (int64_t j = i + 2 - k; j <= i + 1; ++j) {
      rises += losses[static_cast<size_t>(j)] > losses[static_cast<size_t>(j - 1)] ? 1 : 0;
    }
    reduced = double(rises) <= 0.75 * double(k) || (!reduced && last_best >= best_loss);
    if (reduced) {
      step /= 2;
      x = best;
      gradient = best_gradient;
    }
    last_best = best_loss;
    counter = 0;
    k = std::max(k - shrink, least);
  }
  return best;
}

}  // namespace

TEST_CASE("apgd: windows of the specification") {
  const auto windows = [](int64_t steps, size_t count) {
    std::vector<int64_t> out;
    for (train::ApgdWindow w(steps); out.size() < count; w.next()) out.push_back(w.length);
    return out;
  };
  CHECK(windows(100, 8) == std::vector<int64_t>{22, 19, 16, 13, 10, 7, 6, 6});
  CHECK(windows(20, 6) == std::vector<int64_t>{4, 3, 2, 1, 1, 1});
  CHECK(windows(1, 2) == std::vector<int64_t>{1, 1});
}

TEST_CASE("apgd: the difference of logits ratio") {
  const std::vector<float> z = {3, 1, 0.5f, -1};
  const auto value = [&](AttackLoss loss, int32_t label, int32_t target) {
    return attack_loss(loss, z.data(), 4, label, target, CrossEntropy::kSoftmax);
  };
  CHECK(value(AttackLoss::kDlr, 0, -1) == doctest::Approx(-0.8));
  CHECK(value(AttackLoss::kDlr, 1, -1) == doctest::Approx(0.8));
  CHECK(value(AttackLoss::kDlr, 3, -1) == doctest::Approx(1.6));
  CHECK(value(AttackLoss::kTargetedDlr, 0, 2) == doctest::Approx(-2.5 / 3.25));
  CHECK(value(AttackLoss::kTargetedDlr, 1, 3) == doctest::Approx(-2 / 3.25));
  CHECK(value(AttackLoss::kClassification, 0, 0) ==
        doctest::Approx(std::log(1 + std::exp(-2) + std::exp(-2.5) + std::exp(-4))));

  const std::vector<int32_t> labels = {0, 4, 2, 1, 3}, targets = {3, 0, 1, 2, 4};
  for (const bool targeted : {false, true}) {
    const auto f = [&](std::span<const Tensor> x) {
      return train::dlr_loss(x[0], view(labels, {5}), targeted ? view(targets, {5}) : Tensor{});
    };
    const auto report = engine::test::gradcheck(f, {engine::Shape{5, 5}});
    CHECK_MESSAGE(report.ok(), report);
    const auto chain = engine::test::gradcheck(
        [&](std::span<const Tensor> x) {
          const Tensor y = engine::scale(x[0], 2);
          return engine::add(f(std::vector<Tensor>{y}), f(std::vector<Tensor>{y}));
        },
        {engine::Shape{5, 5}});
    CHECK_MESSAGE(chain.ok(), chain);
    // The sum of the images' values.
    const auto logits = engine::test::values<float>(25, 7);
    double sum = 0;
    for (int64_t i = 0; i < 5; ++i) {
      sum +=
          attack_loss(targeted ? AttackLoss::kTargetedDlr : AttackLoss::kDlr, logits.data() + 5 * i,
                      5, labels[size_t(i)], targets[size_t(i)], CrossEntropy::kSoftmax);
    }
    CHECK(engine::test::run_op<float>(f, {engine::Shape{5, 5}}, {logits}).y[0] ==
          doctest::Approx(sum));
  }
  engine::StepArena arena;
  engine::Tape tape(arena);
  const Tensor two = tape.input(view(z, {2, 2})), four = tape.input(view(z, {1, 4}));
  const std::vector<int32_t> one = {0}, outside = {4};
  CHECK(caught([&] {
          train::dlr_loss(two, view(one, {1}), {});
        }).is(ErrorKind::kShape, {"3 classes"}));
  CHECK(
      caught([&] { train::dlr_loss(four, view(outside, {1}), {}); }).is(ErrorKind::kValue, {"4"}));
}

TEST_CASE("apgd: the same images as written down step by step") {
  for (const auto& settings : {std::vector<std::string>{"moe.top_k=4"}, kResnet}) {
    const Soft small(settings);
    AttackedModel model(*small.model.network, small.config);
    for (const int64_t steps : {12, 40}) {
      Victims v = guessed(model, 8);
      attack_apgd(model, weak(AttackLoss::kClassification, steps), v);
      int64_t same = 0;
      for (int64_t i = 0; i < 8; ++i) {
        const auto want = naive_apgd(model, v, i, 0.004, steps, 3);
        const auto got = v.adversarial_of(i);
        double worst = 0;
        for (size_t p = 0; p < want.size(); ++p) {
          worst = std::max(worst, std::abs(double{want[p]} - double{got[p]}));
        }
        same += worst < 1e-6 ? 1 : 0;
      }
      // A gradient that is a rounding from 0 may send one of them elsewhere.
      CHECK(same >= 7);
      CHECK(v.adversarial != v.clean);
    }
  }
}

TEST_CASE("apgd: claims hold, more is broken than by random images, other losses work as well") {
  const Soft small(kResnet);
  AttackedModel model(*small.model.network, small.config);
  const Victims clean = guessed(model, 24);
  Victims random = clean;
  attack_apgd(model, {.ball = {Norm::kLinf, 0.004}, .steps = 1, .seed = 3}, random);
  for (const AttackLoss loss :
       {AttackLoss::kClassification, AttackLoss::kDlr, AttackLoss::kTargetedDlr}) {
    for (const Norm norm : {Norm::kLinf, Norm::kL2}) {
      Victims v = clean;
      ApgdOptions options = weak(loss);
      options.ball = {norm, norm == Norm::kLinf ? 0.004 : 0.1};
      attack_apgd(model, options, v);
      CHECK(broken(v) > 0);
      if (norm == Norm::kLinf && loss == AttackLoss::kClassification) {
        CHECK(broken(v) >= broken(random));
      }
      const auto logits = model.logits(v.adversarial);
      for (int64_t i = 0; i < v.size(); ++i) {
        CHECK(options.ball.holds(v.clean_of(i), v.adversarial_of(i)));
        CHECK((train::predicted_class(logits.data() + i * 10, 10) != v.labels[size_t(i)]) ==
              (v.broken[size_t(i)] != 0));
      }
      // Restarts only add.
      options.restarts = 2;
      Victims twice = clean;
      attack_apgd(model, options, twice);
      for (size_t i = 0; i < v.broken.size(); ++i) CHECK(twice.broken[i] >= v.broken[i]);
    }
  }
}

TEST_CASE("apgd: who is not broken ends where the loss was largest; the broken are left alone") {
  const Soft small(kResnet);
  AttackedModel model(*small.model.network, small.config);
  Victims v = guessed(model, 12);
  ApgdOptions tiny = weak();
  tiny.ball.eps = 1e-4;
  v.broken[5] = 1;
  const std::vector<float> before = v.clean;
  attack_apgd(model, tiny, v);
  CHECK(std::equal(before.begin() + 5 * kPixels, before.begin() + 6 * kPixels,
                   v.adversarial.begin() + 5 * kPixels));
  const auto loss = [&](const std::vector<float>& x) {
    std::vector<double> out;
    const auto logits = model.logits(x);
    for (int64_t i = 0; i < 12; ++i) {
      out.push_back(train::image_loss(logits.data() + i * 10, 10, v.labels[size_t(i)],
                                      CrossEntropy::kSoftmax));
    }
    return out;
  };
  const auto clean = loss(v.clean), attacked = loss(v.adversarial);
  for (size_t i = 0; i < 12; ++i) {
    if (i != 5) CHECK(attacked[i] > clean[i]);
  }
}

TEST_CASE("apgd: same bits for any threads and any batch") {
  const Soft small(kResnet);
  AttackedModel model(*small.model.network, small.config);
  const Victims all = guessed(model, 9);
  const auto attacked = [&](int64_t at_once) {
    std::vector<float> images;
    for (int64_t first = 0; first < 9; first += at_once) {
      const int64_t n = std::min<int64_t>(at_once, 9 - first);
      Victims part;
      part.clean.assign(all.clean.begin() + first * kPixels,
                        all.clean.begin() + (first + n) * kPixels);
      part.adversarial = part.clean;
      part.labels.assign(all.labels.begin() + first, all.labels.begin() + first + n);
      part.samples.assign(all.samples.begin() + first, all.samples.begin() + first + n);
      part.broken.assign(size_t(n), 0);
      attack_apgd(model, weak(AttackLoss::kTargetedDlr), part);
      images.insert(images.end(), part.adversarial.begin(), part.adversarial.end());
    }
    return images;
  };
  const std::vector<float> whole = attacked(9);
  CHECK(engine::test::same_bytes(whole, attacked(1)));
  CHECK(engine::test::same_bytes(whole, attacked(4)));
  CHECK(engine::test::same_bits_for_threads([&] { return attacked(9); }));
}

TEST_CASE("apgd: what makes no sense is refused") {
  const Soft small(kResnet);
  AttackedModel model(*small.model.network, small.config);
  Victims v = guessed(model, 1);
  ApgdOptions bad = weak();
  bad.ball.eps = -1;
  CHECK(caught([&] { attack_apgd(model, bad, v); }).is(ErrorKind::kValue, {"eps -1"}));
  bad = weak();
  bad.steps = 0;
  CHECK(caught([&] { attack_apgd(model, bad, v); }).is(ErrorKind::kValue, {"0 steps"}));
  std::vector<float> gradient(v.clean.size());
  CHECK(caught([&] {
          model.logits_and_gradient(v.clean, v.labels, gradient, AttackLoss::kTargetedDlr);
        }).is(ErrorKind::kShape, {"targets"}));
}
