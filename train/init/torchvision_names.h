#pragma once

#include "train/init/source_tensors.h"

namespace train {

// Residual networks as the Python package torchvision lays out their tensors. The names are ours
// (conv1.weight, layer1.0.bn1.running_mean, fc.bias, ...), the layouts are not:
//
//   convolutions  (N, C, K, K)        ours (K, K, C, N)
//   fc.weight     (classes, width)    ours (width, classes)
//
// and each batch norm has an integer num_batches_tracked, which nothing here needs.

// Whether these are such tensors, in that layout: seen by layer2.0.conv1.
bool has_torchvision_layout(const SourceTensors& tensors);

// The same weights in our layout, and back; what is no matrix and no convolution stays as it is.
SourceTensors from_torchvision(const SourceTensors& tensors);
SourceTensors to_torchvision(const SourceTensors& ours);

}  // namespace train
