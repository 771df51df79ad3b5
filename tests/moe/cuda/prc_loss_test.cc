#include "moe/prc_loss.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "tests/support/parity.h"

using namespace engine;
using namespace engine::test;
using moe::PrcForm;

namespace {

using Ints = std::vector<int32_t>;

struct Case {
  int64_t pairs, patches, experts;
  bool class_token;
  double kept;  // how many patches of view 1 have one in view 2, about
};

// Correspondences of `pairs` pairs of views; patches of view 2 repeat.
Ints match_of(const Case& c) {
  Ints match;
  for (const double u : test_values<double>(7, c.pairs * c.patches)) {
    const auto at = static_cast<int32_t>(match.size());
    match.push_back(u < 2 * c.kept - 1 ? (7 * at * at + at) % static_cast<int32_t>(c.patches) : -1);
  }
  return match;
}

Tensor host_view(Ints& match, const Shape& shape) {
  return {match.data(), shape, Dtype::kI32, Device::kCpu};
}

template <class T>
void check_case(const Case& c, PrcForm form, const RngKey* shuffle = nullptr) {
  CAPTURE(c.pairs);
  CAPTURE(c.patches);
  CAPTURE(c.experts);
  CAPTURE(static_cast<int>(form));
  Ints match = match_of(c);
  const int64_t tokens = c.patches + (c.class_token ? 1 : 0);
  const ParityInput clean{{2 * c.pairs * tokens, c.experts}, 0.5, 0.5};
  const ParityOp op = [&](Tape& tape, auto in) {
    const moe::TokenPairs p = moe::make_pairs(tape.arena(), host_view(match, {c.pairs, c.patches}),
                                              tokens, c.class_token, true, shuffle);
    CHECK(p.left.device() == tape.arena().device());
    return moe::prc_loss(in[0], p, form, 0.8, 2.5);
  };
  check_parity<T>(Device::kCuda, {clean}, op);
}

template <class T>
void check_all() {
  // One pair, one slot, a class token alone; fewer and more pairs, experts and rows than a
  // warp, a tile or a block holds; chunks of one pair and of many.
  const Case cases[] = {{1, 1, 2, false, 1},   {1, 3, 3, true, 0},      {2, 3, 5, true, 0.7},
                        {40, 1, 2, false, 1},  {3, 50, 8, true, 0.6},   {9, 49, 8, true, 0.9},
                        {2, 17, 33, true, 1},  {2, 20, 64, false, 0.8}, {1, 9, 70, true, 0.8},
                        {5, 197, 4, true, 0.9}};
  for (const Case& c : cases) {
    check_case<T>(c, PrcForm::kPaper);
    check_case<T>(c, PrcForm::kFork);
  }
  const RngKey key(3, Purpose::kPairShuffle);
  check_case<T>({4, 30, 8, true, 0.8}, PrcForm::kPaper, &key);
  check_case<T>({4, 30, 8, true, 0.8}, PrcForm::kFork, &key);
}

// What make_pairs() and prc_loss() leave behind, on the host.
struct Outcome {
  Ints left, right, slot;
  int64_t count;
  std::vector<double> s, terms;
};

Outcome outcome_on(Device device, const Case& c, PrcForm form) {
  Ints match = match_of(c);
  StepArena arena(device);
  Tape tape(arena);
  const moe::TokenPairs p = moe::make_pairs(tape.arena(), host_view(match, {c.pairs, c.patches}),
                                            c.patches + 1, true, true, nullptr);
  const Shape shape{2 * c.pairs * (c.patches + 1), c.experts};
  const Buffer probs = upload(test_values<double>(5, shape.numel()), shape, device);
  moe::PrcStats stats;
  (void)moe::prc_loss(tape.input(probs.tensor()), p, form, 0.8, 2.5, &stats);
  const auto used = [&](const Tensor& t) {
    Ints all = download<int32_t>(t);
    all.resize(static_cast<size_t>(p.count));
    return all;
  };
  return {used(p.left),
          used(p.right),
          used(p.slot),
          p.count,
          download<double>(stats.s),
          download<double>(stats.terms)};
}

}  // namespace

TEST_CASE("cuda: prc_loss as on the CPU" * doctest::skip(!cuda_available())) {
  check_all<float>();
  check_all<double>();
}

TEST_CASE("cuda: prc_loss, every patch of view 1 on one of view 2" *
          doctest::skip(!cuda_available())) {
  for (const PrcForm form : {PrcForm::kPaper, PrcForm::kFork}) {
    Ints match(3 * 40, 7);
    const ParityInput clean{{6 * 40, 8}, 0.5, 0.5};
    check_parity<double>(Device::kCuda, {clean}, [&](Tape& tape, auto in) {
      const moe::TokenPairs p =
          moe::make_pairs(tape.arena(), host_view(match, {3, 40}), 40, false, false, nullptr);
      return moe::prc_loss(in[0], p, form, 0.8, 2.5);
    });
  }
}

TEST_CASE("cuda: prc_loss gives pairs, S and both terms on the loss's device" *
          doctest::skip(!cuda_available())) {
  for (const Case& c : {Case{3, 20, 6, true, 0.7}, Case{2, 5, 3, true, 0}}) {
    for (const PrcForm form : {PrcForm::kPaper, PrcForm::kFork}) {
      const Outcome want = outcome_on(Device::kCpu, c, form);
      const Outcome got = outcome_on(Device::kCuda, c, form);
      CHECK(got.count == want.count);
      CHECK(got.left == want.left);
      CHECK(got.right == want.right);
      CHECK(got.slot == want.slot);
      CHECK(worst_error(got.s, want.s) < 1e-12);
      CHECK(worst_error(got.terms, want.terms) < 1e-12);
    }
  }
}

TEST_CASE("cuda: prc_loss of no pairs is 0, so are S, both terms and the gradient" *
          doctest::skip(!cuda_available())) {
  StepArena arena(Device::kCuda);
  Tape tape(arena);
  Ints match(6, -1);
  const moe::TokenPairs p =
      moe::make_pairs(tape.arena(), host_view(match, {2, 3}), 3, false, false, nullptr);
  const Buffer probs = upload(test_values<float>(5, 24), {12, 2}, Device::kCuda);
  moe::PrcStats stats;
  const Buffer gradient = upload(std::vector<float>(24, 0.5f), {12, 2}, Device::kCuda);
  const Buffer seed = upload(std::vector<float>{3}, Device::kCuda);
  const Tensor loss = moe::prc_loss(tape.leaf(probs.tensor(), gradient.tensor()), p, PrcForm::kFork,
                                    0.8, 2.5, &stats);
  tape.backward(loss, seed.tensor());
  CHECK(download<float>(gradient) == std::vector<float>(24, 0.5f));
  CHECK(download<float>(loss) == std::vector<float>{0});
  CHECK(download<double>(stats.s) == std::vector<double>(4, 0));
  CHECK(download<double>(stats.terms) == std::vector<double>(2, 0));
  // Correspondences in device memory are refused.
  const Buffer there = upload(match, {2, 3}, Device::kCuda);
  CHECK_THROWS_AS(moe::make_pairs(tape.arena(), there.tensor(), 3, false, false, nullptr), Error);
}
