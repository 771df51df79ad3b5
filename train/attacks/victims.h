#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/core/arena.h"
#include "train/attacks/attacked_model.h"
#include "train/attacks/ball.h"

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

// Those of the victims that an attack still works on, packed, with what it remembers of each:
// arrays of a row an image, on the model's device. Numbers of an image do not depend on who else is
// there.
class Active {
 public:
  // The image as it is now, the gradient there, and what is for an attack of more memory.
  enum Array : uint8_t { kX, kGradient, kBefore, kBest, kBestGradient };

  // All victims that are not broken, as clean images, with the first `arrays` of the arrays.
  Active(Victims& victims, engine::Device device, int arrays = 2);

  bool empty() const { return index.empty(); }
  int64_t size() const { return static_cast<int64_t>(index.size()); }

  // Before begin(), which puts it into kX: where image k starts, on the host; at first the clean
  // image. Afterwards images are on the device.
  std::span<float> start(int64_t k) {
    return std::span<float>(start_).subspan(static_cast<size_t>(k * pixels_),
                                            static_cast<size_t>(pixels_));
  }
  void begin();

  // (size(), pixels)
  engine::Tensor clean() const { return clean_.rows(0, size()); }
  engine::Tensor array(Array which) const { return arrays_[which].rows(0, size()); }
  // Rows of `from` become those of `to`: these, or all.
  void copy(Array from, Array to, std::span<const int64_t> rows);
  void copy_all(Array from, Array to);

  // Of all images at once, each with a length of its own: Ball::ascend() of kX by kGradient; the
  // same with momentum a, as apgd.h has it, where kX was before is then in kBefore.
  void ascend(const Ball& ball, std::span<const double> lengths);
  void ascend_with_momentum(const Ball& ball, std::span<const double> lengths, double a);

  // Notes who is misclassified now: logits (size(), classes) of kX. These are broken, their image
  // is kept, and they leave, with all their rows.
  void drop_broken(std::span<const float> logits);
  // Keeps the images of all that are left, though none is broken.
  void keep_images();

  std::vector<int64_t> index;   // (size()) of the victim
  std::vector<int32_t> labels;  // (size())

 private:
  void copy_rows(const engine::Tensor& from, const engine::Tensor& to,
                 std::span<const int64_t> from_rows, std::span<const int64_t> to_rows);
  void keep_rows(std::span<const int64_t> rows);
  const double* there(std::span<const double> lengths);

  Victims& victims_;
  int64_t pixels_;
  engine::StepArena arena_, host_arena_;
  engine::Tensor clean_, spare_;  // of as many rows as there were at first
  std::vector<engine::Tensor> arrays_;
  std::vector<float> start_;
};

}  // namespace train
