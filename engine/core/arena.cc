#include "engine/core/arena.h"

#include <sanitizer/asan_interface.h>  // its macros do nothing in other builds

#include <algorithm>

#include "engine/core/device_memory.h"

namespace engine {
namespace {

constexpr int64_t kAlign = 64;
constexpr int64_t kRedzone = kArenaChecks ? 64 : 0;
constexpr int64_t kFirstBlock = int64_t{1} << 20;

int64_t aligned(int64_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; }

void poison(Device device, char* data, int64_t bytes) {
  if (device == Device::kCpu) ASAN_POISON_MEMORY_REGION(data, static_cast<size_t>(bytes));
}
void unpoison(Device device, char* data, int64_t bytes) {
  if (device == Device::kCpu) ASAN_UNPOISON_MEMORY_REGION(data, static_cast<size_t>(bytes));
}

}  // namespace

StepArena::~StepArena() {
  for (Block& block : blocks_) free_block(block);
}

StepArena::Block StepArena::new_block(int64_t bytes) const {
  Block block{static_cast<char*>(device_allocate(device_, bytes)), bytes, 0};
  poison(device_, block.data, block.size);
  return block;
}

void StepArena::free_block(Block& block) const {
  unpoison(device_, block.data, block.size);
  device_free(device_, block.data);
}

void* StepArena::allocate(int64_t bytes) {
  const int64_t need = aligned(std::max<int64_t>(bytes, 1)) + kRedzone;
  while (current_ < blocks_.size() && blocks_[current_].used + need > blocks_[current_].size) {
    ++current_;
  }
  if (current_ == blocks_.size()) {
    blocks_.push_back(new_block(std::max({need, kFirstBlock, bytes_reserved() / 2})));
  }
  Block& block = blocks_[current_];
  char* data = block.data + block.used;
  block.used += need;
  unpoison(device_, data, bytes);
  peak_ = std::max(peak_, bytes_in_use());
  return data;
}

Tensor StepArena::empty(const Shape& shape, Dtype dtype) {
  Tensor out(allocate(shape.numel() * size_of(dtype)), shape, dtype, device_);
#ifdef ROBUSTMOE_CHECKS
  out.tag_ = {this, epochs_.back(), static_cast<int32_t>(epochs_.size()) - 1};
#endif
  return out;
}

StepArena::Mark StepArena::mark() {
  const Mark mark{current_, current_ < blocks_.size() ? blocks_[current_].used : 0,
                  static_cast<int32_t>(epochs_.size())};
  epochs_.push_back(next_epoch_++);
  return mark;
}

void StepArena::release(const Mark& mark) {
  check(mark.depth + 1 == static_cast<int32_t>(epochs_.size()), ErrorKind::kInternal,
        "arena marks must be released innermost first");
  epochs_.pop_back();
  for (size_t i = mark.block; i < blocks_.size(); ++i) {
    Block& block = blocks_[i];
    const int64_t keep = i == mark.block ? mark.used : 0;
    poison(device_, block.data + keep, block.size - keep);
    block.used = keep;
  }
  current_ = mark.block;
}

void StepArena::reset() {
  check(epochs_.size() == 1, ErrorKind::kInternal, "arena reset under an open mark");
  epochs_[0] = next_epoch_++;
  if (blocks_.size() > 1) {
    const int64_t total = bytes_reserved();
    for (Block& block : blocks_) free_block(block);
    blocks_.clear();
    blocks_.push_back(new_block(total));
  } else if (!blocks_.empty()) {
    poison(device_, blocks_[0].data, blocks_[0].size);
    blocks_[0].used = 0;
  }
  current_ = 0;
}

Tensor brought_to(StepArena& arena, const Tensor& x) {
  if (!x.defined() || x.device() == arena.device()) return x;
  const Tensor copy = arena.empty(x.shape(), x.dtype());
  if (arena.device() == Device::kCpu) {
    device_copy(Device::kCpu, copy.raw(), x.device(), x.raw(), x.bytes());
  } else {
    device_upload(copy.raw(), x.raw(), x.bytes());
  }
  return copy;
}

int64_t StepArena::bytes_in_use() const {
  int64_t sum = 0;
  for (size_t i = 0; i < blocks_.size() && i <= current_; ++i) sum += blocks_[i].used;
  return sum;
}

int64_t StepArena::bytes_reserved() const {
  int64_t sum = 0;
  for (const Block& block : blocks_) sum += block.size;
  return sum;
}

}  // namespace engine
