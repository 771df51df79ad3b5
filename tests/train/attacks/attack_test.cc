#include "train/attacks/attack.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "tests/support/bits.h"
#include "tests/train/guessed.h"
#include "tests/train/small_model.h"
#include "tests/train/temp_folder.h"
#include "train/evaluate.h"

using engine::ErrorKind;
using train::AttackedModel;
using train::AttackPlan;
using train::AttackResult;
using train::Norm;
using train::PgdOptions;
using train::Victims;
using train::test::contains;
using train::test::error_of;
using train::test::Guessed;
using train::test::SmallModel;

namespace {

constexpr const char* kData = "shapes:size=16,train=20,test=40";
constexpr int64_t kPixels = int64_t{3} * 16 * 16;

// The first `count` test images as victims whose class the model gets right: its own guess.
Victims guessed(AttackedModel& model, const data::Dataset& set, int64_t count) {
  Victims v;
  for (int64_t i = 0; i < count; ++i) {
    data::ImageU8 image;
    set.read(i, image);
    for (int64_t c = 0; c < 3; ++c) {
      for (int64_t p = 0; p < 256; ++p) {
        v.clean.push_back(static_cast<float>(image.pixels[static_cast<size_t>(3 * p + c)]) / 255);
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

PgdOptions weak() {
  PgdOptions options;
  options.ball = {Norm::kLinf, 0.02};
  options.step = 0.005;
  options.steps = 5;
  options.seed = 3;
  return options;
}

int64_t broken(const Victims& v) {
  return static_cast<int64_t>(std::count(v.broken.begin(), v.broken.end(), 1));
}

}  // namespace

TEST_CASE("attack: the gradient with respect to pixels, against differences") {
  // All experts work on every token, so that no choice can change on the way.
  const SmallModel small(kData, {"moe.top_k=4", "augment.low=-0.5", "augment.high=1.5"});
  AttackedModel model(*small.model.network, small.config);
  Victims v = guessed(model, *small.test, 3);
  const std::vector<int32_t> labels = {1, 5, 9};
  std::vector<float> gradient(v.clean.size());
  model.logits_and_gradient(v.clean, labels, gradient);
  const engine::RngKey key(5, engine::Purpose::kTest);
  const auto losses = [&](double t) {
    std::vector<float> x = v.clean;
    for (size_t i = 0; i < x.size(); ++i) {
      x[i] += static_cast<float>(t * key.normal(i));
    }
    const auto logits = model.logits(x);
    std::vector<double> out;
    for (size_t i = 0; i < 3; ++i) {
      out.push_back(
          train::image_loss(logits.data() + i * 10, 10, labels[i], engine::CrossEntropy::kSoftmax));
    }
    return out;
  };
  const double h = 2e-3;
  const std::vector<double> up = losses(h), down = losses(-h);
  for (size_t image = 0; image < 3; ++image) {
    double along = 0, square = 0;
    for (size_t i = image * kPixels; i < (image + 1) * kPixels; ++i) {
      along += double{gradient[i]} * key.normal(i);
      square += double{gradient[i]} * double{gradient[i]};
    }
    CAPTURE(image);
    CHECK(square > 0);
    CHECK((up[image] - down[image]) / (2 * h) ==
          doctest::Approx(along).epsilon(0.01).scale(std::sqrt(square)));
  }
}

TEST_CASE("attack: logits are those of an evaluation") {
  for (const std::vector<std::string>& settings :
       {std::vector<std::string>{}, {"augment.mean=0.4,0.5,0.6", "augment.stddev=0.2,0.3,0.25"}}) {
    const SmallModel small(kData, settings);
    AttackedModel model(*small.model.network, small.config);
    data::Loader loader =
        data::Loader::evaluation(*small.test, train::evaluation_loader(small.config));
    train::Inference inference(*small.model.network);
    const data::Batch& batch = *loader.next();
    const engine::Tensor expected = inference.run(train::pixels_of(batch, small.config)).logits;
    const Victims v = guessed(model, *small.test, batch.views);
    const auto logits = model.logits(v.clean);
    for (int64_t i = 0; i < batch.views * 10; ++i) {
      CHECK(logits[static_cast<size_t>(i)] ==
            doctest::Approx(expected.data<const float>()[i]).epsilon(1e-4));
    }
  }
}

TEST_CASE("attack: FGSM is one step of eps along the sign of the gradient") {
  const SmallModel small(kData, {});
  AttackedModel model(*small.model.network, small.config);
  Victims v = guessed(model, *small.test, 4);
  std::vector<float> gradient(v.clean.size());
  model.logits_and_gradient(v.clean, v.labels, gradient);
  const AttackPlan plan = train::plan_attack("fgsm", weak(), 0);
  attack_pgd(model, plan.pgd, v);
  for (size_t i = 0; i < v.clean.size(); ++i) {
    const double sign = (gradient[i] > 0) - (gradient[i] < 0);
    const double expected = std::clamp(double{v.clean[i]} + 0.02 * sign, 0.0, 1.0);
    CHECK(std::abs(double{v.adversarial[i]} - expected) < 1e-7);
  }
}

TEST_CASE("attack: PGD breaks what random changes of the same size do not") {
  const SmallModel small(kData, {});
  AttackedModel model(*small.model.network, small.config);
  const Victims clean = guessed(model, *small.test, 40);
  Victims pgd = clean, none = clean, random = clean;
  attack_pgd(model, weak(), pgd);
  // The control: the same start and ball, and steps of no length.
  PgdOptions no_steps = weak();
  no_steps.step = 0;
  attack_pgd(model, no_steps, none);
  CHECK(broken(pgd) > broken(none) + 5);
  // More of everything breaks no fewer: what a start broke stays broken.
  PgdOptions more = weak();
  more.restarts = 3;
  attack_pgd(model, more, random);
  CHECK(broken(random) >= broken(pgd));
  for (size_t i = 0; i < 40; ++i) CHECK(random.broken[i] >= pgd.broken[i]);
  // Nothing beyond the ball, and every claim holds.
  const auto logits = model.logits(pgd.adversarial);
  for (int64_t i = 0; i < 40; ++i) {
    CHECK(weak().ball.holds(pgd.clean_of(i), pgd.adversarial_of(i)));
    CHECK((train::predicted_class(logits.data() + i * 10, 10) != pgd.labels[i]) ==
          (pgd.broken[i] != 0));
  }
}

TEST_CASE("attack: victims that are broken already are left alone") {
  const SmallModel small(kData, {});
  AttackedModel model(*small.model.network, small.config);
  Victims v = guessed(model, *small.test, 6);
  v.broken = {1, 0, 0, 1, 0, 1};
  attack_pgd(model, weak(), v);
  attack_noise(model, 0.1, 2, 3, v);
  for (const size_t i : {0, 3, 5}) {
    CHECK(std::equal(v.clean.begin() + static_cast<int64_t>(i) * kPixels,
                     v.clean.begin() + static_cast<int64_t>(i + 1) * kPixels,
                     v.adversarial.begin() + static_cast<int64_t>(i) * kPixels));
  }
  v.broken.assign(6, 1);
  attack_pgd(model, weak(), v);  // nobody left
}

TEST_CASE("attack: same bits for any threads, batch and neighbours, and weights as before") {
  const SmallModel small(kData, {});
  const engine::Tensor weights = small.model.params.slab(engine::Slab::kValue);
  const std::vector<float> before(weights.data<const float>(),
                                  weights.data<const float>() + weights.numel());
  const auto attacked = [&](int64_t at_once) {
    AttackedModel model(*small.model.network, small.config);
    const Victims all = guessed(model, *small.test, 21);
    std::vector<float> images;
    for (int64_t first = 0; first < 21; first += at_once) {
      const int64_t n = std::min<int64_t>(at_once, 21 - first);
      Victims part;
      part.clean.assign(all.clean.begin() + first * kPixels,
                        all.clean.begin() + (first + n) * kPixels);
      part.adversarial = part.clean;
      part.labels.assign(all.labels.begin() + first, all.labels.begin() + first + n);
      part.samples.assign(all.samples.begin() + first, all.samples.begin() + first + n);
      part.broken.assign(static_cast<size_t>(n), 0);
      attack_pgd(model, weak(), part);
      images.insert(images.end(), part.adversarial.begin(), part.adversarial.end());
    }
    return images;
  };
  const std::vector<float> all = attacked(21);
  CHECK(engine::test::same_bytes(all, attacked(1)));
  CHECK(engine::test::same_bytes(all, attacked(7)));
  CHECK(engine::test::same_bits_for_threads([&] { return attacked(21); }));
  CHECK(std::memcmp(before.data(), weights.data<const float>(), before.size() * sizeof(float)) ==
        0);
}

TEST_CASE("attack: a data set, several attacks and the worst case of them") {
  const SmallModel small(kData, {});
  std::vector<AttackPlan> plans;
  for (const char* name : {"noise", "fgsm", "pgd"}) {
    plans.push_back(train::plan_attack(name, weak(), 0.1));
  }
  AttackedModel attacked(*small.model.network, small.config);
  std::vector<int32_t> labels = guessed(attacked, *small.test, 40).labels;
  for (size_t i = 0; i < 4; ++i)
    labels[i] = (labels[i] + 1) % 10;  // these are wrong from the start
  const Guessed set(*small.test, labels);
  const AttackResult r = attack_model(*small.model.network, small.config, set, plans);
  CHECK(r.n == 40);
  const train::Evaluation e = train::evaluate(*small.model.network, small.config, set);
  CHECK(static_cast<double>(r.right) / 40 == e.accuracy);
  CHECK(r.right == 36);
  CHECK(r.worst_case < r.right);
  for (const train::AttackFigures& f : r.attacks) CHECK(r.worst_case <= f.robust);
  CHECK(r.attacks[1].linf_largest <= 0.02 * (1 + 1e-9));
  CHECK(r.attacks[1].linf_largest > 0.0199);
  CHECK(r.attacks[0].linf_largest > 0.1);
  const auto json = nlohmann::json::parse(train::attack_json(r, {{"eps", 0.02}}));
  for (const char* key : {"n", "clean_accuracy", "clean_accuracy_se", "robust_accuracy",
                          "robust_accuracy_se", "eps", "per_attack"}) {
    CHECK_MESSAGE(json.contains(key), key);
  }
  CHECK(json["per_attack"][2]["name"] == "pgd");
  CHECK(contains(train::attack_text(r), "worst case"));

  train::Config small_batches = small.config;
  small_batches.eval.batch = 7;
  const AttackResult again = attack_model(*small.model.network, small_batches, set, plans);
  CHECK(attack_json(again, {}) == attack_json(r, {}));
}

TEST_CASE("attack: what makes no sense is refused") {
  const SmallModel small(kData, {});
  AttackedModel model(*small.model.network, small.config);
  Victims v = guessed(model, *small.test, 2);
  for (const auto& [eps, step, steps] :
       {std::tuple{-1.0, 0.1, 5}, {0.1, -0.1, 5}, {0.1, 0.1, 0}, {NAN, 0.1, 5}}) {
    PgdOptions options = weak();
    options.ball.eps = eps, options.step = step, options.steps = steps;
    CHECK(contains(error_of(ErrorKind::kValue, [&] { attack_pgd(model, options, v); }), "eps"));
  }
  CHECK(contains(error_of(ErrorKind::kValue, [&] { attack_noise(model, -1, 1, 0, v); }), "noise"));
  CHECK(contains(error_of(ErrorKind::kValue, [] { train::plan_attack("cw", {}, 0); }),
                 "noise, fgsm, pgd, apgd, apgd-dlr or apgd-t"));
  std::vector<float> gradient(v.clean.size() - 1);
  CHECK(error_of(ErrorKind::kShape,
                 [&] { model.logits_and_gradient(v.clean, v.labels, gradient); }) != "no error");
  float* weights = small.model.params.slab(engine::Slab::kValue).data<float>();
  std::fill_n(weights, small.model.params.slab(engine::Slab::kValue).numel(), NAN);
  CHECK(contains(error_of(ErrorKind::kValue, [&] { model.logits(v.clean); }), "not finite"));
}

TEST_CASE("attack: where predictions depend on neighbours no image's verdict is held against it") {
  // Attacked images are packed otherwise than those of the check, so that others are dropped.
  const SmallModel small(
      kData, {"moe.dispatch=capacity", "moe.eval_capacity_factor=0.5", "moe.group_images=8"});
  REQUIRE(train::depends_on_neighbours(small.config));
  const Guessed set(*small.test,
                    train::test::guesses(*small.model.network, small.config, *small.test));
  PgdOptions options;
  options.ball = {Norm::kLinf, 0.05};
  options.step = 0.01;
  options.steps = 10;
  const AttackResult result = train::attack_model(
      *small.model.network, small.config, set,
      {train::plan_attack("pgd", options, 0), train::plan_attack("apgd", options, 0)});
  CHECK(result.n == 40);
  CHECK(result.right == 40);
  CHECK(result.worst_case < 40);
}
