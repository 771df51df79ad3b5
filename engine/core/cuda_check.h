#pragma once

#include <cuda_runtime_api.h>

#include "engine/core/error.h"

namespace engine {

// Error(kCuda) with the caller's position unless `status` is success. A launch reports through
// check_cuda(cudaGetLastError()) in the very next statement.
inline void check_cuda(cudaError_t status, const char* file = __builtin_FILE(),
                       int line = __builtin_LINE()) {
  if (status != cudaSuccess) [[unlikely]] {
    fail(Blame(ErrorKind::kCuda, file, line), cudaGetErrorName(status), ": ",
         cudaGetErrorString(status));
  }
}

}  // namespace engine
