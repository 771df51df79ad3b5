#include "data/sample_order.h"

#include <numeric>
#include <utility>

#include "engine/core/rng.h"

namespace data {

SampleOrder::SampleOrder(int64_t n, Kind kind, uint64_t seed) : n_(n), kind_(kind), seed_(seed) {
  if (kind == Kind::kShuffled) order_.resize(static_cast<size_t>(n));
}

void SampleOrder::shuffle(int64_t epoch) {
  const engine::RngKey key =
      engine::RngKey(seed_, engine::Purpose::kShuffle).with(static_cast<uint64_t>(epoch));
  std::iota(order_.begin(), order_.end(), int64_t{0});
  for (int64_t i = n_ - 1; i > 0; --i) {
    const auto draw = static_cast<uint64_t>(i);
    std::swap(order_[i], order_[key.below(draw, draw + 1)]);
  }
  epoch_ = epoch;
}

void SampleOrder::fill(int64_t first, int64_t count, int64_t* samples) {
  for (int64_t p = first; p < first + count; ++p) {
    if (kind_ == Kind::kInOrder) {
      *samples++ = p % n_;
      continue;
    }
    if (p / n_ != epoch_) shuffle(p / n_);
    *samples++ = order_[p % n_];
  }
}

}  // namespace data
