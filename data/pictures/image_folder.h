#pragma once

#include <memory>
#include <string>

#include "data/dataset.h"

namespace data {

// Pictures in folders by class: PATH/train/CLASS/FILE and PATH/test/CLASS/FILE, or PATH/val in
// place of PATH/test. Classes are the folders of PATH/train, sorted by name; what is in deeper
// folders counts as well, what is hidden does not. Pictures are in the order of `evenly`
// (folders.h), and are looked at as open_listed (listed_pictures.h) says.
//
// With `options.classes`, those of a model, the test split needs no training folder, and PATH may
// hold its class folders itself (ImageNet-A); folders called 0, 1, ... are classes by number
// (ImageNet-V2).
//
// Error(kIo) for a missing folder, Error(kFormat) for a class without pictures, for one of the test
// split that training lacks, and for a class name that is no plain UTF-8.
std::unique_ptr<Dataset> open_image_folder(const std::string& path, Split split,
                                           const OpenOptions& options);

}  // namespace data
