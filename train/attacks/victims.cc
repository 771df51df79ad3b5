#include "train/attacks/victims.h"

#include <algorithm>
#include <utility>

#include "engine/core/device_memory.h"
#include "engine/core/upload.h"
#include "train/evaluate.h"

namespace train {

using engine::Device;
using engine::Dtype;
using engine::RowsCols;
using engine::Tensor;

Active::Active(Victims& victims, Device device, int arrays)
    : victims_(victims), pixels_(victims.pixels()), arena_(device) {
  for (int64_t i = 0; i < victims.size(); ++i) {
    if (victims.broken[static_cast<size_t>(i)] != 0) continue;
    index.push_back(i);
    labels.push_back(victims.labels[static_cast<size_t>(i)]);
    const auto clean = victims.clean_of(i);
    start_.insert(start_.end(), clean.begin(), clean.end());
  }
  if (empty()) return;
  const engine::Shape shape{size(), pixels_};
  clean_ = arena_.empty(shape, Dtype::kF32);
  engine::device_copy(device, clean_.raw(), Device::kCpu, start_.data(), clean_.bytes());
  spare_ = arena_.empty(shape, Dtype::kF32);
  for (int a = 0; a < arrays; ++a) arrays_.push_back(arena_.empty(shape, Dtype::kF32));
}

void Active::begin() {
  if (empty()) return;
  engine::device_copy(arena_.device(), arrays_[kX].raw(), Device::kCpu, start_.data(),
                      arrays_[kX].bytes());
}

// As many rows as `to` is told to get.
void Active::copy_rows(const Tensor& from, const Tensor& to, std::span<const int64_t> from_rows,
                       std::span<const int64_t> to_rows) {
  const engine::ArenaScope scope(arena_);
  const auto count = static_cast<int64_t>(from_rows.size());
  const int64_t* source = engine::upload(arena_, from_rows);
  const int64_t* target = to_rows.empty() ? nullptr : engine::upload(arena_, to_rows);
  engine::dispatch_device(arena_.device(), [&](auto backend) {
    kernels::copy_rows(backend, {count, pixels_}, from.data<const float>(), source,
                       to.data<float>(), target);
  });
}

void Active::copy(Array from, Array to, std::span<const int64_t> rows) {
  if (!rows.empty()) copy_rows(arrays_[from], arrays_[to], rows, rows);
}

void Active::copy_all(Array from, Array to) {
  if (empty()) return;
  engine::dispatch_device(arena_.device(), [&](auto backend) {
    kernels::copy_rows(backend, {size(), pixels_}, arrays_[from].data<const float>(), nullptr,
                       arrays_[to].data<float>(), nullptr);
  });
}

// The lengths where the kernels read them.
const double* Active::there(std::span<const double> lengths) {
  if (arena_.device() == Device::kCpu) return lengths.data();
  return static_cast<const double*>(
      engine::to_device(arena_, lengths.data(), static_cast<int64_t>(lengths.size_bytes())));
}

void Active::ascend(const Ball& ball, std::span<const double> lengths) {
  if (empty()) return;
  const engine::ArenaScope scope(arena_);
  const double* length = there(lengths);
  engine::dispatch_device(arena_.device(), [&](auto backend) {
    kernels::ascend(backend, ball, {size(), pixels_}, clean_.data<const float>(),
                    arrays_[kGradient].data<const float>(), length, arrays_[kX].data<float>());
  });
}

void Active::ascend_with_momentum(const Ball& ball, std::span<const double> lengths, double a) {
  if (empty()) return;
  const engine::ArenaScope scope(arena_);
  const double* length = there(lengths);
  const RowsCols all{size(), pixels_};
  const auto* clean = clean_.data<const float>();
  float *x = arrays_[kX].data<float>(), *z = spare_.data<float>();
  engine::dispatch_device(arena_.device(), [&](auto backend) {
    kernels::copy_rows(backend, all, x, nullptr, z, nullptr);
    kernels::ascend(backend, ball, all, clean, arrays_[kGradient].data<const float>(), length, z);
    kernels::keep_moving(backend, z, a, arrays_[kBefore].data<float>(), x, all.numel());
    kernels::project(backend, ball, all, clean, x);
  });
}

// Of all arrays; the others are forgotten.
void Active::keep_rows(std::span<const int64_t> rows) {
  const auto pack = [&](Tensor& array) {
    copy_rows(array, spare_, rows, {});
    std::swap(array, spare_);
  };
  pack(clean_);
  for (Tensor& array : arrays_) pack(array);
}

void Active::drop_broken(std::span<const float> logits) {
  if (empty()) return;
  const int64_t classes = static_cast<int64_t>(logits.size()) / size();
  std::vector<int64_t> kept, broken;
  for (int64_t k = 0; k < size(); ++k) {
    const bool wrong =
        predicted_class(logits.data() + k * classes, classes) != labels[static_cast<size_t>(k)];
    (wrong ? broken : kept).push_back(k);
  }
  if (broken.empty()) return;
  copy_rows(arrays_[kX], spare_, broken, {});
  host_arena_.reset();
  const auto* image =
      engine::brought_to(host_arena_, spare_.rows(0, static_cast<int64_t>(broken.size())))
          .data<const float>();
  for (const int64_t k : broken) {
    const int64_t i = index[static_cast<size_t>(k)];
    victims_.broken[static_cast<size_t>(i)] = 1;
    std::copy_n(image, pixels_, victims_.adversarial_of(i).begin());
    image += pixels_;
  }
  if (!kept.empty()) keep_rows(kept);
  for (size_t to = 0; to < kept.size(); ++to) {
    index[to] = index[static_cast<size_t>(kept[to])];
    labels[to] = labels[static_cast<size_t>(kept[to])];
  }
  index.resize(kept.size());
  labels.resize(kept.size());
}

void Active::keep_images() {
  if (empty()) return;
  host_arena_.reset();
  const auto* image = engine::brought_to(host_arena_, array(kX)).data<const float>();
  for (const int64_t i : index) {
    std::copy_n(image, pixels_, victims_.adversarial_of(i).begin());
    image += pixels_;
  }
}

}  // namespace train
