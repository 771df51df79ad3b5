#include "moe/cnn/image_balance.h"

#include "engine/ops/pointwise.h"
#include "engine/ops/softmax.h"
#include "tests/support/parity.h"

using namespace engine;
using namespace engine::test;
using moe::ImageBalance;

namespace {

constexpr ImageBalance kAll[] = {ImageBalance::kSwitch, ImageBalance::kEntropy,
                                 ImageBalance::kColumnEntropy, ImageBalance::kVariance};

template <class T>
void check_balance() {
  for (const ImageBalance kind : kAll) {
    CAPTURE(static_cast<int>(kind));
    // One image, one expert, more images than a block has threads.
    for (const Shape& shape :
         {Shape{1, 3}, Shape{5, 1}, Shape{7, 4}, Shape{40, 9}, Shape{300, 5}}) {
      CAPTURE(shape);
      check_parity<T>(Device::kCuda, {{shape, 3}}, [&](Tape&, auto in) {
        return moe::image_balance_loss(softmax(in[0]), kind);
      });
    }
    // Two are the largest: the first of them counts.
    check_parity<T>(Device::kCuda, {{{2, 4}}}, [&](Tape& tape, auto in) {
      const Tensor row =
          tape.input(on(tape.arena(), std::vector<T>{0, 2, 2, 1, 3, 0, 1, 3}, {2, 4}));
      return moe::image_balance_loss(softmax(add(scale(in[0], 0), row)), kind);
    });
    // Scores of 0 and 1.
    check_parity<T>(Device::kCuda, {{{4, 3}, 0.4, 1}}, [&](Tape& tape, auto in) {
      const std::vector<T> one_hot = {1, 0, 0, 0, 1, 0, 1, 0, 0, 1, 0, 0};
      return moe::image_balance_loss(multiply(in[0], tape.input(on(tape.arena(), one_hot, {4, 3}))),
                                     kind);
    });
  }
}

template <class T>
void check_spread() {
  // Nobody idle; the first, one in the middle and the last idle; one expert for all.
  const std::vector<std::vector<int32_t>> offsets = {
      {0, 3, 4, 6, 9}, {0, 0, 5, 5, 9, 9}, {0, 9, 9}, {0, 9}};
  for (const std::vector<int32_t>& offset : offsets) {
    for (const int64_t width : {1, 6, 300}) {
      for (const double size : {0.3, 20.0}) {  // some push; far apart, where none do
        CAPTURE(offset.size());
        CAPTURE(width);
        CAPTURE(size);
        check_parity<T>(Device::kCuda, {{{9, width}, size}}, [&](Tape& tape, auto in) {
          const auto ends = static_cast<int64_t>(offset.size());
          return moe::expert_spread_loss(in[0], on(tape.arena(), offset, {ends}));
        });
      }
    }
  }
}

}  // namespace

TEST_CASE("cuda: image_balance_loss as on the CPU" * doctest::skip(!cuda_available())) {
  check_balance<float>();
  check_balance<double>();
}

TEST_CASE("cuda: expert_spread_loss as on the CPU" * doctest::skip(!cuda_available())) {
  check_spread<float>();
  check_spread<double>();
}
