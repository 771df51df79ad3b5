#pragma once

#include <optional>
#include <string>

namespace train {

// "8/255" or "0.03" as a finite number of 0 or more; nothing if it is none.
std::optional<double> read_fraction(const std::string& text);

}  // namespace train
