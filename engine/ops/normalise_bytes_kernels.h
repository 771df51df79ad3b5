#pragma once

#include "engine/core/backend.h"

// Raw kernels of normalise_bytes.
namespace engine::kernels {

struct ByteViews {
  const uint8_t *bytes, *mirrored;
  const float* table;
  const int32_t* erased;  // null: nothing is
  int64_t images, channels, height, width;
  int64_t planes() const { return images * channels; }
};

void normalise_bytes(Cpu, const ByteViews& in, float* y);
void normalise_bytes(Cuda, const ByteViews& in, float* y);

}  // namespace engine::kernels
