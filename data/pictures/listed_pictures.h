#pragma once

#include <memory>
#include <string>
#include <vector>

#include "data/dataset.h"

namespace data {

// One file and its class.
struct ListedPicture {
  std::string path;
  int32_t label = 0;
};

// A data set of JPEG and PNG files of any size, as three channels, decoded when they are read.
// Info names a height and a width only where all pictures have the same; else they are 0.
//
// Every file is read and its header looked at now, in parallel. A file that is no picture, is empty
// or too large is Error(kFormat); so is, when it comes to it, one that cannot be decoded. With
// `options.skip_bad` every picture is decoded now and the bad ones are left out and listed in
// `options.skipped`. Error(kFormat) where that leaves a class, or all, without pictures.
std::unique_ptr<Dataset> open_listed(const std::string& kind, std::vector<std::string> classes,
                                     std::vector<ListedPicture> pictures,
                                     const OpenOptions& options);

}  // namespace data
