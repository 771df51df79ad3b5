#pragma once

#include <filesystem>
#include <functional>
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

// What a kind found on the disk: its classes and files, not yet looked at.
struct Listing {
  std::vector<std::string> classes;
  std::vector<ListedPicture> pictures;
};

// Where and how to look.
struct ListRequest {
  std::string kind, spec, root;  // names of pictures are relative to the root, the set's folder
  Split split = Split::kTrain;
  std::vector<std::filesystem::path> watched;  // folders and files that decide about the listing
};

// A data set of JPEG and PNG files of any size, as three channels, decoded when they are read.
// Info names a height and a width only where all pictures have the same; else they are 0.
//
// Every file that list() gives is read and its header looked at now, in parallel, unless
// `options.inspect` is off (then Info names no size). A file that is no picture, is empty or too
// large is Error(kFormat); so is, when it comes to it, one that cannot be decoded. With
// `options.skip_bad` every picture is decoded now and the bad ones are left out and listed in
// `options.skipped`. Error(kFormat) where that leaves a class, or all, without pictures.
//
// Of 10,000 pictures and more the result is kept (index_cache.h), and next time list() is not
// called where nothing has changed.
std::unique_ptr<Dataset> open_listed(const ListRequest& request, const OpenOptions& options,
                                     const std::function<Listing()>& list);

}  // namespace data
