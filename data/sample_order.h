#pragma once

#include <cstdint>
#include <vector>

namespace data {

// The endless stream of samples a training run sees: epoch after epoch, each a permutation
// of [0, n) (Fisher-Yates, drawn from seed and epoch alone). Position p of the stream is
// sample p mod n of epoch p / n, so the stream can be entered anywhere.
class SampleOrder {
 public:
  enum class Kind { kShuffled, kInOrder };
  SampleOrder(int64_t n, Kind kind, uint64_t seed);

  // The samples at positions [first, first + count). Making the permutation of another epoch
  // than last time costs O(n) and no allocation.
  void fill(int64_t first, int64_t count, int64_t* samples);

 private:
  void shuffle(int64_t epoch);

  int64_t n_;
  Kind kind_;
  uint64_t seed_;
  int64_t epoch_ = -1;
  std::vector<int64_t> order_;  // (n), the permutation of epoch_
};

}  // namespace data
