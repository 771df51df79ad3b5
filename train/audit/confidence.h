#pragma once

#include <cstdint>
#include <span>

#include "train/audit/pairs.h"
#include "train/audit/top_two.h"

namespace train {

// Means over both tokens of every pair of the clean probabilities, sorted (paper Table 5): the
// largest, the second, the sum of all others; and of the largest minus the second, the margin
// that noise must overcome to change the first choice. Sums in f64, in the order of pairs.
class ConfidenceMeans {
 public:
  void add(std::span<const AuditPair> pairs, std::span<const TopTwo> tops) {
    for (const AuditPair& pair : pairs) {
      for (const int64_t token : {pair.left, pair.right}) {
        first_ += tops[token].p_first;
        second_ += tops[token].p_second;
        rest_ += tops[token].p_rest;
        margin_ += tops[token].p_first - tops[token].p_second;
        ++tokens_;
      }
    }
  }
  double first() const { return mean(first_); }
  double second() const { return mean(second_); }
  double rest() const { return mean(rest_); }
  double margin() const { return mean(margin_); }

 private:
  double mean(double sum) const { return tokens_ > 0 ? sum / static_cast<double>(tokens_) : 0; }
  double first_ = 0, second_ = 0, rest_ = 0, margin_ = 0;
  int64_t tokens_ = 0;
};

}  // namespace train
