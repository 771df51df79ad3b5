#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "data/pictures/listed_pictures.h"

// What the kinds that are made of picture files have in common.
namespace data {

// The ending of a name in small letters: ".jpg".
std::string ending_of(const std::filesystem::path& path);

// Sorted names of the folders in a folder, hidden ones left out. Error(kIo) where it cannot be
// listed, Error(kFormat) for a name that is no plain UTF-8.
std::vector<std::string> folders_in(const std::filesystem::path& folder);

// Sorted paths of the .jpg, .jpeg and .png files in a folder and below, hidden ones left out;
// other files are none, but those of other image formats are Error(kFormat).
std::vector<std::string> pictures_in(const std::filesystem::path& folder);

// Error(kIo) unless `path` is a folder; `expected` says what it should hold.
std::filesystem::path existing_folder(const std::string& kind, const std::string& path,
                                      const std::string& expected);

// The class of a name: its place in `classes`, which is sorted or not. Throws Error(kFormat) for
// another, beginning with `where`, with the nearest.
int32_t class_of(const std::vector<std::string>& classes, const std::string& name,
                 const std::string& where);

// The pictures of folder/CLASS/, in `evenly` order. Where all folders are whole numbers and no
// class is called so, they count the classes from 0 (ImageNet-V2). Classes may be missing.
// Error(kFormat) for a folder that is no class, or that has no pictures.
std::vector<ListedPicture> pictures_by_class(const std::filesystem::path& folder,
                                             const std::vector<std::string>& classes);

// The pictures of `folder`, whose classes are in `labels`, a text file. Each line is a class, for
// the files in the order of their names, or a file name (its ending may be missing) and a class,
// parted by blanks, tabs or a comma, what follows is not read; a first line "ImageId,..." is a
// heading. A class is one of `classes`, or, where no line has one, its number from 0. In
// the order of the names.
// Error(kFormat) naming file and line: a class or a file that is not there, a file named twice, a
// picture without a line, lines of both kinds.
std::vector<ListedPicture> pictures_by_label_file(const std::filesystem::path& folder,
                                                  const std::filesystem::path& labels,
                                                  const std::vector<std::string>& classes);

// Pictures given class after class, spread so that every stretch has all classes in their
// proportions: by (place in its class + 1/2) / size of the class, then by class. So the first n and
// the last n of a set are of all classes, and equal classes are dealt out in turn.
std::vector<ListedPicture> evenly(std::vector<ListedPicture> by_class);

}  // namespace data
