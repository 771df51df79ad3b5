#include "train/attacks/victims.h"

#include <algorithm>

#include "train/evaluate.h"

namespace train {

Active::Active(Victims& victims) : victims_(victims), pixels_(victims.pixels()) {
  for (int64_t i = 0; i < victims.size(); ++i) {
    if (victims.broken[static_cast<size_t>(i)] != 0) continue;
    index.push_back(i);
    labels.push_back(victims.labels[static_cast<size_t>(i)]);
    const auto clean = victims.clean_of(i);
    x.insert(x.end(), clean.begin(), clean.end());
  }
  gradient.resize(x.size());
}

void Active::drop_broken(std::span<const float> logits) {
  if (empty()) return;
  const int64_t classes = static_cast<int64_t>(logits.size()) / size();
  int64_t kept = 0;
  for (int64_t k = 0; k < size(); ++k) {
    const auto at = static_cast<size_t>(k);
    const float* row = logits.data() + k * classes;
    if (predicted_class(row, classes) != labels[at]) {
      victims_.broken[static_cast<size_t>(index[at])] = 1;
      std::ranges::copy(image(k), victims_.adversarial_of(index[at]).begin());
      continue;
    }
    if (kept < k) {
      std::ranges::copy(image(k), image(kept).begin());
      std::copy_n(gradient.begin() + k * pixels_, pixels_, gradient.begin() + kept * pixels_);
      index[static_cast<size_t>(kept)] = index[at];
      labels[static_cast<size_t>(kept)] = labels[at];
    }
    ++kept;
  }
  index.resize(static_cast<size_t>(kept));
  labels.resize(static_cast<size_t>(kept));
  x.resize(static_cast<size_t>(kept * pixels_));
  gradient.resize(x.size());
}

void Active::keep_images() {
  for (int64_t k = 0; k < size(); ++k) {
    std::ranges::copy(image(k), victims_.adversarial_of(index[static_cast<size_t>(k)]).begin());
  }
}

}  // namespace train
