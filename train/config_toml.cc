// Reading config files. The only file that knows the TOML library.
#include <toml++/toml.h>

#include <algorithm>
#include <sstream>

#include "engine/core/error.h"
#include "train/config.h"
#include "train/config_fields.h"
#include "train/file_io.h"
#include "train/recipe.h"

namespace train {
namespace {

using engine::ErrorKind;

constexpr int64_t kLargestFile = 1 << 20;
constexpr size_t kLongestLine = 100000;

// One file being read.
class Reader {
 public:
  Reader(const std::string& text, std::string name, Origin origin)
      : name_(std::move(name)), origin_(origin) {
    std::istringstream stream(text);
    for (std::string line; std::getline(stream, line);) {
      lines_.push_back(line);
      // The library takes a long dotted key as deep nesting, and a deep one ends the program.
      engine::check(line.size() <= kLongestLine, ErrorKind::kFormat, name_, ":", lines_.size(),
                    ": a line of ", line.size(), " bytes, expected at most ", kLongestLine);
    }
    try {
      root_ = toml::parse(text, name_);
    } catch (const toml::parse_error& error) {
      engine::fail(ErrorKind::kFormat, at(error.source()), ": ", error.description());
    }
  }

  Config read() const {
    Config config;
    if (const toml::node* base = root_.get("base")) config = load_base(*base);
    if (const toml::node* recipe = root_.get("recipe")) {
      config.recipe = text_of(*recipe, "recipe");
      config.written_out = true;
    }
    read_named(config);
    for (const auto& entry : root_) {
      if (entry.first == "base" || entry.first == "recipe") continue;
      read_group(config, entry.first, entry.second);
    }
    return config;
  }

 private:
  std::string at(const toml::source_region& source) const {
    return name_ + ":" + std::to_string(source.begin.line);
  }

  std::string text_of(const toml::node& node, const std::string& key) const {
    engine::check(node.is_string(), ErrorKind::kValue, at(node.source()), ": ", key,
                  " must be the name of a recipe in quotes");
    return *node.value<std::string>();
  }

  Config load_base(const toml::node& node) const {
    const std::string base = text_of(node, "base");
    engine::check(base.find('/') == std::string::npos && !base.ends_with(".toml"),
                  ErrorKind::kValue, at(node.source()), ": base is ", toml_string(base),
                  ", expected the name of a recipe (robustmoe recipes lists them): copy the keys "
                  "of another file into this one");
    try {
      return parse_config(std::string(find_recipe(base).text), base + ".toml", Origin::kRecipe);
    } catch (const engine::Error& error) {
      engine::fail(error.kind(), at(node.source()), ": base: ", error.message());
    }
  }

  // Names come first, so that what the same file says about width and so on wins.
  void read_named(Config& config) const {
    for (const char* key : kNamedKeys) {
      const toml::node* name = root_.at_path(key).node();
      if (name == nullptr) continue;
      assign_node(config, key, *name, at(name->source()));
      apply_named(config, key, origin_, /*keep_set=*/false);
    }
  }

  void read_group(Config& config, const toml::key& group, const toml::node& node) const {
    const std::string prefix(group.str());
    bool known = false;
    visit(config, [&](const Field& field) { known |= field.group() == prefix; });
    const toml::table* table = node.as_table();
    if (table == nullptr) {  // moe = 3, or a key before the first [group]
      engine::check(!known, ErrorKind::kValue, at(group.source()), ": ", prefix,
                    " is a group of keys: write [", prefix, "] and its keys below");
      find_field(config, prefix, at(group.source()));
    }
    if (!known && table->empty()) find_field(config, prefix, at(group.source()));
    for (const auto& entry : *table) {
      const toml::key& key = entry.first;
      assign_node(config, prefix + "." + std::string(key.str()), entry.second, at(key.source()));
    }
  }

  void assign_node(Config& config, const std::string& key, const toml::node& node,
                   const std::string& where) const {
    const Field field = find_field(config, key, where);
    assign(field, value_of(field, node), shown(node), where);
    config.sources[key] = {origin_, comment_behind(node)};
  }

  // A value as one line of a message.
  static std::string shown(const toml::node& node) {
    if (const auto* value = node.as_string()) return toml_string(value->get());
    std::ostringstream text;
    node.visit([&](const auto& value) { text << value; });
    std::string line = text.str();
    std::replace(line.begin(), line.end(), '\n', ' ');
    return line;
  }

  static GivenValue value_of(const Field& field, const toml::node& node) {
    if (const auto* value = node.as_integer()) return value->get();
    if (const auto* value = node.as_floating_point()) return value->get();
    if (const auto* value = node.as_boolean()) return value->get();
    if (const auto* value = node.as_string()) return value->get();
    const toml::array* array = node.as_array();
    if (array == nullptr || !std::holds_alternative<std::vector<double>*>(field.value))
      return std::monostate();
    std::vector<double> values;
    for (const toml::node& item : *array) {
      const auto value = item.value<double>();  // nothing where an integer is no double
      if (!item.is_number() || !value) return std::monostate();
      values.push_back(*value);
    }
    return values;
  }

  // The comment on the line where the value ends, without its "# ".
  std::string comment_behind(const toml::node& node) const {
    const toml::source_position end = node.source().end;
    if (end.line < 1 || end.line > lines_.size()) return "";
    const std::string& line = lines_[end.line - 1];
    size_t behind = 0;  // in bytes; the library counts characters
    for (uint32_t column = 1; column < end.column && behind < line.size(); ++column) {
      ++behind;
      while (behind < line.size() && (line[behind] & 0xc0) == 0x80) ++behind;
    }
    const size_t begin = line.find_first_not_of(" \t", behind);
    if (begin == std::string::npos || line[begin] != '#') return "";
    const size_t text = line.find_first_not_of(" \t", begin + 1);
    if (text == std::string::npos) return "";
    return line.substr(text, line.find_last_not_of(" \t\r") + 1 - text);
  }

  std::string name_;
  Origin origin_;
  std::vector<std::string> lines_;
  toml::table root_;
};

}  // namespace

Config parse_config(const std::string& text, const std::string& origin_name, Origin origin) {
  return Reader(text, origin_name, origin).read();
}

Config load_config(const std::string& name_or_path) {
  const size_t slash = name_or_path.rfind('/');
  if (slash == std::string::npos && !name_or_path.ends_with(".toml")) {
    const std::string text(find_recipe(name_or_path).text);
    Config config = parse_config(text, name_or_path + ".toml", Origin::kRecipe);
    config.recipe = name_or_path;
    return config;
  }
  Config config = parse_config(read_file(name_or_path, kLargestFile), name_or_path, Origin::kFile);
  if (config.recipe.empty()) {  // named after the file, without folder and ending
    const std::string file = name_or_path.substr(slash == std::string::npos ? 0 : slash + 1);
    config.recipe = file.substr(0, file.rfind('.'));
  }
  return config;
}

}  // namespace train
