#include "engine/ops/tokens.h"

#include "tests/support/parity.h"

using namespace engine;
using namespace engine::test;

namespace {

template <class T>
void check_patchify() {
  // Less and more than a block an image; patches of one pixel, of the image, and neither square.
  const std::pair<Shape, int64_t> cases[] = {{{1, 1, 1, 1}, 1},
                                             {{2, 3, 4, 6}, 2},
                                             {{3, 5, 6, 3}, 3},
                                             {{2, 3, 16, 8}, 8},
                                             {{1, 4, 5, 7}, 1}};
  for (const auto& each : cases) {
    const Shape& shape = each.first;
    const int64_t patch = each.second;
    CAPTURE(shape);
    check_parity<T>(Device::kCuda, {{shape}},
                    [patch](Tape&, auto in) { return patchify(in[0], patch); });
  }
}

template <class T>
void check_tokens() {
  // Images and tokens on both sides of 8 warps, rows with and without 16-byte accesses, below and
  // beyond what a lane reads ahead.
  for (const auto& each : {std::pair{1, 1}, {3, 4}, {9, 2}, {2, 17}}) {
    const auto batch = std::get<0>(each), patches = std::get<1>(each);
    for (const int64_t width : {1, 5, 12, 130, 132, 520}) {
      CAPTURE(batch);
      CAPTURE(patches);
      CAPTURE(width);
      const int64_t b = batch, p = patches;
      const ParityInput x{{b, p, width}};
      check_parity<T>(Device::kCuda, {x, {{width}}, {{p + 1, width}}},
                      [](Tape&, auto in) { return embed_tokens(in[0], in[1], in[2]); });
      check_parity<T>(Device::kCuda, {x, {{p, width}}},
                      [](Tape&, auto in) { return embed_tokens(in[0], {}, in[1]); });
      for (const int64_t token : {int64_t{0}, p - 1}) {
        check_parity<T>(Device::kCuda, {x},
                        [=](Tape&, auto in) { return select_token(in[0], token); });
      }
      check_parity<T>(Device::kCuda, {x}, [](Tape&, auto in) { return mean_tokens(in[0]); });
    }
  }
}

}  // namespace

TEST_CASE("cuda: patchify as on the CPU" * doctest::skip(!cuda_available())) {
  check_patchify<float>();
  check_patchify<double>();
}

TEST_CASE("cuda: ops on tokens as on the CPU" * doctest::skip(!cuda_available())) {
  check_tokens<float>();
  check_tokens<double>();
}
