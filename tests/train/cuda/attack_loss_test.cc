#include "train/attacks/attack_loss.h"

#include <vector>

#include "tests/support/parity.h"

using namespace engine;
using namespace engine::test;

namespace {

using Ints = std::vector<int32_t>;

// Classes that differ from row to row; every label is the largest logit of some row.
Ints classes_of(int64_t rows, int64_t classes, int64_t step) {
  Ints out;
  for (int64_t i = 0; i < rows; ++i) out.push_back(static_cast<int32_t>((i * step + 1) % classes));
  return out;
}

template <class T>
void check_dlr(int64_t rows, int64_t classes, bool targeted, bool ties) {
  CAPTURE(rows);
  CAPTURE(classes);
  CAPTURE(targeted);
  const Ints labels = classes_of(rows, classes, 3), targets = classes_of(rows, classes, 5);
  check_parity<T>(Device::kCuda, {{{rows, classes}, 3}}, [&](Tape& tape, auto in) {
    const Tensor label = on(tape.arena(), labels, {rows});
    const Tensor target = targeted ? on(tape.arena(), targets, {rows}) : Tensor{};
    return train::dlr_loss(ties ? relu(in[0]) : in[0], label, target);
  });
}

template <class T>
void check_all() {
  // Fewer classes than a warp has lanes and more; rows of one block and of several.
  for (const int64_t rows : {1, 4, 5, 300}) {
    for (const int64_t classes : {4, 10, 32, 33, 100}) {
      check_dlr<T>(rows, classes, false, false);
      check_dlr<T>(rows, classes, true, false);
    }
  }
  check_dlr<T>(7, 3, false, false);
  check_dlr<T>(2, 1000, true, false);
}

}  // namespace

TEST_CASE("cuda: dlr_loss as on the CPU" * doctest::skip(!cuda_available())) {
  check_all<float>();
  check_all<double>();
}

TEST_CASE("cuda: dlr_loss, equal logits go to the lower class" * doctest::skip(!cuda_available())) {
  // Half of the logits are 0, all of them candidates for the third and fourth place where few are
  // left above it.
  for (const int64_t classes : {8, 12, 70}) {
    check_dlr<double>(40, classes, false, true);
    check_dlr<double>(40, classes, true, true);
  }
}
