#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/dataset.h"

// Reads every picture of a set once and says what is wrong with it.
namespace data {

// One picture. `hash` is over the file's bytes, or over size and pixels where the set has no file
// for each picture.
struct PictureFacts {
  std::string split, name;  // "train", "n01/a.JPEG"; the index where pictures have no names
  int32_t label = 0;
  int64_t bytes = 0, height = 0, width = 0;
  uint64_t hash = 0;
  bool one_channel = false;  // as stored; it is read as three
  bool misnamed = false;     // a PNG file called JPEG, or the other way round
  std::string problem;       // why it cannot be read, else empty
};

// Facts of every picture of a split, in its order; read and decoded by all threads.
std::vector<PictureFacts> read_facts(const Dataset& set, const std::string& split);

// Pictures of the same content, two or more, by name. `classes`: they have more than one, so at
// least one is mislabelled. `splits`: they are in more than one split.
struct SameContent {
  std::vector<size_t> pictures;
  bool classes = false, splits = false;
};
std::vector<SameContent> find_same(const std::vector<PictureFacts>& facts);

// A hash of the whole set: of the names, classes and content of all pictures, in any order. Where a
// picture cannot be read, of what can be.
uint64_t set_hash(const std::vector<PictureFacts>& facts,
                  const std::vector<std::string>& class_names);

// The facts as a text file, a line a picture: split, class, bytes, hash and name, parted by tabs;
// in names \\ stands for a backslash, \n and \t for the ends of lines and tabs.
std::string facts_text(const std::vector<PictureFacts>& facts,
                       const std::vector<std::string>& class_names);

// What differs from facts_text of an earlier day, a line each: changed content, another class,
// missing, new. Error(kFormat) beginning with `path` for a text that is none.
std::vector<std::string> compare_facts(const std::vector<PictureFacts>& facts,
                                       const std::vector<std::string>& class_names,
                                       const std::string& text, const std::string& path);

}  // namespace data
