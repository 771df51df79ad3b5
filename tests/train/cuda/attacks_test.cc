#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "engine/core/upload.h"
#include "tests/support/devices.h"
#include "tests/train/guessed.h"
#include "tests/train/small_model.h"
#include "train/attacks/attack.h"
#include "train/attacks/fixed_expert.h"
#include "train/attacks/pixel_range.h"
#include "train/evaluate.h"

using engine::Device;
using engine::RowsCols;
using engine::Slab;
using engine::test::cuda_available;
using engine::test::download;
using engine::test::on_device;
using engine::test::same_bits;
using engine::test::test_values;
using engine::test::upload;
using train::AttackLoss;
using train::AttackPlan;
using train::Ball;
using train::Norm;
using train::test::SmallModel;

namespace {

using Settings = std::vector<std::string>;
constexpr const char* kData = "shapes:size=16,train=4,test=10";
const Settings kVit = {"model.patch=8", "augment.mean=0.4,0.5,0.6", "augment.stddev=0.2,0.25,0.3",
                       "eval.batch=7"};
const Settings kGroups = {"model.patch=8", "moe.dispatch=capacity", "moe.eval_capacity_factor=1.5",
                          "moe.group_images=4"};
const Settings kResnet = {"model.kind=resnet18", "model.first_width=2", "moe.layers=none"};

// The same weights on both devices.
struct Both {
  explicit Both(const Settings& settings)
      : here(kData, settings), there(here.config, false, engine::Dtype::kF32, Device::kCuda) {
    const engine::Tensor from = here.model.params.slab(Slab::kValue);
    engine::device_copy(Device::kCuda, there.params.slab(Slab::kValue).raw(), Device::kCpu,
                        from.raw(), from.bytes());
  }
  const train::Network& cpu() const { return *here.model.network; }
  const train::Network& gpu() const { return *there.network; }

  SmallModel here;
  train::Model there;
};

// Values in [0, 1], some of them at its ends.
std::vector<float> pixels_of(uint64_t seed, int64_t count) {
  std::vector<float> x = test_values<float>(seed, count, 0.7);
  for (float& v : x) v = std::clamp(v + 0.5f, 0.0f, 1.0f);
  return x;
}

double worst(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  double error = 0, size = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    error = std::max(error, std::abs(double{a[i]} - double{b[i]}));
    size = std::max(size, std::abs(double{b[i]}));
  }
  return error / size;
}

// The images after kernel(backend, clean, gradient, length, x) on a device.
template <class Kernel>
std::vector<float> moved(Device device, RowsCols size, const std::vector<double>& lengths,
                         Kernel&& kernel) {
  const auto clean = upload(pixels_of(1, size.numel()), device);
  const auto gradient = upload(test_values<float>(2, size.numel()), device);
  const auto length = upload(lengths, device);
  const auto x = upload(pixels_of(3, size.numel()), device);
  on_device(device, [&](auto backend) {
    kernel(backend, clean.template data<const float>(), gradient.template data<const float>(),
           length.template data<const double>(), x.template data<float>());
  });
  return download<float>(x);
}

}  // namespace

TEST_CASE("cuda: steps of attacks as on the CPU" * doctest::skip(!cuda_available())) {
  for (const RowsCols size : {RowsCols{1, 1}, {3, 255}, {2, 257}, {5, 700}}) {
    std::vector<double> lengths;
    for (int64_t i = 0; i < size.rows; ++i) lengths.push_back(0.01 * static_cast<double>(i + 1));
    for (const Norm norm : {Norm::kLinf, Norm::kL2}) {
      const Ball ball{norm, norm == Norm::kLinf ? 0.03 : 1.0};
      CAPTURE(size.cols);
      const auto ascend = [&](auto on, const float* clean, const float* gradient,
                              const double* length, float* x) {
        train::kernels::ascend(on, ball, size, clean, gradient, length, x);
      };
      const auto project = [&](auto on, const float* clean, const float*, const double*, float* x) {
        train::kernels::project(on, ball, size, clean, x);
      };
      const auto check = [&](const auto& kernel) {
        const auto want = moved(Device::kCpu, size, lengths, kernel),
                   got = moved(Device::kCuda, size, lengths, kernel);
        CHECK((size.cols == 1 || want != pixels_of(3, size.numel())));
        if (norm == Norm::kLinf) CHECK(same_bits(got, want));
        CHECK(worst(got, want) < 1e-6);
        const std::vector<float> clean = pixels_of(1, size.numel());
        for (int64_t i = 0; i < size.rows; ++i) {
          const auto at = static_cast<size_t>(i * size.cols), n = static_cast<size_t>(size.cols);
          CHECK(ball.holds(std::span(clean).subspan(at, n), std::span(got).subspan(at, n)));
        }
      };
      check(ascend);
      check(project);
    }
  }
}

