#pragma once

#include <memory>
#include <string>

#include "data/dataset.h"

namespace data {

// Images [begin, end) of `set`, in its order. Error(kValue) for a stretch that is empty or not
// inside.
std::unique_ptr<Dataset> part_of(std::unique_ptr<Dataset> set, int64_t begin, int64_t end);

// A part of a split, as tensorflow_datasets writes it:
//   train   test   train[:99%]   train[99%:]   train[10%:20%]   train[500:]   train[-500:]
// Bounds are images or percents; negative ones count from the end. P % of n images is P n / 100
// rounded to the nearest, halves to even.
struct SplitPart {
  struct Bound {
    int64_t value = 0;
    bool percent = false;
    int64_t of(int64_t images) const;
  };
  Split split = Split::kTrain;
  std::string text = "train";  // as it was written
  Bound begin, end = {100, true};
  bool whole() const { return begin.value == 0 && end.percent && end.value == 100; }
};

// Error(kValue) for a text that is none.
SplitPart parse_split(const std::string& text);

// As open_dataset, and the part of it.
std::unique_ptr<Dataset> open_dataset(const std::string& spec, const SplitPart& part,
                                      const OpenOptions& options = {});

}  // namespace data
