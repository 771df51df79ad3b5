#include "train/recipe.h"

#include <algorithm>

#include "data/names.h"
#include "engine/core/error.h"

namespace train {

std::vector<std::string> recipe_names() {
  std::vector<std::string> names;
  for (const Recipe& recipe : embedded_recipes()) names.emplace_back(recipe.name);
  return names;
}

const Recipe& find_recipe(const std::string& name) {
  for (const Recipe& recipe : embedded_recipes())
    if (recipe.name == name) return recipe;
  const std::vector<std::string> names = recipe_names();
  engine::fail(engine::ErrorKind::kValue, "there is no recipe \"", name, "\"; the nearest is ",
               data::nearest_name(name, names), ", all are ", data::join(names),
               " (a file needs a name with '/' or ending in .toml)");
}

std::string recipe_summary(const Recipe& recipe) {
  const std::string_view line = recipe.text.substr(0, recipe.text.find('\n'));
  if (line.substr(0, 2) != "# ") return "";
  return std::string(line.substr(2));
}

std::string recipe_comment(const Recipe& recipe) {
  size_t end = 0;
  while (end < recipe.text.size() && recipe.text[end] == '#')
    end = std::min(recipe.text.find('\n', end), recipe.text.size() - 1) + 1;
  return std::string(recipe.text.substr(0, end));
}

}  // namespace train
