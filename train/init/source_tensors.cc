#include "train/init/source_tensors.h"

#include <algorithm>

#include "engine/core/precision.h"
#include "train/safetensors.h"

namespace train {
namespace {

using engine::Dtype;
using engine::Tensor;

template <class T>
std::vector<T> raw_values(const SafetensorsFile& file, const SafetensorsFile::Entry& entry) {
  std::vector<T> raw(static_cast<size_t>(std::max<int64_t>(1, entry.shape.numel())));
  file.read(entry.name, Tensor(raw.data(), entry.shape, entry.dtype, engine::Device::kCpu));
  raw.resize(static_cast<size_t>(entry.shape.numel()));
  return raw;
}

std::vector<float> values_of(const SafetensorsFile& file, const SafetensorsFile::Entry& entry) {
  if (entry.dtype == Dtype::kF32) return raw_values<float>(file, entry);
  std::vector<float> values;
  if (entry.dtype == Dtype::kF64) {
    for (const double x : raw_values<double>(file, entry)) values.push_back(static_cast<float>(x));
  } else {
    for (const engine::bf16 x : raw_values<engine::bf16>(file, entry)) {
      values.push_back(engine::to_float(x));
    }
  }
  return values;
}

}  // namespace

SourceTensors read_source(const std::string& path) {
  const SafetensorsFile file(path);
  SourceTensors tensors;
  for (const auto& entry : file.entries()) {
    if (entry.dtype == Dtype::kI32 || entry.dtype == Dtype::kU8) continue;
    if (!entry.foreign.empty() && !entry.foreign.starts_with("F")) continue;
    tensors[entry.name] = {entry.shape, values_of(file, entry)};
  }
  return tensors;
}

}  // namespace train
