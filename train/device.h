#pragma once

#include <string>

#include "engine/core/tensor.h"
#include "train/config.h"

namespace train {

// "cpu", "cuda" or "cuda:N" as a device that may be used: a GPU is looked for and selected for the
// whole process. Error(kValue) for another text; Error(kDevice) where this build or this machine
// has no such device.
engine::Device open_device(const std::string& text);

// The device as a log names it: "cpu", or "cuda, NVIDIA H200, 140.4 GiB, compute capability 9.0".
std::string device_text(engine::Device device);

// Error(kDevice) where the config asks for what the device does not have: tf32 is a GPU's.
void check_runs_on(const Config& config, engine::Device device);

// Memory that the process may use there; 0 where that cannot be read.
int64_t available_on(engine::Device device);

}  // namespace train
