#include <algorithm>
#include <utility>
#include <vector>

#include "engine/ops/softmax.h"
#include "nn/loss/gshard_loss.h"
#include "nn/loss/kl_divergence.h"
#include "nn/loss/mean_entropy.h"
#include "nn/loss/pair_distance.h"
#include "tests/support/parity.h"

using namespace engine;
using namespace engine::test;
using nn::Distance;

namespace {

using Ints = std::vector<int32_t>;

// Small numbers that look random.
Ints numbers(uint64_t seed, int64_t count, int64_t below) {
  Ints out;
  for (const double u : test_values<double>(seed, count, 0.5)) {
    out.push_back(std::min(static_cast<int32_t>((u + 0.5) * static_cast<double>(below)),
                           static_cast<int32_t>(below - 1)));
  }
  return out;
}

// Rows of probabilities, every gate with a gradient.
ParityInput probabilities(int64_t rows, int64_t cols) { return {{rows, cols}, 0.5, 0.5}; }

template <class T>
void check_gshard() {
  struct Case {
    int64_t groups, tokens, experts, k;
  };
  // One and several groups; columns below and above a tile, tokens below and above a chunk.
  for (const Case& c : {Case{1, 1, 1, 1}, Case{1, 7, 2, 2}, Case{3, 33, 8, 1}, Case{2, 700, 33, 3},
                        Case{5, 64, 32, 2}, Case{40, 3, 5, 1}}) {
    CAPTURE(c.groups);
    CAPTURE(c.tokens);
    const int64_t all = c.groups * c.tokens;
    const Ints chosen = numbers(3, all * c.k, c.experts);
    check_parity<T>(Device::kCuda, {probabilities(all, c.experts)}, [&](Tape& tape, auto in) {
      return nn::gshard_loss(in[0], on(tape.arena(), chosen, {all, c.k}), c.tokens);
    });
  }
}

template <class T>
void check_entropy() {
  for (const auto& each : {std::pair{1, 1}, {5, 3}, {64, 32}, {683, 3}, {300, 64}, {2100, 8}}) {
    const auto rows = std::get<0>(each), cols = std::get<1>(each);
    CAPTURE(rows);
    check_parity<T>(Device::kCuda, {probabilities(rows, cols)},
                    [](Tape&, auto in) { return nn::mean_entropy(in[0]); });
  }
}

template <class T>
void check_pairs() {
  struct Case {
    int64_t rows, cols, count;
  };
  // No pair and one, rows in many pairs and in none, rows paired with themselves, several chunks.
  for (const Case& c : {Case{4, 2, 0}, Case{4, 3, 1}, Case{1, 8, 3}, Case{3, 5, 60},
                        Case{90, 8, 40}, Case{400, 33, 300}, Case{900, 4, 2500}}) {
    for (const Distance kind : {Distance::kL2, Distance::kJsd}) {
      CAPTURE(c.rows);
      CAPTURE(c.count);
      const Ints left = numbers(5, c.count, c.rows), right = numbers(6, c.count, c.rows);
      check_parity<T>(Device::kCuda, {probabilities(c.rows, c.cols)}, [&](Tape& tape, auto in) {
        return nn::pair_distance(in[0], on(tape.arena(), left, {c.count}),
                                 on(tape.arena(), right, {c.count}), c.count, kind);
      });
    }
  }
}

template <class T>
void check_divergence() {
  for (const auto& each :
       {std::pair{1, 1}, {1, 2}, {3, 10}, {300, 5}, {4, 128}, {3, 129}, {2, 1000}}) {
    const auto rows = std::get<0>(each), cols = std::get<1>(each);
    CAPTURE(rows);
    CAPTURE(cols);
    const ParityInput logits{{rows, cols}, 4}, still{{rows, cols}, 4, 0, false};
    const auto op = [rows = rows](Tape&, auto in) {
      return nn::kl_divergence(in[0], in[1], 0.5 * rows);
    };
    check_parity<T>(Device::kCuda, {logits, logits}, op);
    check_parity<T>(Device::kCuda, {still, logits}, op);
    check_parity<T>(Device::kCuda, {logits, still}, op);
    // The gradient of a row's logits adds up to nothing, so that of other terms is added to it.
    check_parity<T>(Device::kCuda, {logits},
                    [](Tape&, auto in) { return nn::kl_divergence(in[0], scale(in[0], -0.5), 2); });
  }
}

}  // namespace