TEST_CASE("cuda: a step in an l2 ball without a gradient, and one beyond all pixels" *
          doctest::skip(!cuda_available())) {
  const RowsCols size{2, 9};
  const std::vector<float> clean = pixels_of(1, size.numel());
  std::vector<float> slopes = test_values<float>(2, size.numel());
  std::fill_n(slopes.begin(), 9, 0.0f);
  const auto ended = [&](Device device) {
    const auto from = upload(clean, device), gradient = upload(slopes, device),
               x = upload(clean, device);
    const auto length = upload(std::vector<double>{0.5, 1e300}, device);
    on_device(device, [&](auto on) {
      train::kernels::ascend(on, Ball{Norm::kL2, 1e300}, size, from.data<const float>(),
                             gradient.data<const float>(), length.data<const double>(),
                             x.data<float>());
    });
    return download<float>(x);
  };
  const std::vector<float> got = ended(Device::kCuda);
  CHECK(worst(got, ended(Device::kCpu)) < 1e-6);
  CHECK(std::equal(got.begin(), got.begin() + 9, clean.begin()));
  CHECK_FALSE(std::equal(got.begin() + 9, got.end(), clean.begin() + 9));
}

TEST_CASE("cuda: momentum, rows, pixel ranges and counts as on the CPU" *
          doctest::skip(!cuda_available())) {
  const RowsCols size{4, 300};
  const auto after = [&](Device device) {
    const auto z = upload(pixels_of(1, size.numel()), device),
               before = upload(pixels_of(2, size.numel()), device),
               x = upload(pixels_of(3, size.numel()), device),
               rows = upload(pixels_of(4, 1200), device);
    const std::vector<int64_t> taken = {3, 0}, put = {1, 2};
    engine::StepArena arena(device);
    const int64_t *from = engine::upload(arena, taken), *to = engine::upload(arena, put);
    std::vector<float> odd = pixels_of(5, size.numel());
    odd[0] = NAN, odd[299] = INFINITY, odd[1199] = -INFINITY;
    const auto seen = upload(odd, device), count = upload(std::vector<float>{2}, device);
    on_device(device, [&](auto on) {
      train::kernels::keep_moving(on, z.data<const float>(), 0.75, before.data<float>(),
                                  x.data<float>(), size.numel());
      train::kernels::copy_rows(on, {2, 300}, x.data<const float>(), from, rows.data<float>(), to);
      train::kernels::add_not_finite(on, size, seen.data<const float>(), count.data<float>());
    });
    CHECK(download<float>(count)[0] == 5);
    const std::vector<float> moved = download<float>(x), copied = download<float>(rows);
    CHECK(std::equal(moved.begin() + 900, moved.end(), copied.begin() + 300));
    CHECK(std::equal(moved.begin(), moved.begin() + 300, copied.begin() + 600));
    std::vector<float> all = download<float>(before);
    all.insert(all.end(), moved.begin(), moved.end());
    all.insert(all.end(), copied.begin(), copied.end());
    return all;
  };
  CHECK(worst(after(Device::kCuda), after(Device::kCpu)) < 1e-6);

  train::Config config;
  for (const char* s : {"model.channels=3", "model.image_size=5", "augment.mean=0.4,0.5,0.6",
                        "augment.stddev=0.2,0.25,0.3"}) {
    train::set_value(config, s);
  }
  const auto ranged = [&](Device device) {
    const train::PixelRange range(config, device);
    const auto x = upload(test_values<float>(6, 150), device),
               a = upload(test_values<float>(7, 150), device),
               b = upload(test_values<float>(8, 150), device),
               c = upload(test_values<float>(9, 150), device);
    range.normalise(x.tensor(), a.tensor());
    range.unnormalise(x.tensor(), b.tensor());
    range.differentiate(x.tensor(), c.tensor());
    std::vector<float> all = download<float>(a);
    for (const auto* more : {&b, &c}) {
      const std::vector<float> part = download<float>(*more);
      all.insert(all.end(), part.begin(), part.end());
    }
    return all;
  };
  CHECK(worst(ranged(Device::kCuda), ranged(Device::kCpu)) < 1e-6);
}

