#pragma once

#include <cstdint>

namespace train {

// The two most probable experts of a token, ties to the lower expert as in routing. With one
// expert there is no second: -1, probability 0.
struct TopTwo {
  int32_t first = 0, second = -1;
  double p_first = 0, p_second = 0, p_rest = 0;  // p_rest: the sum of all others
};

// probabilities (E), finite.
inline TopTwo top_two(const float* probabilities, int64_t experts) {
  TopTwo top;
  for (int64_t e = 1; e < experts; ++e) {
    const auto candidate = static_cast<int32_t>(e);
    if (probabilities[e] > probabilities[top.first]) {
      top.second = top.first;
      top.first = candidate;
    } else if (top.second < 0 || probabilities[e] > probabilities[top.second]) {
      top.second = candidate;
    }
  }
  for (int64_t e = 0; e < experts; ++e) {
    if (e == top.first) {
      top.p_first = probabilities[e];
    } else if (e == top.second) {
      top.p_second = probabilities[e];
    } else {
      top.p_rest += probabilities[e];
    }
  }
  return top;
}

}  // namespace train
