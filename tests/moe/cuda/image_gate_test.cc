#include "moe/cnn/image_gate.h"

#include <limits>
#include <numeric>

#include "engine/ops/softmax.h"
#include "tests/support/parity.h"

using namespace engine;
using namespace engine::test;
using moe::GateWeight;

namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

std::vector<int32_t> chosen_on(Device device, const std::vector<double>& q, int64_t experts,
                               int64_t k, int64_t capacity) {
  StepArena arena(device);
  Tape tape(arena);
  const Shape shape{static_cast<int64_t>(q.size()) / experts, experts};
  return download<int32_t>(moe::choose_experts(tape, on(arena, q, shape), k, capacity));
}

void check_choices(const std::vector<double>& q, int64_t experts, int64_t k, int64_t capacity) {
  CAPTURE(q.size());
  CAPTURE(experts);
  CAPTURE(k);
  CAPTURE(capacity);
  CHECK(chosen_on(Device::kCuda, q, experts, k, capacity) ==
        chosen_on(Device::kCpu, q, experts, k, capacity));
}

// Few different values, so that many are equal.
std::vector<double> coarse(std::vector<double> values) {
  for (double& x : values) x = std::round(2 * x) / 2;
  return values;
}

template <class T>
std::vector<T> selection_on(Device device, const std::vector<T>& scores, int64_t experts,
                            int64_t patches, int64_t step) {
  StepArena arena(device);
  Tape tape(arena);
  const auto rows = static_cast<int64_t>(scores.size()) / experts;
  std::vector<int64_t> ids(static_cast<size_t>(rows / patches));
  std::iota(ids.begin(), ids.end(), int64_t{1} << 33);
  const nn::Forward f{.tape = tape, .seed = 7, .step = step, .sample_ids = ids};
  const Tensor q = moe::noisy_selection(f, on(arena, scores, {rows, experts}), 2);
  std::fill(ids.begin(), ids.end(), 0);  // was read
  return download<T>(q);
}

template <class T>
void check_selection() {
  struct Case {
    int64_t images, patches, experts;
  };
  for (const Case& c : {Case{1, 1, 2}, {7, 1, 3}, {100, 1, 4}, {3, 4, 5}, {33, 1, 40}}) {
    CAPTURE(c.images);
    CAPTURE(c.experts);
    auto s = test_values<T>(9, c.images * c.patches * c.experts, 0.5);
    for (T& x : s) x += T(0.5);
    const auto want = selection_on(Device::kCpu, s, c.experts, c.patches, 1);
    const auto got = selection_on(Device::kCuda, s, c.experts, c.patches, 1);
    CHECK(worst_error(got, std::vector<double>(want.begin(), want.end())) < tolerance<T>());
    CHECK(same_bits(selection_on(Device::kCuda, s, c.experts, c.patches, 1), got));
    CHECK(selection_on(Device::kCuda, s, c.experts, c.patches, 2) != got);
  }
  const std::vector<T> flat(8, T(0.25));  // no deviation to divide by
  const auto want = selection_on(Device::kCpu, flat, 4, 1, 1);
  CHECK(worst_error(selection_on(Device::kCuda, flat, 4, 1, 1),
                    std::vector<double>(want.begin(), want.end())) < tolerance<T>());
}

template <class T>
void check_weights() {
  for (const GateWeight form :
       {GateWeight::kNormalised, GateWeight::kPlain, GateWeight::kStraightThrough}) {
    for (const int64_t images : {1, 5, 300}) {
      for (const int64_t k : {1, 3}) {
        if (k > 1 && form == GateWeight::kStraightThrough) continue;
        CAPTURE(static_cast<int>(form));
        CAPTURE(images);
        std::vector<int32_t> chosen;
        for (int64_t i = 0; i < images * k; ++i) {
          chosen.push_back(static_cast<int32_t>((i / k + 2 * (i % k)) % 5));
        }
        check_parity<T>(Device::kCuda, {{{images, 5}}}, [&](Tape& tape, auto in) {
          return moe::gate_weights(softmax(in[0]), on(tape.arena(), chosen, {images, k}), form);
        });
      }
    }
  }
}

}  // namespace

TEST_CASE("cuda: selection by noisy scores as on the CPU" * doctest::skip(!cuda_available())) {
  check_selection<float>();
  check_selection<double>();
}

TEST_CASE("cuda: choices with capacities as on the CPU" * doctest::skip(!cuda_available())) {
  struct Case {
    int64_t images, experts;
  };
  for (const Case& c : {Case{1, 2}, {7, 3}, {40, 5}, {700, 3}}) {
    const auto q = test_values<double>(31, c.images * c.experts);
    for (const int64_t k : {int64_t{1}, c.experts - 1}) {
      const int64_t even = (c.images * k + c.experts - 1) / c.experts;
      for (const int64_t capacity : {int64_t{1}, even, even * 5 / 4 + 1, c.images + 3}) {
        check_choices(q, c.experts, k, capacity);
      }
      check_choices(coarse(q), c.experts, k, even);
      check_choices(q, c.experts, k, 0);
    }
  }
  // More images than a block serves at once, most of which want expert 0.
  auto q = test_values<double>(32, 2 * 2100);
  for (size_t i = 0; i < q.size(); i += 2) q[i] += i % 20 == 0 ? 0 : 3;
  check_choices(q, 2, 1, 1100);
  check_choices(coarse(q), 2, 1, 1100);
}

TEST_CASE("cuda: choices among NaN, zeros and equal scores as on the CPU" *
          doctest::skip(!cuda_available())) {
  const std::vector<double> equal(24, .25);
  const std::vector<double> odd = {kNan, .4, .1, 0., -0., 0., kNan, kNan, kNan, .9, -3, -INFINITY};
  for (const int64_t capacity : {1, 2, 4}) {
    for (const int64_t k : {1, 2, 3}) {
      check_choices(equal, 4, k, capacity);
      check_choices(odd, 3, k, capacity);
    }
  }
}

TEST_CASE("cuda: weights of the chosen as on the CPU" * doctest::skip(!cuda_available())) {
  check_weights<float>();
  check_weights<double>();
}

TEST_CASE("cuda: a weight of NaN is 0, without a gradient" * doctest::skip(!cuda_available())) {
  for (const GateWeight form : {GateWeight::kNormalised, GateWeight::kStraightThrough}) {
    StepArena arena(Device::kCuda);
    Tape tape(arena);
    const Tensor s = on(arena, std::vector<double>{kNan, .5, .25, .75}, {2, 2});
    const Tensor ds = on(arena, std::vector<double>(4, 0), {2, 2});
    const Tensor w =
        moe::gate_weights(tape.leaf(s, ds), on(arena, std::vector<int32_t>{0, 1}, {2, 1}), form);
    CHECK(download<double>(w)[0] == 0);
    CHECK(download<double>(w)[1] > .9);
    tape.backward(w, on(arena, std::vector<double>{2, 3}, {2, 1}));
    const auto g = download<double>(ds);
    CHECK(g[0] == 0);
    CHECK(std::isfinite(g[3]));
    CHECK(g[3] != 0);
  }
}
