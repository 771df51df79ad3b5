#pragma once

#include <cstdint>
#include <vector>

#include "engine/core/tensor.h"

namespace engine {

// Bump allocator for what lives during one step: activations, saved tensors and their
// gradients. Blocks are chained while the first step shows how much is needed and merged
// into one at reset(), so that a warm step makes no system call.
//
// Marks nest: mark() remembers the top, release() frees everything allocated since. A
// tape inside a step (an attack's iteration, a recomputed block) runs under its own mark.
// In checked builds every tensor knows the mark it was allocated under: reading it after
// that mark was released is an Error(kInternal), freed memory is poisoned for
// AddressSanitizer and 64 poisoned bytes stand between allocations.
class StepArena {
 public:
  explicit StepArena(Device device = Device::kCpu) : device_(device) { epochs_.push_back(1); }
  ~StepArena();
  StepArena(const StepArena&) = delete;
  StepArena& operator=(const StepArena&) = delete;

  struct Mark {
    size_t block = 0;
    int64_t used = 0;
    int32_t depth = 0;
  };

  // Uninitialised memory, 64-byte aligned; on the arena's device.
  Tensor empty(const Shape& shape, Dtype dtype);
  // Uninitialised bytes, 64-byte aligned.
  void* allocate(int64_t bytes);

  Mark mark();
  void release(const Mark& mark);  // marks are released innermost first (Error(kInternal))
  // Frees everything and merges chained blocks; marks must have been released.
  void reset();

  Device device() const { return device_; }
  int64_t bytes_in_use() const;
  int64_t bytes_peak() const { return peak_; }
  int64_t bytes_reserved() const;
  bool alive(const ArenaTag& tag) const {
    return tag.depth < static_cast<int32_t>(epochs_.size()) && epochs_[tag.depth] == tag.epoch;
  }

 private:
  struct Block {
    char* data;
    int64_t size, used;
  };
  Block new_block(int64_t bytes) const;
  void free_block(Block& block) const;

  Device device_;
  std::vector<Block> blocks_;
  size_t current_ = 0;
  int64_t peak_ = 0;
  std::vector<uint64_t> epochs_;  // one per open mark, the outermost for the step itself
  uint64_t next_epoch_ = 2;
};

// x where the arena's memory is: itself, or a copy in the arena. From a GPU it waits for what is
// being computed there; towards one it does not.
Tensor brought_to(StepArena& arena, const Tensor& x);

// Releases its mark when it goes out of scope.
class ArenaScope {
 public:
  explicit ArenaScope(StepArena& arena) : arena_(arena), mark_(arena.mark()) {}
  ~ArenaScope() { arena_.release(mark_); }
  ArenaScope(const ArenaScope&) = delete;
  ArenaScope& operator=(const ArenaScope&) = delete;

 private:
  StepArena& arena_;
  StepArena::Mark mark_;
};

}  // namespace engine
