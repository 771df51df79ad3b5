#include "train/fraction.h"

#include <cmath>
#include <exception>

namespace train {

std::optional<double> read_fraction(const std::string& text) {
  const auto number = [](const std::string& part) {
    size_t end = 0;
    double value = NAN;
    try {
      value = std::stod(part, &end);
    } catch (const std::exception&) {
      return static_cast<double>(NAN);
    }
    return end == part.size() && value >= 0 ? value : static_cast<double>(NAN);
  };
  const size_t slash = text.find('/');
  const double value = slash == std::string::npos
                           ? number(text)
                           : number(text.substr(0, slash)) / number(text.substr(slash + 1));
  return std::isfinite(value) ? std::optional<double>(value) : std::nullopt;
}

}  // namespace train
