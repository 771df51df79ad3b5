#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace train {

// A config file that is compiled into the program: train/recipes/NAME.toml.
struct Recipe {
  std::string_view name;
  std::string_view text;
};

// All of them, by name in alphabetical order. Written by train/recipes/embed.cmake.
std::span<const Recipe> embedded_recipes();

std::vector<std::string> recipe_names();

// Throws Error(kValue) with the nearest name and the list for an unknown one.
const Recipe& find_recipe(const std::string& name);

// What it is, in one line: the comment that its file begins with.
std::string recipe_summary(const Recipe& recipe);

// All of the comment that its file begins with, as it stands there.
std::string recipe_comment(const Recipe& recipe);

}  // namespace train
