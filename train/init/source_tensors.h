#pragma once

#include <map>
#include <string>
#include <vector>

#include "engine/core/tensor.h"

namespace train {

// A tensor of some file, in f32 and by itself.
struct SourceTensor {
  engine::Shape shape;
  std::vector<float> values;
};
using SourceTensors = std::map<std::string, SourceTensor>;

// All floating-point tensors of a .safetensors file (f32, f64, bf16), as f32; those of integers
// (batch counters, say) are left out. Error(kIo, kFormat) as SafetensorsFile; kFormat for f16 and
// f8, too.
SourceTensors read_source(const std::string& path);

}  // namespace train
