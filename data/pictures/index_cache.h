#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "data/pictures/listed_pictures.h"

// Listing a set of a million files and looking at each takes minutes; the result is kept.
namespace data {

// What listing and looking found.
struct PictureIndex {
  std::vector<std::string> classes;
  std::vector<ListedPicture> pictures;
  int64_t height = 0, width = 0;  // of all pictures; 0 where they differ
  std::vector<std::string> skipped;
};

// What an index is of. `key` tells indexes apart: everything that was asked for, as text.
// `watched`: the folders, with all below, and files that it was made from.
struct IndexRequest {
  std::string key;
  std::vector<std::filesystem::path> watched;
};

// $ROBUSTMOE_CACHE, else $XDG_CACHE_HOME/robustmoe, else $HOME/.cache/robustmoe; empty where none
// of them is set.
std::filesystem::path cache_folder();

// The index that was stored, unless there is none, or something has changed since: a folder's
// entries (by its time of change), a watched file, or one of up to 1,024 pictures spread over the
// set (by time and size). A picture rewritten in place can thus go unnoticed until it is read. An
// index that is damaged or of another version is none.
std::optional<PictureIndex> load_index(const IndexRequest& request);

// Stores it, in one piece or not at all; false where it cannot be written.
bool store_index(const IndexRequest& request, const PictureIndex& index);

}  // namespace data
