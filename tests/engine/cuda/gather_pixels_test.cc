#include "engine/ops/gather_pixels.h"

#include "tests/support/parity.h"

using namespace engine;
using namespace engine::test;

namespace {

template <class T>
void check_gather(int64_t batch, int64_t pixels, int64_t channels, int64_t places) {
  CAPTURE(pixels);
  CAPTURE(channels);
  CAPTURE(places);
  // Some pixels are taken often, some never; some places stay empty.
  std::vector<int32_t> index;
  for (int64_t q = 0; q < places; ++q) {
    index.push_back(static_cast<int32_t>((q * q + 3 * q) % (pixels + 1)) - 1);
  }
  check_parity<T>(Device::kCuda, {{{batch, pixels, channels}}}, [&](Tape& tape, auto in) {
    return gather_pixels(in[0], on(tape.arena(), index, {places}));
  });
}

}  // namespace

TEST_CASE("cuda: pixels are gathered as on the CPU" * doctest::skip(!cuda_available())) {
  const auto check_all = []<class T>() {
    check_gather<T>(1, 1, 1, 1);
    check_gather<T>(3, 16, 4, 16);    // 16-byte accesses
    check_gather<T>(2, 9, 5, 31);     // without
    check_gather<T>(2, 100, 12, 40);  // most pixels are dropped
    check_gather<T>(2, 7, 2, 300);    // more than one block
  };
  check_all.operator()<float>();
  check_all.operator()<double>();
}
