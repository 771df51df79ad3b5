#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>

#include "train/audit/pairs.h"
#include "train/audit/top_two.h"

namespace train {

// Means over both tokens of every pair of the clean probabilities, sorted (paper Table 5): the
// largest, the second, the sum of all others; and of the largest minus the second, the margin
// that noise must overcome to change the first choice. Sums in f64, in the order of pairs. Margins
// are counted, too, in bins of equal width from 0 to 1; a margin between two bins is the upper's.
class ConfidenceMeans {
 public:
  static constexpr int64_t kMarginBins = 20;

  void add(std::span<const AuditPair> pairs, std::span<const TopTwo> tops) {
    for (const AuditPair& pair : pairs) {
      for (const int64_t token : {pair.left, pair.right}) {
        first_ += tops[token].p_first;
        second_ += tops[token].p_second;
        rest_ += tops[token].p_rest;
        const double margin = tops[token].p_first - tops[token].p_second;
        margin_ += margin;
        const auto bin = static_cast<int64_t>(margin * static_cast<double>(kMarginBins));
        ++margins_[static_cast<size_t>(std::clamp<int64_t>(bin, 0, kMarginBins - 1))];
        ++tokens_;
      }
    }
  }
  double first() const { return mean(first_); }
  double second() const { return mean(second_); }
  double rest() const { return mean(rest_); }
  double margin() const { return mean(margin_); }
  const std::array<int64_t, kMarginBins>& margins() const { return margins_; }

 private:
  double mean(double sum) const { return tokens_ > 0 ? sum / static_cast<double>(tokens_) : 0; }
  double first_ = 0, second_ = 0, rest_ = 0, margin_ = 0;
  int64_t tokens_ = 0;
  std::array<int64_t, kMarginBins> margins_{};
};

}  // namespace train
