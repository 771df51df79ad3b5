#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "train/config.h"

namespace train {

// What a number may be. An open end does not itself belong to the range.
struct Range {
  double low, high;
  bool open_low = false, open_high = false;
  bool contains(double x) const {
    return (open_low ? x > low : x >= low) && (open_high ? x < high : x <= high);
  }
};

using FieldValue = std::variant<int64_t*, double*, bool*, std::string*, std::vector<double>*>;

// One key of a config: where its value lies, what it may be, what it means.
struct Field {
  std::string key;  // "moe.experts"
  FieldValue value;
  Range range;                       // of a number, or of each number of a list
  std::vector<std::string> choices;  // of a string; empty: any
  std::string doc;                   // one sentence
  bool resumable = false;            // may differ when a run is resumed

  std::string group() const { return key.substr(0, key.find('.')); }
  std::string name() const { return key.substr(key.find('.') + 1); }
};

// Every key there is, in the order in which it is written. The one listing: reading, writing,
// --set, documentation and the hash all go through it. The fields point into `config`.
std::vector<Field> fields(Config& config);

template <class Visitor>
void visit(Config& config, Visitor&& visitor) {
  for (const Field& field : fields(config)) visitor(field);
}

// The field of this key; Error(kValue) with `where` before it, and the nearest valid key, where
// there is none.
Field find_field(Config& config, const std::string& key, const std::string& where);

// "an integer from 1 to 4096", "one of dropless, capacity": what the field accepts.
std::string expectation(const Field& field);

// Puts a value into a field, or throws Error(kValue) "WHERE: KEY is GIVEN, expected …" when its
// kind does not fit or it lies outside the range. `given` is the text to show for it.
using GivenValue =
    std::variant<std::monostate, int64_t, double, bool, std::string, std::vector<double>>;
void assign(const Field& field, const GivenValue& value, const std::string& given,
            const std::string& where);

// The value as TOML writes it; a float reads back to the same bits.
std::string toml_value(const Field& field);
std::string toml_string(const std::string& text);  // in quotes

// The keys whose value is a name for the values of others.
inline constexpr const char* kNamedKeys[] = {"model.size", "augment.strength"};
// Where `key` is one of them: sets what its present value stands for, except what a --set has
// fixed when `keep_set`. "custom", and any other key, changes nothing.
void apply_named(Config& config, std::string_view key, Origin origin, bool keep_set);

}  // namespace train
