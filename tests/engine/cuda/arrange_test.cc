#include "engine/ops/batched.h"
#include "engine/ops/concat.h"
#include "engine/ops/unit_rows.h"
#include "tests/support/parity.h"

using namespace engine;
using namespace engine::test;

namespace {

template <class T>
void check_unit_rows() {
  // One warp a row up to 1024 elements, then a block; more rows than one block adds at once.
  for (const Shape& shape :
       {Shape{1}, Shape{3, 5}, Shape{2, 3, 64}, Shape{300, 3}, Shape{2, 1024}, Shape{2, 1031}}) {
    CAPTURE(shape);
    const ParityInput x{shape}, factor{{1}, 1, 2};
    check_parity<T>(Device::kCuda, {x}, [](Tape&, auto in) { return unit_rows(in[0]); });
    check_parity<T>(Device::kCuda, {x, factor},
                    [](Tape&, auto in) { return unit_rows(in[0], in[1], 1e-3); });
  }
}

template <class T>
void check_transpose() {
  for (const Shape& shape :
       {Shape{1, 1}, Shape{7, 3}, Shape{32, 32}, Shape{33, 70}, Shape{3, 5, 40}, Shape{2, 65, 4}}) {
    CAPTURE(shape);
    check_parity<T>(Device::kCuda, {{shape}}, [](Tape&, auto in) { return transpose(in[0]); });
  }
}

template <class T>
void check_concat() {
  const std::vector<ParityInput> parts{{{2, 3}}, {{0, 3}}, {{5, 3}}};
  check_parity<T>(Device::kCuda, parts, [](Tape&, auto in) { return concat(in); });
}

}  // namespace

TEST_CASE("cuda: unit_rows as on the CPU" * doctest::skip(!cuda_available())) {
  check_unit_rows<float>();
  check_unit_rows<double>();
}

TEST_CASE("cuda: transpose and concat as on the CPU" * doctest::skip(!cuda_available())) {
  check_transpose<float>();
  check_transpose<double>();
  check_concat<float>();
  check_concat<double>();
}
