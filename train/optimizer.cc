#include "train/optimizer.h"

#include <algorithm>
#include <cmath>

#include "engine/core/backend.h"
#include "engine/core/device_memory.h"

namespace train {

using engine::Slab;

namespace {
constexpr int64_t kPiece = int64_t{1} << 14;
}

Optimizer::Optimizer(const Config& config, engine::ParamStore& params)
    : options_(config.optimizer), ema_(config.train.ema), params_(params) {
  params.allocate(Slab::kGrad);
  params.allocate(Slab::kMoment1);
  if (options_.name == "adam") params.allocate(Slab::kMoment2);
  for (const engine::ParamStore::Entry& entry : params.entries()) {
    const bool decay = options_.decay == "all" || (options_.decay == "kernels" && entry.decay);
    for (int64_t i = 0; i < entry.shape.numel(); i += kPiece) {
      (entry.trainable ? pieces_ : statistics_)
          .push_back({entry.offset + i, std::min(kPiece, entry.shape.numel() - i), decay});
    }
  }
  partial_.resize(pieces_.size());
  if (params.device() != engine::Device::kCpu) {
    const auto count = static_cast<int64_t>(pieces_.size());
    device_pieces_ = engine::Buffer({count * static_cast<int64_t>(sizeof(Piece))},
                                    engine::Dtype::kU8, params.device());
    device_partial_ = engine::Buffer({count}, engine::Dtype::kF64, params.device());
    device_norm_ = engine::Buffer({1}, engine::Dtype::kF64, params.device());
    device_update_ = engine::Buffer({static_cast<int64_t>(sizeof(kernels::Update))},
                                    engine::Dtype::kU8, params.device());
    engine::device_copy(params.device(), device_pieces_.tensor().raw(), engine::Device::kCpu,
                        pieces_.data(), device_pieces_.tensor().bytes());
  }
  if (ema_ > 0) {
    params.allocate(Slab::kEma);
    reset_ema();
  }
}

void Optimizer::reset_ema() {
  if (ema_ <= 0) return;
  const engine::Tensor from = params_.slab(Slab::kValue), to = params_.slab(Slab::kEma);
  engine::device_copy(to.device(), to.raw(), from.device(), from.raw(), from.bytes());
}

const Optimizer::Piece* Optimizer::pieces_there() const {
  return static_cast<const Piece*>(device_pieces_.tensor().raw());
}

kernels::Update* Optimizer::update_there() const {
  return static_cast<kernels::Update*>(device_update_.tensor().raw());
}

template <class T>
kernels::Slabs<T> Optimizer::slabs() const {
  const auto at = [&](Slab slab) {
    return params_.has(slab) ? params_.slab(slab).template data<T>() : nullptr;
  };
  return {at(Slab::kValue), at(Slab::kGrad), at(Slab::kMoment1), at(Slab::kMoment2),
          ema_ > 0 ? at(Slab::kEma) : nullptr};
}

double Optimizer::gradient_norm() const {
  const engine::Tensor grads = params_.slab(Slab::kGrad);
  engine::dispatch(grads, [&]<class T>(auto backend) {
    if constexpr (std::is_same_v<decltype(backend), engine::Cpu>) {
      kernels::square_sums(backend, grads.data<const T>(), pieces_, partial_.data());
    } else {
      kernels::square_sums(backend, grads.data<const T>(), pieces_there(),
                           static_cast<int64_t>(pieces_.size()), device_partial_.data<double>());
      engine::device_copy(engine::Device::kCpu, partial_.data(), grads.device(),
                          device_partial_.tensor().raw(), device_partial_.tensor().bytes());
    }
  });
  double total = 0;
  for (const double sum : partial_) total += sum;
  return std::sqrt(total);
}

void Optimizer::step(int64_t update, double learning_rate, double norm) {
  const double factor = options_.clip > 0 && norm >= options_.clip ? options_.clip / norm : 1.0;
  const kernels::Update by = kernels::update_of(options_, ema_, update, learning_rate, factor);
  engine::dispatch(params_.slab(Slab::kValue), [&]<class T>(auto backend) {
    if constexpr (std::is_same_v<decltype(backend), engine::Cpu>) {
      kernels::update_weights(backend, slabs<T>(), pieces_, by);
    } else {
      engine::device_upload(update_there(), &by, sizeof(by));
      kernels::update_weights(backend, slabs<T>(), pieces_there(),
                              static_cast<int64_t>(pieces_.size()), update_there());
    }
  });
  copy_statistics();
}

void Optimizer::copy_statistics() const {
  if (ema_ <= 0) return;
  const engine::Device device = params_.device();
  engine::dispatch(params_.slab(Slab::kValue), [&]<class T>(auto) {
    const kernels::Slabs<T> at = slabs<T>();
    for (const Piece& p : statistics_) {
      engine::device_move(device, at.ema + p.begin, at.value + p.begin,
                          p.count * static_cast<int64_t>(sizeof(T)));
    }
  });
}

void Optimizer::announce(int64_t update, double learning_rate) {
  const kernels::Update by = kernels::update_of(options_, ema_, update, learning_rate, 1);
  engine::device_upload(update_there(), &by, sizeof(by));
}

void Optimizer::step_there(const engine::Tensor& loss) {
  engine::dispatch(params_.slab(Slab::kValue), [&]<class T>(auto backend) {
    if constexpr (std::is_same_v<decltype(backend), engine::Cuda>) {
      const auto count = static_cast<int64_t>(pieces_.size());
      const kernels::Slabs<T> at = slabs<T>();
      auto* const partial = device_partial_.data<double>();
      kernels::square_sums<T>(backend, at.grad, pieces_there(), count, partial);
      kernels::clip_update(backend, partial, count, options_.clip, loss.data<const T>(),
                           update_there(), device_norm_.data<double>());
      kernels::update_weights(backend, at, pieces_there(), count, update_there());
    } else {
      engine::fail(engine::ErrorKind::kInternal, "step_there() is for GPUs");
    }
  });
  copy_statistics();
}

double Optimizer::last_norm() const {
  double norm = 0;
  const engine::Tensor there = device_norm_.tensor();
  engine::device_copy(engine::Device::kCpu, &norm, there.device(), there.raw(), sizeof(norm));
  return norm;
}

}  // namespace train
