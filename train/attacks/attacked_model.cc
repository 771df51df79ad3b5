#include "train/attacks/attacked_model.h"

#include <algorithm>

#include "engine/core/device_memory.h"
#include "engine/core/error.h"
#include "nn/loss/kl_divergence.h"
#include "train/evaluate.h"

namespace train {

using engine::check;
using engine::Device;
using engine::Dtype;
using engine::ErrorKind;
using engine::Tensor;

namespace {

// Images that fill the last routing group, as in evaluation: of zeros, for nobody.
int64_t with_whole_groups(const Network& network, int64_t count) {
  const int64_t group = network.dependent_images();
  return group > 0 ? (count + group - 1) / group * group : count;
}

// The host's numbers as a tensor; what is const is only read.
Tensor view(std::span<const float> values) {
  return {const_cast<float*>(values.data()),  // NOLINT(cppcoreguidelines-pro-type-const-cast)
          {static_cast<int64_t>(values.size())},
          Dtype::kF32,
          Device::kCpu};
}

void zero_rest(const Tensor& x, int64_t from) {
  if (from < x.numel()) {
    engine::device_zero(x.device(), x.data<float>() + from,
                        (x.numel() - from) * int64_t{sizeof(float)});
  }
}

}  // namespace

AttackedModel::AttackedModel(const Network& network, const Config& config)
    : network_(network),
      config_(config),
      pixels_(config.model.channels * config.model.image_size * config.model.image_size),
      classes_(config.model.classes),
      range_(config, network.device()),
      arena_(network.device()),
      tape_(arena_),
      seed_gradient_({1}, Dtype::kF32, network.device()),
      not_finite_({2}, Dtype::kF32, network.device()) {
  constexpr float kOne = 1;
  engine::device_copy(device(), seed_gradient_.tensor().raw(), Device::kCpu, &kOne, sizeof(kOne));
}

// Forgets the pass before; how many images this one is of.
int64_t AttackedModel::begin_pass(const Tensor& pixels) {
  const int64_t count = pixels.numel() / pixels_;
  check(count > 0 && pixels.numel() == count * pixels_, ErrorKind::kShape,
        "attack: ", pixels.numel(), " pixels for images of ", pixels_);
  tape_.clear();
  arena_.reset();
  host_arena_.reset();
  routings_.clear();
  return count;
}

// A copy normalised as the loader does; what is beyond `pixels` is zero.
Tensor AttackedModel::normalised(const Tensor& pixels) {
  const int64_t size = config_.model.image_size;
  const Tensor images = arena_.empty(
      {with_whole_groups(network_, pixels.numel() / pixels_), config_.model.channels, size, size},
      Dtype::kF32);
  range_.normalise(engine::brought_to(arena_, pixels), images);
  zero_rest(images, pixels.numel());
  return images;
}

nn::Forward AttackedModel::forward_pass() {
  return {.tape = tape_,
          .mode = pass_.mode,
          .param_grads = false,
          .precision = network_.precision(),
          .seed = pass_.seed,
          .step = pass_.step,
          .sample_ids = pass_.sample_ids};
}

engine::CrossEntropy AttackedModel::loss_kind() const { return classification_loss(config_); }

void AttackedModel::check_finite() {
  float counts[2];
  engine::device_copy(Device::kCpu, counts, device(), not_finite_.tensor().raw(), sizeof(counts));
  if (counts[0] == 0 && counts[1] == 0) return;
  engine::device_zero(device(), not_finite_.tensor().raw(), sizeof(counts));
  engine::fail(ErrorKind::kValue, "attack: the model's ", counts[1] > 0 ? "gradients" : "logits",
               " are not finite: its weights have diverged");
}

// A GPU counts, so that nobody waits; check_finite() asks.
void AttackedModel::note_finite(const Tensor& values, bool gradient) {
  const engine::RowsCols size{values.shape()[0], values.numel() / values.shape()[0]};
  engine::dispatch_device(device(), [&](auto backend) {
    kernels::add_not_finite(backend, size, values.data<const float>(),
                            not_finite_.data<float>() + (gradient ? 1 : 0));
  });
  if (device() == Device::kCpu) check_finite();
}

Tensor AttackedModel::first_logits(int64_t count) {
  logits_ = output_.logits.rows(0, count);
  note_finite(logits_, false);
  return logits_;
}

Tensor AttackedModel::logits(const Tensor& pixels) {
  const int64_t count = begin_pass(pixels);
  nn::Forward f = forward_pass();
  network_.forward(f, tape_.input(normalised(pixels)), output_);
  return first_logits(count);
}

template <class LossOf>
Tensor AttackedModel::differentiate(const Tensor& pixels, const Tensor& gradient,
                                    LossOf&& loss_of) {
  check(gradient.numel() == pixels.numel(), ErrorKind::kShape, "attack: gradients of ",
        gradient.numel(), " for ", pixels.numel(), " pixels");
  const int64_t count = begin_pass(pixels);
  const Tensor images = normalised(pixels), slopes = arena_.empty(images.shape(), Dtype::kF32);
  zero_rest(slopes, 0);
  nn::Forward f = forward_pass();
  network_.forward(f, tape_.leaf(images, slopes), output_);
  tape_.backward(loss_of(output_.logits), seed_gradient_.tensor());
  const bool here = gradient.device() == device();
  const Tensor of_pixels =
      (here ? gradient : arena_.empty(gradient.shape(), Dtype::kF32)).viewed({count, pixels_});
  range_.differentiate(slopes, of_pixels);
  note_finite(of_pixels, true);
  if (!here) {
    engine::device_copy(gradient.device(), gradient.raw(), device(), of_pixels.raw(),
                        gradient.bytes());
  }
  return first_logits(count);
}

// For all images of a pass: those that only fill a group have class 0, and nobody reads their
// gradient.
Tensor AttackedModel::classes_of(std::span<const int32_t> classes, int64_t images) {
  for (const int32_t c : classes) {
    check(c >= 0 && c < classes_, ErrorKind::kValue, "attack: class ", c, " of ", classes_);
  }
  const Tensor filled = host_arena_.empty({images}, Dtype::kI32);
  int32_t* end = std::ranges::copy(classes, filled.data<int32_t>()).out;
  std::fill(end, filled.data<int32_t>() + images, 0);
  return engine::brought_to(arena_, filled);
}

Tensor AttackedModel::logits_and_gradient(const Tensor& pixels, std::span<const int32_t> labels,
                                          const Tensor& gradient, AttackLoss loss,
                                          std::span<const int32_t> targets) {
  const auto count = static_cast<int64_t>(labels.size());
  check(gradient.numel() == pixels.numel() && count * pixels_ == pixels.numel(), ErrorKind::kShape,
        "attack: ", labels.size(), " labels and gradients of ", gradient.numel(), " for ",
        pixels.numel(), " pixels");
  const bool targeted = loss == AttackLoss::kTargetedDlr;
  check(!targeted || targets.size() == labels.size(), ErrorKind::kShape, "attack: ", targets.size(),
        " targets for ", labels.size(), " images");
  return differentiate(pixels, gradient, [&](const Tensor& logits) {
    const int64_t images = logits.shape()[0];
    const Tensor right = classes_of(labels, images);
    // A sum, so that an image's gradient knows nothing of how many there are.
    return loss == AttackLoss::kClassification
               ? engine::cross_entropy(logits, right, loss_kind(), 1)
               : dlr_loss(logits, right, targeted ? classes_of(targets, images) : Tensor{});
  });
}

Tensor AttackedModel::logits_and_divergence(const Tensor& pixels, const Tensor& reference,
                                            const Tensor& gradient) {
  const int64_t count = pixels.numel() / pixels_;
  check(reference.numel() == count * classes_, ErrorKind::kShape, "attack: ", reference.numel(),
        " reference logits for ", count, " images of ", classes_, " classes");
  return differentiate(pixels, gradient, [&](const Tensor& logits) {
    const Tensor given = engine::brought_to(arena_, reference);
    const Tensor from = arena_.empty(logits.shape(), Dtype::kF32);
    engine::dispatch_device(device(), [&](auto backend) {
      kernels::copy_rows(backend, {count, classes_}, given.data<const float>(), nullptr,
                         from.data<float>(), nullptr);
    });
    zero_rest(from, reference.numel());
    return nn::kl_divergence(from, logits, 1);
  });
}

std::span<const float> AttackedModel::fetch() {
  const Tensor on_host = engine::brought_to(host_arena_, logits_);
  if (device() != Device::kCpu) check_finite();
  return {on_host.data<const float>(), static_cast<size_t>(on_host.numel())};
}

std::span<const float> AttackedModel::logits(std::span<const float> pixels) {
  logits(view(pixels));
  return fetch();
}

std::span<const float> AttackedModel::logits_and_gradient(std::span<const float> pixels,
                                                          std::span<const int32_t> labels,
                                                          std::span<float> gradient,
                                                          AttackLoss loss,
                                                          std::span<const int32_t> targets) {
  logits_and_gradient(view(pixels), labels, view(gradient), loss, targets);
  return fetch();
}

std::span<const float> AttackedModel::logits_and_divergence(std::span<const float> pixels,
                                                            std::span<const float> reference,
                                                            std::span<float> gradient) {
  logits_and_divergence(view(pixels), view(reference), view(gradient));
  return fetch();
}

const std::vector<moe::Routing>& AttackedModel::routings() {
  if (device() == Device::kCpu) return output_.routings;
  if (routings_.empty()) {
    for (const moe::Routing& r : output_.routings) {
      routings_.push_back(moe::on_host(r, host_arena_));
    }
  }
  return routings_;
}

}  // namespace train
