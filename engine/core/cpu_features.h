#pragma once

#include <cstdint>
#include <string_view>

namespace engine {

// Instruction sets beyond the one that the program was compiled for, each with all before it.
enum class Isa : uint8_t { kBase, kAvx512, kAmx };

// What kernels that choose at run time (matrix products) may use: what processor and operating
// system offer (asking Linux for leave to use AMX tiles), at most what the environment variable
// ROBUSTMOE_ISA says ("base", "avx512" or "amx"). Decided once. Error(kValue) if the variable says
// anything else.
Isa usable_isa();

std::string_view name_of(Isa isa);

}  // namespace engine
