#include "moe/balance_loss.h"

#include <vector>

#include "tests/support/parity.h"

using namespace engine;
using namespace engine::test;

namespace {

struct Case {
  int64_t groups, tokens, experts;
};
// One expert, one token, several groups, more groups than a block has warps, more experts than a
// warp has lanes and than a tile has columns, tokens of one chunk and of many.
const Case kCases[] = {{1, 1, 2},  {1, 5, 3},  {3, 33, 8},   {2, 40, 1},
                       {20, 9, 4}, {2, 3, 70}, {1, 600, 32}, {2, 300, 33}};

template <class T>
void check_importance() {
  for (const Case& c : kCases) {
    CAPTURE(c.groups);
    CAPTURE(c.experts);
    const ParityInput clean{{c.groups * c.tokens, c.experts}, 0.5, 0.5};
    check_parity<T>(Device::kCuda, {clean},
                    [&](Tape&, auto in) { return moe::importance_loss(in[0], c.tokens); });
  }
}

template <class T>
void check_load() {
  for (const Case& c : kCases) {
    for (const int64_t k : {int64_t{1}, (c.experts + 1) / 2, c.experts}) {
      CAPTURE(c.groups);
      CAPTURE(c.experts);
      CAPTURE(k);
      const Shape shape{c.groups * c.tokens, c.experts};
      const ParityInput logits{shape}, noise{shape, 0.3};
      const ParityInput still{shape, 1, 0, false};
      check_parity<T>(Device::kCuda, {logits, noise}, [&](Tape&, auto in) {
        return moe::load_loss(in[0], add(in[0], in[1]), k, 0.7, c.tokens);
      });
      check_parity<T>(Device::kCuda, {still, logits}, [&](Tape&, auto in) {
        return moe::load_loss(in[0], in[1], k, 0.7, c.tokens);
      });
      check_parity<T>(Device::kCuda, {logits, still}, [&](Tape&, auto in) {
        return moe::load_loss(in[0], in[1], k, 0.7, c.tokens);
      });
    }
  }
}

}  // namespace

TEST_CASE("cuda: importance_loss as on the CPU" * doctest::skip(!cuda_available())) {
  check_importance<float>();
  check_importance<double>();
}

TEST_CASE("cuda: load_loss as on the CPU" * doctest::skip(!cuda_available())) {
  check_load<float>();
  check_load<double>();
}

TEST_CASE("cuda: load_loss, equal noisy logits go to the lower expert" *
          doctest::skip(!cuda_available())) {
  for (int64_t k = 1; k <= 6; ++k) {
    check_parity<double>(Device::kCuda, {{{30, 6}}, {{30, 6}}}, [&](Tape&, auto in) {
      return moe::load_loss(in[0], relu(in[1]), k, 0.7, 15);
    });
  }
}

TEST_CASE("cuda: balance losses of experts that nobody uses and of equal loads" *
          doctest::skip(!cuda_available())) {
  check_parity<double>(Device::kCuda, {{{12, 4}, 0, 0}},
                       [](Tape&, auto in) { return moe::importance_loss(in[0], 6); });
  check_parity<double>(Device::kCuda, {{{12, 4}, 0, 0.25}},
                       [](Tape&, auto in) { return moe::importance_loss(in[0], 6); });
}
