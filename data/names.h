#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace data {

// "0", "1", … "n-1": what classes are called where their names are not known.
std::vector<std::string> number_names(int64_t n);

// "a, b, c".
std::string join(const std::vector<std::string>& names);

// The name with the fewest single-letter edits to `word` (the first of several such names).
// `names` must not be empty.
std::string nearest_name(const std::string& word, const std::vector<std::string>& names);

}  // namespace data
