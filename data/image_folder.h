#pragma once

#include <memory>
#include <string>

#include "data/dataset.h"

namespace data {

// Pictures in folders by class: PATH/train/CLASS/FILE and PATH/test/CLASS/FILE, or PATH/val in
// place of PATH/test. JPEG and PNG files of any size, as three channels, decoded when they are
// read. Classes are the folders of PATH/train, sorted by name. The first picture of each class by
// name comes first, then the second of each, ..., so that the first n are of all classes alike;
// what is in deeper folders counts as well, what is hidden does not. Files whose names end
// otherwise than .jpg, .jpeg and .png are no pictures to it, but those of other image formats are
// an error.
//
// Info names a height and a width only where all pictures have the same; else they are 0.
//
// Every file is read and its header looked at now, in parallel. A file that is no picture, is empty
// or too large is Error(kFormat); so is, when it comes to it, one that cannot be decoded. With
// `options.skip_bad` every picture is decoded now and the bad ones are left out and listed in
// `options.skipped`. Error(kIo) for a missing folder, Error(kFormat) for a class without pictures,
// for one of the test split that training lacks, and for a class name that is no plain UTF-8.
std::unique_ptr<Dataset> open_image_folder(const std::string& path, Split split,
                                           const OpenOptions& options);

}  // namespace data
