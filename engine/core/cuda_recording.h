#pragma once

namespace engine {

// While one lives, the backend's stream is being recorded (step_replay.h) and what cannot be part
// of a recording is Error(kInternal) before CUDA sees it. Defined in cuda_runtime.cu.
class CudaRecording {
 public:
  CudaRecording();
  ~CudaRecording();
  CudaRecording(const CudaRecording&) = delete;
  CudaRecording& operator=(const CudaRecording&) = delete;
};

}  // namespace engine
