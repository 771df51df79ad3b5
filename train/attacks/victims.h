#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "train/attacks/attacked_model.h"

namespace train {

// Images under attack. An attack works on those that are not broken yet: whose class the model
// still gets right.
struct Victims {
  std::vector<float> clean;        // (n, pixels), in [0, 1]
  std::vector<float> adversarial;  // (n, pixels), at first the clean ones
  std::vector<int32_t> labels;     // (n)
  std::vector<int64_t> samples;    // (n): place in the data set, which keys random numbers
  std::vector<uint8_t> broken;     // (n)

  int64_t size() const { return static_cast<int64_t>(labels.size()); }
  int64_t pixels() const { return size() > 0 ? static_cast<int64_t>(clean.size()) / size() : 0; }
  std::span<const float> clean_of(int64_t i) const {
    return std::span<const float>(clean).subspan(static_cast<size_t>(i * pixels()),
                                                 static_cast<size_t>(pixels()));
  }
  std::span<const float> adversarial_of(int64_t i) const {
    return std::span<const float>(adversarial)
        .subspan(static_cast<size_t>(i * pixels()), static_cast<size_t>(pixels()));
  }
  std::span<float> adversarial_of(int64_t i) {
    return std::span<float>(adversarial)
        .subspan(static_cast<size_t>(i * pixels()), static_cast<size_t>(pixels()));
  }
};

// Those of the victims that an attack still works on, packed; numbers of an image do not depend on
// who else is there.
class Active {
 public:
  // All victims that are not broken, as clean images.
  explicit Active(Victims& victims);

  bool empty() const { return index.empty(); }
  int64_t size() const { return static_cast<int64_t>(index.size()); }
  std::span<float> image(int64_t k) {
    return std::span<float>(x).subspan(static_cast<size_t>(k * pixels_),
                                       static_cast<size_t>(pixels_));
  }
  std::span<const float> gradient_of(int64_t k) const {
    return std::span<const float>(gradient).subspan(static_cast<size_t>(k * pixels_),
                                                    static_cast<size_t>(pixels_));
  }
  // Notes who is misclassified now: logits (size(), classes) of `x`. These are broken, their image
  // is kept, and they leave, with their gradients.
  void drop_broken(std::span<const float> logits);
  // Keeps the images of all that are left, though none is broken.
  void keep_images();

  std::vector<int64_t> index;   // (size()) of the victim
  std::vector<int32_t> labels;  // (size())
  std::vector<float> x, gradient;

 private:
  Victims& victims_;
  int64_t pixels_;
};

}  // namespace train
