#pragma once

#include <utility>

// CUDA's atomicExch for the emulator: its threads take turns at meeting points only.
inline int atomicExch(int* at, int value) { return std::exchange(*at, value); }
