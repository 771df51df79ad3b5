#pragma once

#include <functional>
#include <memory>

// A GPU's work of a whole training step as one CUDA graph: what many launches cost the host and the
// device between kernels is paid once. Defined in step_replay.cu; a CPU-only build declares this
// and never calls it.
namespace engine {

struct StepReplay {
  StepReplay() = default;
  StepReplay(const StepReplay&) = delete;
  StepReplay& operator=(const StepReplay&) = delete;
  virtual ~StepReplay() = default;
  // Starts the recorded work on the backend's stream, after what is there already; returns at once.
  virtual void run() = 0;
};

// Records what body() puts on the backend's stream, without running it. body() must not wait for
// the device, take or free its memory, nor copy anything from the host to it: those are
// Error(kInternal). What differs from step to step is read by its kernels from memory that is
// written before each run(). Whatever body() throws is passed on, and nothing is recorded.
std::unique_ptr<StepReplay> record_step(const std::function<void()>& body);

}  // namespace engine
