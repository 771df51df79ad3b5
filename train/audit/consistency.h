#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "train/audit/pairs.h"

namespace train {

// The matrix that PRC shapes (paper §III-B, spec 4.1), here over all pairs of the audit, in
// f64:  S = (E / n) sum over pairs of r1 r2^T,  r1, r2 the clean probabilities of the members.
// PRC pulls S_ii to 1 and S_ij to 0. With all probabilities 1 / E every S_ij is 1 / E.
class ConsistencyMatrix {
 public:
  explicit ConsistencyMatrix(int64_t experts)
      : experts_(experts), sum_(static_cast<size_t>(experts * experts)) {}

  // probabilities (tokens of the batch, E)
  void add(std::span<const AuditPair> pairs, const float* probabilities) {
    for (const AuditPair& pair : pairs) add_pair(pair.left, pair.right, probabilities);
  }
  // left, right (count): rows of probabilities
  void add(const int32_t* left, const int32_t* right, int64_t count, const float* probabilities) {
    for (int64_t n = 0; n < count; ++n) add_pair(left[n], right[n], probabilities);
  }

  // S, (E, E); zeros where there were no pairs
  std::vector<double> matrix() const {
    std::vector<double> s = sum_;
    for (double& x : s) x *= pairs_ > 0 ? scale() : 0;
    return s;
  }
  int64_t pairs() const { return pairs_; }
  // sum_i S_ii / E
  double diagonal_mean() const { return pairs_ > 0 ? scale() * sum(true) / size() : 0; }
  // sum_{i != j} S_ij / (E (E - 1)); 0 with one expert
  double off_diagonal_mean() const {
    return pairs_ > 0 && experts_ > 1 ? scale() * sum(false) / (size() * (size() - 1)) : 0;
  }

 private:
  void add_pair(int64_t left, int64_t right, const float* probabilities) {
    const float* r1 = probabilities + left * experts_;
    const float* r2 = probabilities + right * experts_;
    for (int64_t i = 0; i < experts_; ++i) {
      double* row = sum_.data() + i * experts_;
      for (int64_t j = 0; j < experts_; ++j) row[j] += double{r1[i]} * double{r2[j]};
    }
    ++pairs_;
  }
  double size() const { return static_cast<double>(experts_); }
  double scale() const { return size() / static_cast<double>(pairs_); }
  double sum(bool diagonal) const {
    double total = 0;
    for (int64_t i = 0; i < experts_ * experts_; ++i) {
      if ((i / experts_ == i % experts_) == diagonal) total += sum_[i];
    }
    return total;
  }

  int64_t experts_, pairs_ = 0;
  std::vector<double> sum_;
};

}  // namespace train
