#include "engine/ops/top_k.h"

#include <cmath>
#include <limits>

#include "tests/support/parity.h"

using namespace engine;
using namespace engine::test;

namespace {

// Rows below, at and above a warp; k from one to all.
template <class T>
void check_top_k() {
  for (const auto& each : std::vector<std::array<int64_t, 2>>{
           {1, 1}, {5, 3}, {4, 8}, {33, 31}, {7, 32}, {9, 33}, {3, 100}}) {
    const auto rows = std::get<0>(each), cols = std::get<1>(each);
    for (const double steps : {2., 1e6}) {
      auto values = test_values<T>(17, rows * cols, steps);
      for (T& x : values) x = std::trunc(x);  // with ties, and zeros of both signs
      for (size_t i = 0; i < values.size(); i += 5) values[i] = std::nan("");
      for (size_t i = 3; i < values.size(); i += 7) values[i] = -std::numeric_limits<T>::infinity();
      if (rows > 1) std::fill_n(values.begin(), cols, std::nan(""));
      for (const int64_t k : {int64_t{1}, (cols + 1) / 2, cols}) {
        CAPTURE(cols);
        CAPTURE(k);
        const auto best = [&](Device device) {
          StepArena arena(device);
          Tape tape(arena);
          return download<int32_t>(top_k(tape.input(on(arena, values, {rows, cols})), k));
        };
        CHECK(best(Device::kCuda) == best(Device::kCpu));
      }
    }
  }
}

template <class T>
void check_pick() {
  for (const auto& each :
       std::vector<std::array<int64_t, 3>>{{1, 1, 1}, {5, 3, 2}, {300, 8, 2}, {9, 40, 33}}) {
    const auto rows = std::get<0>(each), cols = std::get<1>(each), k = std::get<2>(each);
    CAPTURE(cols);
    std::vector<int32_t> index;
    for (int32_t i = 0; i < rows; ++i) {
      for (int32_t j = 0; j < k; ++j) {
        index.push_back((i + j) % 7 == 3 ? -1 : static_cast<int32_t>((i + j) % cols));
      }
    }
    check_parity<T>(Device::kCuda, {{{rows, cols}}}, [&](Tape& tape, auto in) {
      return pick(in[0], on(tape.arena(), index, {rows, k}));
    });
  }
}

}  // namespace

TEST_CASE("cuda: top_k as on the CPU" * doctest::skip(!cuda_available())) {
  check_top_k<float>();
  check_top_k<double>();
}

TEST_CASE("cuda: pick as on the CPU" * doctest::skip(!cuda_available())) {
  check_pick<float>();
  check_pick<double>();
}
