#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace engine {

// A GPU of this machine as the driver names it.
struct CudaDevice {
  std::string name;
  int64_t bytes = 0;         // memory
  int major = 0, minor = 0;  // compute capability
  bool has_code = false;     // this program carries code for it
  std::string trouble;       // why it cannot be used for another reason; empty: it can
};

// All of them, in the order of `cuda:N`; none where there is no device or driver. A kernel is
// started on each, so every one of them is opened. Defined in cuda_runtime.cu, as cuda_runtime.h's.
std::vector<CudaDevice> cuda_devices();

}  // namespace engine
