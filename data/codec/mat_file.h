#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace data {

// The whole numbers of a variable of a MATLAB file of level 5 (what MATLAB's save -v6 and -v7 and
// SciPy write), compressed or not, in column order. Numbers may be stored in any format; of a
// matrix all are given. Little-endian files.
//
// Throws Error(kIo) where the file cannot be read, Error(kFormat), beginning with the path and
// naming the byte, for another format, a file that is cut short or damaged, a variable that is not
// there (with those that are), that is no real matrix of numbers, or holds numbers that are not
// whole, or one that would unpack to more than 64 MiB.
std::vector<int64_t> read_mat_integers(const std::string& path, const std::string& variable);

}  // namespace data
