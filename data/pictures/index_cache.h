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
  int64_t height = 0, width = 0;                    // of all pictures; 0 where they differ
  std::vector<std::string> skipped, skipped_paths;  // why each was left out; its file
};

// What a file or folder looked like; -1 where there was none.
struct Seen {
  std::string path;
  int64_t nanoseconds = 0, bytes = 0;
  bool operator==(const Seen&) const = default;
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

// How the watched folders and files look now: to be asked before they are listed, so that what
// comes while they are is noticed later. Empty where they cannot all be looked at.
std::vector<Seen> look_at(const IndexRequest& request);

// The index that was stored, unless there is none, or something has changed since `look_at`: a
// folder's entries (by its time of change), a watched file, a picture that was left out, or one of
// up to 1,024 others spread over the set (by time and size). A picture rewritten in place can thus
// go unnoticed until it is read. An index that is damaged or of another version is none.
std::optional<PictureIndex> load_index(const IndexRequest& request);

// Stores it, in one piece or not at all; false where it cannot be written, or `before` is empty
// though something is watched.
bool store_index(const IndexRequest& request, const PictureIndex& index,
                 const std::vector<Seen>& before = {});

}  // namespace data
