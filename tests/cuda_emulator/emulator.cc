#include "tests/cuda_emulator/emulator.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "tests/cuda_emulator/cuda_runtime.h"
#include "tests/cuda_emulator/fiber.h"

dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace cuda_emulator {

void die(const char* message) {
  std::fprintf(stderr, "CUDA emulator: %s\n", message);
  std::fflush(stderr);
  std::abort();
}

namespace {

// ---- Device memory: one reserved range, open only while work of the stream runs. Every
// allocation is followed by bytes that nobody may write.
constexpr size_t kRange = size_t{256} << 30, kUnit = 256, kGuard = 256;
constexpr size_t kLargePage = size_t{2} << 20;
constexpr unsigned char kGuardByte = 0xa5, kFresh = 0xff;  // fresh memory reads as NaN

class DeviceMemory {
 public:
  DeviceMemory() {
    char* range = static_cast<char*>(mmap(nullptr, kRange + kLargePage, PROT_NONE,
                                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    if (range == MAP_FAILED) die("no address space for device memory");
    // Large pages: opening and closing the range takes time for every page.
    const auto at = reinterpret_cast<uintptr_t>(range);
    base_ = reinterpret_cast<char*>((at + kLargePage - 1) / kLargePage * kLargePage);
    madvise(base_, kRange, MADV_HUGEPAGE);
  }
  void* allocate(size_t bytes) {
    const size_t size = (bytes + kUnit - 1) / kUnit * kUnit + kGuard;
    size_t at = used_;
    const auto hole =
        std::find_if(holes_.begin(), holes_.end(), [&](const auto& h) { return h.second >= size; });
    if (hole != holes_.end()) {
      at = hole->first;
      const size_t rest = hole->second - size;
      holes_.erase(hole);
      if (rest > 0) holes_[at + size] = rest;
    } else {
      if (size > kRange - used_) return nullptr;
      used_ += size;
    }
    blocks_[at] = {bytes, size};
    in_use_ += bytes;
    Open open(*this);
    // Large fresh pages are zeros of the system; filling them would only cost memory.
    if (bytes <= (size_t{64} << 20)) std::memset(base_ + at, kFresh, bytes);
    std::memset(base_ + at + bytes, kGuardByte, size - bytes);
    return base_ + at;
  }
  bool free(void* data) {
    const auto found = blocks_.find(static_cast<size_t>(static_cast<char*>(data) - base_));
    if (found == blocks_.end()) return false;
    {
      Open open(*this);
      check_guard(found->first, found->second);
    }
    in_use_ -= found->second.bytes;
    holes_[found->first] = found->second.size;
    blocks_.erase(found);
    return true;
  }
  bool holds(const void* data) const { return data >= base_ && data < base_ + kRange; }
  void check_guards() const {
    for (const auto& [at, block] : blocks_) check_guard(at, block);
  }
  size_t in_use() const { return in_use_; }

  struct Open {
    explicit Open(DeviceMemory& m) : memory(m) {
      if (memory.open_++ == 0) memory.protect(PROT_READ | PROT_WRITE);
    }
    ~Open() {
      if (--memory.open_ == 0) memory.protect(PROT_NONE);
    }
    DeviceMemory& memory;
  };

 private:
  struct Block {
    size_t bytes, size;
  };
  void check_guard(size_t at, const Block& block) const {
    const char* end = base_ + at + block.bytes;
    for (size_t i = 0; i < block.size - block.bytes; ++i) {
      if (static_cast<unsigned char>(end[i]) != kGuardByte) {
        die(("device memory was written " + std::to_string(i) + " bytes beyond an allocation of " +
             std::to_string(block.bytes))
                .c_str());
      }
    }
  }
  void protect(int how) {
    const size_t size = (used_ + kLargePage - 1) / kLargePage * kLargePage;
    if (size > 0 && mprotect(base_, size, how) != 0) die("mprotect failed");
  }
  char* base_;
  size_t used_ = 0, in_use_ = 0;
  int open_ = 0;
  std::map<size_t, Block> blocks_;
  std::map<size_t, size_t> holes_;  // not merged: programs free little
};

// Never destroyed: buffers of static storage are freed after main().
DeviceMemory& memory() {
  static DeviceMemory* const instance = new DeviceMemory;
  return *instance;
}

std::map<const char*, size_t>& pinned() {
  static auto* const instance = new std::map<const char*, size_t>;
  return *instance;
}

// ---- Threads of a block.
constexpr unsigned kWarpSize = 32;
enum class State : uint8_t { kReady, kAtBlock, kAtWarp, kDone };

struct Thread {
  Fiber fiber;
  State state = State::kReady;
  dim3 index;
  unsigned id = 0, round = 0;
};

struct Warp {
  alignas(16) unsigned char slots[2][kWarpSize][16];
};

struct Block {
  std::vector<std::unique_ptr<Thread>> threads;  // kept from block to block
  std::vector<Warp> warps;
  unsigned count = 0;
  Thread* running = nullptr;
  const std::function<void()>* body = nullptr;
  std::vector<unsigned char> shared;
};

Block& block() {
  static Block* const instance = new Block;
  return *instance;
}

void thread_main() {
  Block& b = block();
  for (;;) {
    (*b.body)();
    b.running->state = State::kDone;
    b.running->fiber.yield();
  }
}

void pause(State state) {
  Thread& t = *block().running;
  t.state = state;
  t.fiber.yield();
}

void resume(Thread& t) {
  Block& b = block();
  b.running = &t;
  threadIdx = t.index;
  t.fiber.resume();
}

// The order in which the lanes of a warp, or the warps of a block, take their turns.
std::vector<unsigned> order_of(unsigned n, unsigned salt) {
  static const char* const wish = std::getenv("CUDA_EMULATOR_ORDER");
  std::vector<unsigned> order(n);
  std::iota(order.begin(), order.end(), 0u);
  if (wish == nullptr || std::strcmp(wish, "forward") == 0) return order;
  if (std::strcmp(wish, "reverse") == 0) {
    std::reverse(order.begin(), order.end());
  } else if (std::strcmp(wish, "shuffle") == 0) {
    uint32_t state = salt * 2654435761u + 12345u;
    for (unsigned i = n; i > 1; --i) {
      state = state * 1664525u + 1013904223u;
      std::swap(order[i - 1], order[(state >> 8) % i]);
    }
  } else {
    die("CUDA_EMULATOR_ORDER must be forward, reverse or shuffle");
  }
  return order;
}

// Runs a warp until each of its threads is done or waits for the block.
void run_warp(unsigned first, unsigned end, const std::vector<unsigned>& lanes) {
  auto& threads = block().threads;
  for (;;) {
    unsigned waiting = 0, elsewhere = 0;
    for (const unsigned l : lanes) {
      if (first + l >= end) continue;
      Thread& t = *threads[first + l];
      if (t.state == State::kReady) resume(t);
      waiting += t.state == State::kAtWarp;
      elsewhere += t.state != State::kAtWarp;
    }
    if (waiting == 0) return;
    if (elsewhere > 0) die("not all lanes of a warp came to a shuffle or __syncwarp()");
    for (unsigned i = first; i < end; ++i) threads[i]->state = State::kReady;
  }
}

void run_block(unsigned salt) {
  Block& b = block();
  for (unsigned i = 0; i < b.count; ++i) b.threads[i]->state = State::kReady;
  const unsigned warps = (b.count + kWarpSize - 1) / kWarpSize;
  const std::vector<unsigned> lanes = order_of(kWarpSize, salt), turns = order_of(warps, salt + 1);
  for (;;) {
    for (const unsigned w : turns) {
      run_warp(w * kWarpSize, std::min(b.count, (w + 1) * kWarpSize), lanes);
    }
    unsigned waiting = 0;
    for (unsigned i = 0; i < b.count; ++i) waiting += b.threads[i]->state == State::kAtBlock;
    if (waiting == 0) return;
    for (unsigned i = 0; i < b.count; ++i) {
      Thread& t = *b.threads[i];
      if (t.state == State::kDone) die("a thread ended while others wait in __syncthreads()");
      t.state = State::kReady;
    }
  }
}

void prepare(Dim3 shape, size_t shared_bytes) {
  Block& b = block();
  b.count = shape.x * shape.y * shape.z;
  while (b.threads.size() < b.count) {
    b.threads.push_back(std::make_unique<Thread>());
    b.threads.back()->fiber.start(thread_main);
  }
  b.warps.resize((b.count + kWarpSize - 1) / kWarpSize);
  for (unsigned i = 0; i < b.count; ++i) {
    Thread& t = *b.threads[i];
    t.id = i;
    t.index = {i % shape.x, i / shape.x % shape.y, i / shape.x / shape.y};
  }
  b.shared.assign(shared_bytes + 64, 0xcd);
}

}  // namespace

void with_device_memory(const std::function<void()>& body) {
  const DeviceMemory::Open open(memory());
  body();
  memory().check_guards();
}

void run_grid(Dim3 grid, Dim3 shape, size_t shared_bytes, const std::function<void()>& body) {
  prepare(shape, shared_bytes);
  Block& b = block();
  b.body = &body;
  gridDim = grid;
  blockDim = shape;
  for (unsigned z = 0; z < grid.z; ++z) {
    for (unsigned y = 0; y < grid.y; ++y) {
      for (unsigned x = 0; x < grid.x; ++x) {
        blockIdx = {x, y, z};
        run_block(x + 7919 * y + 104729 * z);
      }
    }
  }
}

void sync_block() { pause(State::kAtBlock); }
void sync_warp() { pause(State::kAtWarp); }
unsigned lane() { return block().running->id % kWarpSize; }

void exchange(const void* mine, void* theirs, size_t bytes, unsigned from) {
  Block& b = block();
  Thread& me = *b.running;
  Warp& warp = b.warps[me.id / kWarpSize];
  // Two sets of slots, so that one meeting an exchange is enough: nobody is two ahead.
  auto& slots = warp.slots[me.round++ % 2];
  std::memcpy(slots[me.id % kWarpSize], mine, bytes);
  sync_warp();
  std::memcpy(theirs, slots[from % kWarpSize], bytes);
}

void* dynamic_shared() {
  const auto at = reinterpret_cast<uintptr_t>(block().shared.data());
  return reinterpret_cast<void*>((at + 15) / 16 * 16);
}

void* allocate(size_t bytes) { return memory().allocate(bytes); }
bool free_memory(void* data) { return memory().free(data); }
bool is_device(const void* data) { return memory().holds(data); }
size_t bytes_in_use() { return memory().in_use(); }

void* allocate_pinned(size_t bytes) {
  char* data = static_cast<char*>(std::aligned_alloc(256, (bytes + 255) / 256 * 256));
  if (data != nullptr) pinned()[data] = bytes;
  return data;
}
void free_pinned(void* data) {
  pinned().erase(static_cast<char*>(data));
  std::free(data);
}
bool is_pinned(const void* data) {
  const auto* at = static_cast<const char*>(data);
  auto after = pinned().upper_bound(at);
  if (after == pinned().begin()) return false;
  --after;
  return at < after->first + after->second;
}

}  // namespace cuda_emulator
