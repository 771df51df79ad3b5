#include "train/device.h"

#include <charconv>
#include <sstream>

#include "engine/core/cuda_runtime.h"
#include "train/memory_plan.h"

namespace train {

using engine::check;
using engine::Device;
using engine::ErrorKind;

Device open_device(const std::string& text) {
  if (text == "cpu") return Device::kCpu;
  int number = 0;
  bool read = text == "cuda";
  if (text.starts_with("cuda:")) {
    const char* end = text.data() + text.size();
    const auto parsed = std::from_chars(text.data() + 5, end, number);
    read = parsed.ec == std::errc() && parsed.ptr == end && number >= 0;
  }
  check(read, ErrorKind::kValue, "device is \"", text, "\", expected cpu, cuda or cuda:N");
  if constexpr (engine::kCudaEnabled) {
    engine::cuda_select(number);
    (void)engine::cuda_device_facts();
    return Device::kCuda;
  }
  engine::fail(ErrorKind::kDevice,
               "this build has no CUDA backend: build it with `cmake --preset cuda`, or use "
               "--device cpu");
}

std::string device_text(Device device) {
  if (device == Device::kCpu) return "cpu";
  std::ostringstream text;
  if constexpr (engine::kCudaEnabled) {
    const engine::CudaDeviceFacts facts = engine::cuda_device_facts();
    text.precision(1);
    text << "cuda, " << facts.name << ", " << std::fixed
         << static_cast<double>(facts.bytes) / (1 << 30) << " GiB, compute capability "
         << facts.major << "." << facts.minor;
  }
  return text.str();
}

void check_runs_on(const Config& config, Device device) {
  check(device != Device::kCpu || config.train.precision != "tf32", ErrorKind::kDevice,
        "train.precision = tf32 is for GPUs: use f32 or bf16, or --device cuda");
}

int64_t available_on(Device device) {
  if constexpr (engine::kCudaEnabled) {
    if (device == Device::kCuda) return engine::cuda_device_facts().free_bytes;
  }
  return available_memory();
}

}  // namespace train
