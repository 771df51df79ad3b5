#include "train/config.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <numeric>
#include <string_view>
#include <utility>

#include "engine/core/error.h"
#include "train/config_fields.h"
#include "train/network.h"

namespace train {
namespace {

using engine::ErrorKind;

std::string_view trim(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

// The whole of `text` as a number.
template <class T>
bool read_number(std::string_view text, T& value) {
  const char* end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, value);
  return result.ec == std::errc() && result.ptr == end;
}

// 1, 2.5, …; anything else stays what it is not: a number.
GivenValue given_number(std::string_view text) {
  int64_t whole = 0;
  double real = 0;
  if (read_number(text, whole)) return whole;
  if (read_number(text, real)) return real;
  return std::monostate();
}

GivenValue given_list(std::string_view text) {
  if (text.size() >= 2 && text.front() == '[' && text.back() == ']')
    text = text.substr(1, text.size() - 2);
  std::vector<double> values;
  for (size_t begin = 0; !trim(text).empty() && begin <= text.size();) {
    const size_t comma = std::min(text.find(',', begin), text.size());
    double value = 0;
    if (!read_number(trim(text.substr(begin, comma - begin)), value)) return std::monostate();
    values.push_back(value);
    begin = comma + 1;
  }
  return values;
}

// What the text of a --set means for this field.
GivenValue given_text(const Field& field, std::string_view text) {
  if (std::holds_alternative<std::string*>(field.value)) return std::string(text);
  if (std::holds_alternative<std::vector<double>*>(field.value)) return given_list(text);
  if (std::holds_alternative<bool*>(field.value)) {
    if (text == "true") return true;
    if (text == "false") return false;
    return std::monostate();
  }
  return given_number(text);
}

}  // namespace

void set_value(Config& config, const std::string& assignment, const std::string& said) {
  const std::string where = said.empty() ? "--set " + assignment : said;
  const size_t equals = std::min(assignment.find('='), assignment.size());
  const std::string key(trim(std::string_view(assignment).substr(0, equals)));
  engine::check(!key.empty() && equals < assignment.size(), ErrorKind::kValue, where,
                ": expected group.key=value, such as moe.experts=4");
  const std::string_view text = trim(std::string_view(assignment).substr(equals + 1));
  const Field field = find_field(config, key, where);
  assign(field, given_text(field, text), text.empty() ? "empty" : std::string(text), where);
  config.sources[key] = {Origin::kSet, ""};
  apply_named(config, key, Origin::kSet, /*keep_set=*/true);
}

std::vector<int64_t> moe_layer_indices(const Config& config) {
  if (!is_vit(config)) {
    std::vector<int64_t> layers(build_resnet(config).moe_paths().size());
    std::iota(layers.begin(), layers.end(), 0);
    return layers;
  }
  const std::string_view text = trim(config.moe.layers);
  const int64_t layers = config.model.layers;
  const auto wrong = [&](const std::string& why) {
    engine::fail(ErrorKind::kValue, "moe.layers is \"", config.moe.layers, "\"", why,
                 "; write none, \"last N\", \"every N\", \"last-odd N\" or a list such as \"5,7\"");
  };
  std::vector<int64_t> blocks;
  if (text == "none") return blocks;

  const size_t space = std::min(text.find(' '), text.size());
  const std::string word(text.substr(0, space));
  if (word == "last" || word == "every" || word == "last-odd") {
    int64_t n = 0;
    if (!read_number(trim(text.substr(space)), n) || n < 1) wrong(": N is a whole number above 0");
    if (word == "every") {
      for (int64_t b = n - 1; b < layers; b += n) blocks.push_back(b);
      if (blocks.empty()) wrong(", but model.layers is only " + std::to_string(layers));
      return blocks;
    }
    for (int64_t b = word == "last" ? 1 : 0; b < layers; b += 2) blocks.push_back(b);
    const auto found = static_cast<int64_t>(blocks.size());
    if (n > found)
      wrong(", but model.layers = " + std::to_string(layers) + " has only " +
            std::to_string(found) + " such blocks");
    blocks.erase(blocks.begin(), blocks.begin() + (found - n));
    return blocks;
  }

  for (size_t begin = 0; begin <= text.size();) {
    const size_t comma = std::min(text.find(',', begin), text.size());
    int64_t block = 0;
    if (!read_number(trim(text.substr(begin, comma - begin)), block)) wrong("");
    if (block < 0 || block >= layers)
      wrong(", but blocks go from 0 to " + std::to_string(layers - 1) +
            " (model.layers = " + std::to_string(layers) + ")");
    if (!blocks.empty() && block <= blocks.back()) wrong(", which is not ascending");
    blocks.push_back(block);
    begin = comma + 1;
  }
  return blocks;
}

namespace {

// The keys that must not change when a run is resumed, in the order of fields().
std::vector<std::pair<std::string, std::string>> fixed_values(Config config) {
  // Where the data lie may change, what kind they are may not.
  config.data.source.resize(std::min(config.data.source.find(':'), config.data.source.size()));
  std::vector<std::pair<std::string, std::string>> values;
  visit(config, [&](const Field& field) {
    if (!field.resumable) values.emplace_back(field.key, toml_value(field));
  });
  return values;
}

}  // namespace

std::string config_hash(const Config& config) {
  uint64_t hash = 0xcbf29ce484222325ull;  // FNV-1a
  for (const auto& [key, value] : fixed_values(config)) {
    for (const char c : key + "=" + value + "\n")
      hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ull;
  }
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(hash));
  return text;
}

std::string changed_values(const Config& was, const Config& now) {
  const auto before = fixed_values(was), after = fixed_values(now);
  std::string text;
  for (size_t i = 0; i < before.size(); ++i) {
    if (before[i].second == after[i].second) continue;
    text += (text.empty() ? "" : "; ") + before[i].first + " was " + before[i].second + ", now " +
            after[i].second;
  }
  return text;
}

}  // namespace train
