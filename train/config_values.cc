#include <charconv>
#include <cmath>
#include <cstdio>
#include <type_traits>

#include "data/names.h"
#include "engine/core/error.h"
#include "train/config_fields.h"

namespace train {
namespace {

using engine::ErrorKind;

std::string shortest(double x) {
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, x).ptr;
  return {text, end};
}

// The shortest digits that read back to the same double, with what makes them a TOML float.
std::string toml_float(double x) {
  std::string text = shortest(x);
  const size_t e = text.find('e');
  if (e == std::string::npos) return text.find('.') == std::string::npos ? text + ".0" : text;
  if (e + 2 < text.size() && text[e + 2] == '0') text.erase(e + 2, 1);  // 1e-05 -> 1e-5
  return text;
}

std::string toml_list(const std::vector<double>& values) {
  std::string text = "[";
  for (size_t i = 0; i < values.size(); ++i) text += (i ? ", " : "") + toml_float(values[i]);
  return text + "]";
}

// A bound, without an exponent where it is a whole number.
std::string bound(double x) {
  return x == std::floor(x) ? std::to_string(static_cast<int64_t>(x)) : shortest(x);
}

bool bounded_above(const Range& range) { return !std::isinf(range.high); }

// "from 0 to 1", "above 0", "of at least 0 and below 1"; "" where everything is allowed.
std::string range_text(const Range& range) {
  const bool low = !std::isinf(range.low), high = bounded_above(range);
  if (low && high && !range.open_low && !range.open_high)
    return " from " + bound(range.low) + " to " + bound(range.high);
  std::string text;
  if (low) text = (range.open_low ? " above " : " of at least ") + bound(range.low);
  if (high)
    text += (low ? " and " : " ") + std::string(range.open_high ? "below " : "at most ") +
            bound(range.high);
  return text;
}

// Puts `given` where it fits; false where its kind or its value does not.
bool try_assign(const Field& field, const GivenValue& given) {
  return std::visit(
      [&](auto* target, const auto& value) {
        using To = std::remove_pointer_t<decltype(target)>;
        using From = std::decay_t<decltype(value)>;
        constexpr bool kIntegerForFloat =
            std::is_same_v<To, double> && std::is_same_v<From, int64_t>;
        if constexpr (std::is_same_v<To, From> || kIntegerForFloat) {
          if constexpr (std::is_same_v<To, int64_t> || std::is_same_v<To, double>) {
            if (!field.range.contains(static_cast<double>(value))) return false;
          } else if constexpr (std::is_same_v<To, std::string>) {
            bool found = field.choices.empty();
            for (const std::string& choice : field.choices) found |= choice == value;
            if (!found) return false;
          } else if constexpr (std::is_same_v<To, std::vector<double>>) {
            for (const double x : value)
              if (!field.range.contains(x)) return false;
          }
          *target = static_cast<To>(value);
          return true;
        }
        return false;
      },
      field.value, given);
}

// The key to propose for a wrong one: one of the same name in another group, else the nearest.
std::string nearest_key(const std::string& key, const std::vector<Field>& all) {
  const std::string name = key.substr(key.find('.') + 1);
  std::vector<std::string> same_name, keys;
  for (const Field& field : all) {
    keys.push_back(field.key);
    if (field.name() == name) same_name.push_back(field.key);
  }
  return data::nearest_name(key, same_name.empty() ? keys : same_name);
}

}  // namespace

Field find_field(Config& config, const std::string& key, const std::string& where) {
  const std::vector<Field> all = fields(config);
  for (const Field& field : all)
    if (field.key == key) return field;
  engine::fail(ErrorKind::kValue, where, ": there is no key ", key, "; the nearest valid one is ",
               nearest_key(key, all));
}

std::string expectation(const Field& field) {
  if (std::holds_alternative<bool*>(field.value)) return "true or false";
  if (std::holds_alternative<std::string*>(field.value))
    return field.choices.empty() ? "a string" : "one of " + data::join(field.choices);
  const std::string range = range_text(field.range);
  if (std::holds_alternative<int64_t*>(field.value)) return "an integer" + range;
  const std::string finite = bounded_above(field.range) ? "" : "finite ";
  if (std::holds_alternative<double*>(field.value)) return "a " + finite + "number" + range;
  return "a list of " + finite + "numbers" + range;
}

void assign(const Field& field, const GivenValue& value, const std::string& given,
            const std::string& where) {
  if (try_assign(field, value)) return;
  std::string nearest;
  const auto* text = std::get_if<std::string>(&value);
  if (text && !field.choices.empty())
    nearest = "; the nearest is " + data::nearest_name(*text, field.choices);
  engine::fail(ErrorKind::kValue, where, ": ", field.key, " is ", given, ", expected ",
               expectation(field), nearest);
}

std::string toml_string(const std::string& text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      quoted += '\\';
      quoted += c;
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      char escape[8];
      std::snprintf(escape, sizeof escape, "\\u%04X", static_cast<unsigned>(c));
      quoted += escape;
    } else {
      quoted += c;
    }
  }
  return quoted + '"';
}

std::string toml_value(const Field& field) {
  return std::visit(
      [](const auto* value) -> std::string {
        using T = std::decay_t<decltype(*value)>;
        if constexpr (std::is_same_v<T, int64_t>) {
          return std::to_string(*value);
        } else if constexpr (std::is_same_v<T, double>) {
          return toml_float(*value);
        } else if constexpr (std::is_same_v<T, bool>) {
          return *value ? "true" : "false";
        } else if constexpr (std::is_same_v<T, std::string>) {
          return toml_string(*value);
        } else {
          return toml_list(*value);
        }
      },
      field.value);
}

}  // namespace train
