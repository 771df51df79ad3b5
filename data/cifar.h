#pragma once

#include <memory>
#include <string>

#include "data/dataset.h"

namespace data {

// CIFAR-10 and CIFAR-100, "binary version": 32 x 32 colour pictures, one record each, no header.
//
//   CIFAR-10   data_batch_1.bin … data_batch_5.bin, test_batch.bin
//              record: label, 1024 red, 1024 green, 1024 blue bytes, row by row
//   CIFAR-100  train.bin, test.bin
//              record: coarse label (20, checked, not used), fine label, then as above
//
// `path` is the folder of these files or the one that holds cifar-10-batches-bin /
// cifar-100-binary. Class names come from batches.meta.txt / fine_label_names.txt beside
// them, else they are numbers. A file may hold fewer whole records than the published one.
//
// Throws Error(kIo) for a missing folder or file, Error(kFormat) for wrong content,
// Error(kValue) for an empty path.
std::unique_ptr<Dataset> open_cifar10(const std::string& path, Split split);
std::unique_ptr<Dataset> open_cifar100(const std::string& path, Split split);

}  // namespace data
