#include "engine/core/step_replay.h"

#include <cuda_runtime.h>

#include "engine/core/backend.h"
#include "engine/core/cuda_check.h"
#include "engine/core/cuda_recording.h"

namespace engine {
namespace {

class Graph final : public StepReplay {
 public:
  explicit Graph(cudaGraph_t graph) {
    const cudaError_t status = cudaGraphInstantiate(&ready_, graph, 0);
    (void)cudaGraphDestroy(graph);
    check_cuda(status);
  }
  ~Graph() override { (void)cudaGraphExecDestroy(ready_); }
  void run() override { check_cuda(cudaGraphLaunch(ready_, cuda_backend().stream)); }

 private:
  cudaGraphExec_t ready_ = nullptr;
};

}  // namespace

std::unique_ptr<StepReplay> record_step(const std::function<void()>& body) {
  const cudaStream_t stream = cuda_backend().stream;
  check_cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  cudaGraph_t graph = nullptr;
  try {
    const CudaRecording recording;
    body();
  } catch (...) {
    if (cudaStreamEndCapture(stream, &graph) == cudaSuccess) (void)cudaGraphDestroy(graph);
    (void)cudaGetLastError();  // the error that is passed on says more
    throw;
  }
  check_cuda(cudaStreamEndCapture(stream, &graph));
  return std::make_unique<Graph>(graph);
}

}  // namespace engine
