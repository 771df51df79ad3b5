#pragma once

#include <memory>
#include <string>
#include <vector>

#include "data/dataset.h"

namespace data {

// A set whose labels are the places of its classes in `classes`, a model's: itself where it has
// these classes in this order, or where `classes` is empty. Classes that are only numbered, on
// either side, stay as they are. Throws Error(kFormat) for a class that `classes` lacks, with the
// nearest.
std::unique_ptr<Dataset> with_classes(std::unique_ptr<Dataset> set,
                                      const std::vector<std::string>& classes);

}  // namespace data
