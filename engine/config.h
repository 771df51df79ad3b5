#pragma once

namespace engine {

// True when this build carries the CUDA backend (-DROBUSTMOE_CUDA=ON).
#ifdef ROBUSTMOE_CUDA
inline constexpr bool kCudaEnabled = true;
#else
inline constexpr bool kCudaEnabled = false;
#endif

// True in builds that check arena epochs on every access and poison freed memory
// (-DROBUSTMOE_CHECKS=ON, the dev preset).
#ifdef ROBUSTMOE_CHECKS
inline constexpr bool kArenaChecks = true;
#else
inline constexpr bool kArenaChecks = false;
#endif

}  // namespace engine
