#include "engine/core/tape.h"

#include <cmath>

#include "engine/core/device_memory.h"

namespace engine {

Tensor Tape::leaf(const Tensor& x, const Tensor& grad) {
  check(grad.shape() == x.shape(), ErrorKind::kShape, "leaf: gradient ", grad.shape(),
        " for value ", x.shape());
  check(grad.dtype() == x.dtype(), ErrorKind::kDtype, "leaf: gradient of ", grad.dtype(),
        " for value of ", x.dtype());
  const Tensor y = attach(x, static_cast<int>(slots_.size()));
  slots_.push_back({.grad = grad, .written = true, .leaf = true});
  return y;
}

bool Tape::attach_outputs(std::span<const Tensor> inputs, std::span<Tensor> outputs) {
  bool wanted = false;
  for (const Tensor& x : inputs) {
    check(x.tape() == nullptr || x.tape() == this, ErrorKind::kValue,
          "an op's inputs are on two different tapes");
    if (x.slot() < 0) continue;
    wanted = true;
    ++slots_[x.slot()].readers;
  }
  for (Tensor& y : outputs) {
    y = attach(y, wanted ? static_cast<int>(slots_.size()) : -1);
    if (wanted) slots_.push_back({});
  }
  return wanted;
}

void Tape::backward(const Tensor& loss, const Tensor& seed) {
  check(loss.tape() == this && loss.slot() >= 0, ErrorKind::kValue,
        "backward: the loss does not depend on any leaf");
  check(seed.shape() == loss.shape(), ErrorKind::kShape, "backward: seed ", seed.shape(),
        " for loss ", loss.shape());
  check(!slots_[loss.slot()].leaf, ErrorKind::kValue, "backward: the loss is a leaf itself");
  check(!differentiated_, ErrorKind::kValue,
        "backward: it has run already: clear() the tape first");
  differentiated_ = true;
  slots_[loss.slot()].grad = seed;
  slots_[loss.slot()].written = true;
  constexpr size_t kMaxOutputs = 8;
  for (auto it = nodes_.rbegin(); it != nodes_.rend(); ++it) {
    const Node& node = **it;
    check(node.outputs.size() <= kMaxOutputs, ErrorKind::kInternal, "too many outputs");
    Tensor dys[kMaxOutputs];
    bool reached = false;
    for (size_t i = 0; i < node.outputs.size(); ++i) {
      const int slot = node.outputs[i].slot();
      if (!slots_[slot].written) continue;
      dys[i] = attach(slots_[slot].grad, slot);
      reached = true;
    }
    if (!reached) continue;
    const double start = times_ != nullptr ? now_s() : 0;
    node.run({dys, node.outputs.size()}, *this);
    if (times_ != nullptr) times_->add_backward(node.name, now_s() - start);
    for (const Tensor& y : node.outputs) {
      Slot& slot = slots_[y.slot()];
      if (slot.written && slot.owned) free_.push_back(slot.grad);
      slot.owned = false;
    }
  }
}

Tensor Tape::take_free(const Tensor& like) {
  for (size_t i = free_.size(); i-- > 0;) {
    if (free_[i].bytes() != like.bytes()) continue;
    Tensor found = free_[i];
    free_[i] = free_.back();
    free_.pop_back();
    found.shape_ = like.shape();
    found.dtype_ = like.dtype();
    return found;
  }
  return arena_.empty(like.shape(), like.dtype());
}

GradTarget Tape::target(const Tensor& x) {
  check(x.tape() == this && x.slot() >= 0, ErrorKind::kInternal,
        "gradient of an input that wants none");
  Slot& slot = slots_[x.slot()];
  if (slot.written) return {slot.grad, GradWrite::kAccumulate};
  slot.grad = take_free(x);
  slot.written = slot.owned = true;
  return {slot.grad, GradWrite::kOverwrite};
}

Tensor Tape::target_zeroed(const Tensor& x) {
  const GradTarget target = this->target(x);
  if (target.write == GradWrite::kOverwrite) {
    device_zero(target.grad.device(), target.grad.raw(), target.grad.bytes());
  }
  return target.grad;
}

bool Tape::pass_grad(const Tensor& x, const Tensor& dy) {
  check(x.tape() == this && x.slot() >= 0, ErrorKind::kInternal,
        "gradient of an input that wants none");
  if (dy.slot() < 0) return false;
  Slot& to = slots_[x.slot()];
  Slot& from = slots_[dy.slot()];
  if (to.written || !from.owned) return false;
  Tensor grad = from.grad;
  grad.shape_ = x.shape();
  to.grad = grad;
  to.written = to.owned = true;
  from.owned = false;
  return true;
}

void Tape::offer_slope(const Tensor& y, const Slope& slope) {
  if (y.slot() >= 0) slots_[y.slot()].slope = slope;
}

Tape::Slope Tape::take_slope(const Tensor& y) {
  Slot& slot = slots_[y.slot()];
  if (!slot.slope.of.defined() || slot.readers != 1 || slot.written) return {};
  slot.multiplied = true;
  return slot.slope;
}

namespace {

template <class T>
bool all_finite(const Tensor& on_device) {
  StepArena host;
  const Tensor x = brought_to(host, on_device);
  const T* values = x.data<T>();
  for (int64_t i = 0; i < x.numel(); ++i) {
    if constexpr (std::is_same_v<T, bf16>) {
      if (!std::isfinite(to_float(values[i]))) return false;
    } else {
      if (!std::isfinite(values[i])) return false;
    }
  }
  return true;
}

}  // namespace

std::string Tape::first_non_finite() const {
  for (const Node* node : nodes_) {
    for (const Tensor& y : node->outputs) {
      const bool ok = y.dtype() == Dtype::kF32    ? all_finite<float>(y)
                      : y.dtype() == Dtype::kF64  ? all_finite<double>(y)
                      : y.dtype() == Dtype::kBF16 ? all_finite<bf16>(y)
                                                  : true;
      if (ok) continue;
      const std::string where(node->scope);
      return where.empty() ? std::string(node->name) : where + "/" + std::string(node->name);
    }
  }
  return {};
}

void Tape::profile(OpTimes* times) {
  times_ = times;
  last_s_ = now_s();
}

double Tape::now_s() const {
  if (times_ != nullptr) device_synchronize(arena_.device());
  return OpTimes::now_s();
}

void Tape::time_forward(std::string_view op) {
  const double now = now_s();
  times_->add_forward(op, now - last_s_);
  last_s_ = now;
}

void Tape::clear() {
  scope_ = {};
  differentiated_ = false;
  last_s_ = now_s();
  nodes_.clear();
  slots_.clear();
  free_.clear();
  node_memory_.reset();
}

}  // namespace engine
