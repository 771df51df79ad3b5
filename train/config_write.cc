#include <algorithm>

#include "train/config.h"
#include "train/config_fields.h"
#include "train/ledger.h"

namespace train {
namespace {

constexpr size_t kColumns = 100;

// A comment in as many lines as it needs.
std::string comment(const std::string& text) {
  std::string lines, line = "#";
  for (size_t begin = 0; begin < text.size();) {
    const size_t space = std::min(text.find(' ', begin), text.size());
    const std::string word = text.substr(begin, space - begin);
    if (line.size() + 1 + word.size() > kColumns) {
      lines += line + "\n";
      line = "#";
    }
    line += " " + word;
    begin = space + 1;
  }
  return lines + line + "\n";
}

// Where a value comes from.
std::string source_text(const Config& config, const std::string& key) {
  const auto found = config.sources.find(key);
  if (found == config.sources.end() || found->second.origin == Origin::kDefault) return "default";
  if (!found->second.note.empty()) return found->second.note;
  switch (found->second.origin) {
    case Origin::kDefault:
      break;
    case Origin::kRecipe:
      return "recipe";
    case Origin::kFile:
      return "file";
    case Origin::kSet:
      return "--set";
  }
  return "default";
}

}  // namespace

std::string to_toml(const Config& config, bool with_docs) {
  Config copy = config;  // fields() hands out pointers to change values through
  std::string text, group;
  if (!config.recipe.empty()) text = "recipe = " + toml_string(config.recipe) + "\n";
  for (const Field& field : fields(copy)) {
    if (field.group() != group) {
      group = field.group();
      text += (text.empty() ? "[" : "\n[") + group + "]\n";
    }
    if (with_docs) {
      text += comment(field.doc + " (" + expectation(field) + ")");
      const std::string note = ledger_note(field);
      if (!note.empty()) text += comment(note);
    }
    text += field.name() + " = " + toml_value(field);
    if (with_docs) text += "  # " + source_text(config, field.key);
    text += "\n";
  }
  return text;
}

}  // namespace train
