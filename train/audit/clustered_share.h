#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace train {

// A share counted over cases that come in clusters, here the patches of an image, which are
// not independent of each other. Image c brings n_c cases, x_c of them hits:
//
//   share r = sum x_c / sum n_c
//   standard error = sqrt(m / (m - 1) * sum (x_c - r n_c)^2) / sum n_c,  m images with cases
//
// the linearised error of a ratio (Cochran, Sampling Techniques, 6.4). The binomial error
// would be too small by up to the square root of the cases an image has. Integers only, so the
// order of images and the number of threads cannot show.
class ClusteredShare {
 public:
  // One image.
  void add(int64_t hits, int64_t cases) {
    if (cases == 0) return;
    ++clusters_;
    hits_ += hits;
    cases_ += cases;
    hits2_ += hits * hits;
    cases2_ += cases * cases;
    product_ += hits * cases;
  }

  int64_t hits() const { return hits_; }
  int64_t cases() const { return cases_; }
  double share() const {
    return cases_ > 0 ? static_cast<double>(hits_) / static_cast<double>(cases_) : 0;
  }
  // 0 for fewer than two images.
  double error() const {
    if (clusters_ < 2) return 0;
    const double r = share(), m = static_cast<double>(clusters_);
    const double squares = static_cast<double>(hits2_) - 2 * r * static_cast<double>(product_) +
                           r * r * static_cast<double>(cases2_);
    return std::sqrt(m / (m - 1) * std::max(0.0, squares)) / static_cast<double>(cases_);
  }

 private:
  int64_t clusters_ = 0, hits_ = 0, cases_ = 0;
  int64_t hits2_ = 0, cases2_ = 0, product_ = 0;
};

}  // namespace train
