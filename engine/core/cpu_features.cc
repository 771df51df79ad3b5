#include "engine/core/cpu_features.h"

#include <algorithm>
#include <cstdlib>

#include "engine/core/error.h"

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace engine {
namespace {

#if defined(__x86_64__) && defined(__linux__)

// Which registers the operating system saves: bit 0 of XCR0 is x87, 1 SSE, 2 AVX, ...
uint64_t saved_registers() {
  uint32_t low = 0, high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return uint64_t{high} << 32 | low;
}

// Linux gives a process the tile registers' memory only when it asks.
bool may_use_tiles() {
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

// Intel's manual, volume 1, chapters 13 to 15 and 18: the bits of leaf 7 and of XCR0.
Isa machine_isa() {
  uint32_t a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c >> 27 & 1) == 0) return Isa::kBase;  // OSXSAVE
  const uint64_t saved = saved_registers();
  constexpr uint64_t kZmm = 0xe6, kTiles = uint64_t{3} << 17;
  if ((saved & kZmm) != kZmm || __get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return Isa::kBase;
  constexpr uint32_t kF = 1u << 16, kDq = 1u << 17, kBw = 1u << 30, kVl = 1u << 31;
  constexpr uint32_t kAll = kF | kDq | kBw | kVl;
  if ((b & kAll) != kAll) return Isa::kBase;
  constexpr uint32_t kAmx = 1u << 22 | 1u << 24;  // bf16 and tiles
  if ((saved & kTiles) != kTiles || (d & kAmx) != kAmx) return Isa::kAvx512;
  if (__get_cpuid_count(7, 1, &a, &b, &c, &d) == 0 || (a >> 5 & 1) == 0) return Isa::kAvx512;
  return may_use_tiles() ? Isa::kAmx : Isa::kAvx512;
}

#else
Isa machine_isa() { return Isa::kBase; }
#endif

Isa allowed_isa() {
  const char* setting = std::getenv("ROBUSTMOE_ISA");
  if (setting == nullptr || *setting == 0) return Isa::kAmx;
  for (const Isa isa : {Isa::kBase, Isa::kAvx512, Isa::kAmx}) {
    if (name_of(isa) == setting) return isa;
  }
  fail(ErrorKind::kValue, "ROBUSTMOE_ISA is \"", setting, "\", expected base, avx512 or amx");
}

}  // namespace

std::string_view name_of(Isa isa) {
  switch (isa) {
    case Isa::kBase:
      return "base";
    case Isa::kAvx512:
      return "avx512";
    case Isa::kAmx:
      return "amx";
  }
  return "?";
}

Isa usable_isa() {
  static const Isa isa = [] {
    const Isa allowed = allowed_isa();
    return allowed == Isa::kBase ? Isa::kBase : std::min(allowed, machine_isa());
  }();
  return isa;
}

}  // namespace engine