TEST_CASE("cuda: gradients with respect to pixels as on the CPU" *
          doctest::skip(!cuda_available())) {
  for (const Settings& settings : {kVit, kGroups, kResnet}) {
    const Both both(settings);
    train::AttackedModel cpu(both.cpu(), both.here.config), gpu(both.gpu(), both.here.config);
    const int64_t count = 3;  // with kGroups one image fills a group
    const std::vector<float> x = pixels_of(1, count * cpu.pixels_per_image());
    const std::vector<int32_t> labels = {1, 5, 9}, targets = {2, 0, 3};
    const auto logits = cpu.logits(x);
    const std::vector<float> reference = test_values<float>(4, count * cpu.classes());
    const auto there = gpu.logits(x);
    CHECK(worst({there.begin(), there.end()}, {logits.begin(), logits.end()}) < 1e-5);
    const auto slopes = [&](train::AttackedModel& model, int which) {
      std::vector<float> gradient(x.size());
      const AttackLoss losses[] = {AttackLoss::kClassification, AttackLoss::kDlr,
                                   AttackLoss::kTargetedDlr};
      if (which == 3) {
        model.logits_and_divergence(x, reference, gradient);
      } else {
        model.logits_and_gradient(
            x, labels, gradient, losses[which],
            which == 2 ? std::span<const int32_t>(targets) : std::span<const int32_t>());
      }
      return gradient;
    };
    for (int which = 0; which < 4; ++which) {
      CAPTURE(which);
      CHECK(worst(slopes(gpu, which), slopes(cpu, which)) < 1e-4);
      CHECK(same_bits(slopes(gpu, which), slopes(gpu, which)));
    }
    std::vector<float> gradient(x.size());
    const std::vector<int32_t> wrong = {1, 5, 10};
    CHECK_THROWS_AS(gpu.logits_and_gradient(x, wrong, gradient), engine::Error);
  }
}

TEST_CASE("cuda: attacks stop where a model's numbers are not finite" *
          doctest::skip(!cuda_available())) {
  const Both both(kVit);
  train::AttackedModel gpu(both.gpu(), both.here.config);
  std::vector<float> x = pixels_of(1, 2 * gpu.pixels_per_image());
  gpu.logits(x);
  x[5] = NAN;
  CHECK_THROWS_AS(gpu.logits(x), engine::Error);
  x[5] = 0;
  CHECK_NOTHROW(gpu.logits(x));
}

