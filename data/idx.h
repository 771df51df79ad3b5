#pragma once

#include <memory>
#include <string>

#include "data/dataset.h"

namespace data {

// The IDX format of MNIST and of the sets that took its place (Fashion-MNIST, KMNIST), plain
// or gzipped: grey pictures, labels 0 to 9.
//
//   images: 00 00 08 03, then n, height, width (big-endian u32), then n*height*width bytes
//   labels: 00 00 08 01, then n (big-endian u32), then n bytes
//
// `path` is the folder of train-images-idx3-ubyte, train-labels-idx1-ubyte and the t10k-
// files of the test split. Class names are Fashion-MNIST's if the labels are (by their
// CRC-32), else "0" to "9".
//
// Throws Error(kIo) for a missing folder or file, Error(kFormat) for wrong content,
// Error(kValue) for an empty path.
std::unique_ptr<Dataset> open_idx(const std::string& path, Split split);

}  // namespace data