TEST_CASE("cuda: gshard_loss as on the CPU" * doctest::skip(!cuda_available())) {
  check_gshard<float>();
  check_gshard<double>();
}

TEST_CASE("cuda: mean_entropy as on the CPU" * doctest::skip(!cuda_available())) {
  check_entropy<float>();
  check_entropy<double>();
}

TEST_CASE("cuda: pair_distance as on the CPU" * doctest::skip(!cuda_available())) {
  check_pairs<float>();
  check_pairs<double>();
}

TEST_CASE("cuda: entries of 0 and equal rows in pair_distance" * doctest::skip(!cuda_available())) {
  // ReLU makes zeros of half of the entries; pairs of a row with itself are at distance 0.
  for (const Distance kind : {Distance::kL2, Distance::kJsd}) {
    check_parity<double>(Device::kCuda, {{{20, 6}}}, [&](Tape& tape, auto in) {
      const Ints left = {0, 1, 1, 4, 19, 7}, right = {2, 1, 3, 5, 0, 7};
      return nn::pair_distance(relu(in[0]), on(tape.arena(), left, {6}),
                               on(tape.arena(), right, {6}), 6, kind);
    });
    // ReLU passes no gradient to a 0, so here entries are 0 themselves.
    check_parity<double>(Device::kCuda, {{{4, 3}, 0, 0}}, [&](Tape& tape, auto in) {
      return nn::pair_distance(in[0], on(tape.arena(), Ints{0, 1}, {2}),
                               on(tape.arena(), Ints{2, 3}, {2}), 2, kind);
    });
  }
}

TEST_CASE("cuda: pair_distance of as many pairs as memory says" *
          doctest::skip(!cuda_available())) {
  for (const Distance kind : {Distance::kL2, Distance::kJsd}) {
    check_parity<double>(Device::kCuda, {{{20, 6}, 0.5, 0.5}}, [&](Tape& tape, auto in) {
      const bool there = tape.arena().device() == Device::kCuda;
      const Ints left = {0, 1, 1, 4, -1, -1, -1}, right = {2, 1, 3, 5, -1, -1, -1};
      return nn::pair_distance(in[0], on(tape.arena(), left, {7}), on(tape.arena(), right, {7}),
                               there ? 7 : 4, kind,
                               there ? on(tape.arena(), Ints{4}, {1}) : Tensor{});
    });
    StepArena arena(Device::kCuda);
    Tape tape(arena);
    const Buffer x = upload(test_values<double>(1, 12), {4, 3}, Device::kCuda);
    const Buffer gradient = upload(std::vector<double>(12, 0.5), {4, 3}, Device::kCuda);
    const Buffer seed = upload(std::vector<double>{3}, Device::kCuda);
    const Tensor loss =
        nn::pair_distance(tape.leaf(x.tensor(), gradient.tensor()), on(arena, Ints{-1, -1}, {2}),
                          on(arena, Ints{-1, -1}, {2}), 2, kind, on(arena, Ints{0}, {1}));
    tape.backward(loss, seed.tensor());
    CHECK(download<double>(loss) == std::vector<double>{0});
    CHECK(download<double>(gradient) == std::vector<double>(12, 0.5));
  }
}

TEST_CASE("cuda: kl_divergence as on the CPU" * doctest::skip(!cuda_available())) {
  check_divergence<float>();
  check_divergence<double>();
}

TEST_CASE("cuda: kl_divergence of far logits stays finite" * doctest::skip(!cuda_available())) {
  const ParityInput far{{3, 7}, 2000};
  check_parity<double>(Device::kCuda, {far, far},
                       [](Tape&, auto in) { return nn::kl_divergence(in[0], in[1], 3); });
}