namespace {

struct Attacked {
  train::AttackResult result;
  train::AttackImages images;
};

Attacked attacked(const train::Network& network, const train::Config& config,
                  const data::Dataset& set, const std::vector<AttackPlan>& plans) {
  Attacked out;
  train::AttackOptions how;
  how.images = &out.images;
  out.result = train::attack_model(network, config, set, plans, how);
  return out;
}

// Every attack in this norm; nobody's first loss is near a tie, so that verdicts are the same.
void check_attacks(const Settings& settings, Norm norm) {
  const Both both(settings);
  const auto labels = train::test::guesses(both.cpu(), both.here.config, *both.here.test);
  const train::test::Guessed set(*both.here.test, labels);
  train::PgdOptions options;
  options.ball = {norm, norm == Norm::kLinf ? 0.03 : 0.5};
  options.step = options.ball.eps / 4;
  options.steps = 3;
  std::vector<AttackPlan> plans;
  for (const char* name : {"noise", "fgsm", "pgd", "apgd", "apgd-dlr", "apgd-t"}) {
    plans.push_back(train::plan_attack(name, options, 0.1));
  }
  const Attacked want = attacked(both.cpu(), both.here.config, set, plans),
                 got = attacked(both.gpu(), both.here.config, set, plans);
  CHECK(got.result.n == want.result.n);
  CHECK(got.result.right == want.result.right);
  CHECK(got.result.logits_changed == 0);
  CHECK(same_bits(got.images.clean, want.images.clean));
  int64_t broken = 0;
  train::AttackedModel judge(both.cpu(), both.here.config);
  for (size_t a = 0; a < plans.size(); ++a) {
    CAPTURE(plans[a].name());
    CHECK(got.images.attacks[a].broken == want.images.attacks[a].broken);
    broken += std::ranges::count(got.images.attacks[a].broken, 1);
    // Where a gradient is a rounding from 0, a pixel goes the other way.
    const std::vector<float>&x = got.images.attacks[a].adversarial,
          &y = want.images.attacks[a].adversarial;
    int64_t other = 0;
    for (size_t i = 0; i < x.size(); ++i) other += std::abs(x[i] - y[i]) > 1e-4f ? 1 : 0;
    CHECK(other <= static_cast<int64_t>(x.size()) / 50);
    if (plans[a].kind == AttackPlan::Kind::kNoise) CHECK(same_bits(x, y));
  }
  CHECK(broken > 6);
  CHECK(broken < 60);
  CHECK(got.result.router_gradient_share ==
        doctest::Approx(want.result.router_gradient_share).epsilon(1e-3));
  for (size_t a = 0; a < plans.size(); ++a) {
    const auto &p = got.result.attacks[a].routing, &q = want.result.attacks[a].routing;
    CHECK(p.frozen_right == q.frozen_right);
    REQUIRE(p.layers.size() == q.layers.size());
    for (size_t l = 0; l < p.layers.size(); ++l) {
      CHECK(p.layers[l].tokens == q.layers[l].tokens);
      CHECK(std::abs(p.layers[l].change - q.layers[l].change) < 2);
    }
  }
}

}  // namespace

TEST_CASE("cuda: every attack's verdicts as on the CPU" * doctest::skip(!cuda_available())) {
  for (const Norm norm : {Norm::kLinf, Norm::kL2}) check_attacks(kVit, norm);
}

TEST_CASE("cuda: a residual network under attack as on the CPU" *
          doctest::skip(!cuda_available())) {
  check_attacks(kResnet, Norm::kLinf);
}

TEST_CASE("cuda: attacks start at the same images as on the CPU, and repeat their bits" *
          doctest::skip(!cuda_available())) {
  Both both(kVit);
  both.here.config.eval.limit = 4;
  const auto labels = train::test::guesses(both.cpu(), both.here.config, *both.here.test);
  const train::test::Guessed set(*both.here.test, labels);
  train::PgdOptions options;
  options.ball = {Norm::kLinf, 0.02};
  options.step = 0;  // stays where it starts
  options.steps = 1;
  const auto images = [&](const train::Network& network) {
    return attacked(network, both.here.config, set, {train::plan_attack("pgd", options, 0)})
        .images.attacks[0]
        .adversarial;
  };
  CHECK(same_bits(images(both.gpu()), images(both.cpu())));
  options.step = 0.005;
  options.steps = 3;
  CHECK(same_bits(images(both.gpu()), images(both.gpu())));
}

TEST_CASE("cuda: each expert alone under attack as on the CPU" * doctest::skip(!cuda_available())) {
  Both both(kVit);
  both.here.config.eval.limit = 4;
  train::PgdOptions options;
  options.ball = {Norm::kLinf, 0.02};
  options.step = 0.01;
  options.steps = 2;
  const std::vector<AttackPlan> plans = {train::plan_attack("pgd", options, 0)};
  const auto rows = [&](const train::Network& network) {
    return train::evaluate_fixed_experts(network, both.here.config, *both.here.test, 1, plans);
  };
  const auto want = rows(both.cpu()), got = rows(both.gpu());
  REQUIRE(got.size() == want.size());
  for (size_t i = 0; i < got.size(); ++i) {
    CHECK(got[i].clean.accuracy == want[i].clean.accuracy);
    CHECK(got[i].attacked.attacks[0].robust == want[i].attacked.attacks[0].robust);
    CHECK(std::abs(got[i].clean.loss - want[i].clean.loss) < 1e-4 * want[i].clean.loss);
  }
}
