#include "train/recipe.h"

#include <algorithm>
#include <iomanip>
#include <iostream>

#include "tools/commands/command.h"
#include "tools/commands/options.h"
#include "train/config.h"
#include "train/ledger.h"
#include "train/memory_plan.h"
#include "train/model.h"

namespace tools {
namespace {

void print_list(std::ostream& out) {
  size_t width = 0;
  for (const train::Recipe& recipe : train::embedded_recipes())
    width = std::max(width, recipe.name.size());
  for (const train::Recipe& recipe : train::embedded_recipes()) {
    out << std::left << std::setw(static_cast<int>(width)) << recipe.name << "  "
        << train::recipe_summary(recipe) << "\n";
  }
  out << "\nWhere the PRC paper, its published code and our defaults differ (train/LEDGER.md):\n\n"
      << train::ledger_table();
}

// What the sizes of the model come to. Channels and classes that the data set will decide are
// counted as 3 and 10, and said to be.
void print_sizes(train::Config config, std::ostream& out) {
  const bool open = config.model.channels == 0 || config.model.classes == 0;
  if (config.model.channels == 0) config.model.channels = 3;
  if (config.model.classes == 0) config.model.classes = 10;
  const int64_t parameters = train::count_parameters(config);
  const double flops =
      2 * static_cast<double>(train::build_network(config)->cost_per_image().done());
  if (open) {
    out << "# with " << config.model.channels << " channels and " << config.model.classes
        << " classes (the data set decides where a value is 0):\n";
  }
  out << "# parameters: " << parameters << "\n# forward pass of one image: " << std::fixed
      << std::setprecision(1) << flops * 1e-6 << " MFLOP (" << parameters * 4 / (1 << 20)
      << " MiB of f32 weights)\n# " << train::plan_memory(config, parameters).text() << "\n";
}

}  // namespace

// A config file: it can be saved, changed and given to --recipe.
void print_recipe(const train::Config& config, std::ostream& out) {
  for (const train::Recipe& recipe : train::embedded_recipes())
    if (recipe.name == config.recipe) out << train::recipe_comment(recipe) << "\n";
  print_sizes(config, out);
  out << "\n" << train::to_toml(config, /*with_docs=*/true);
}

int run_recipes(int argc, char** argv) {
  Options options("recipes", "List the recipes, or print one with every value and its source.");
  options.add_positional("[NAME|FILE.toml]", "the recipe to print", 1);
  options.add_value("set", "change a value first, may be repeated", "", "KEY=VALUE");
  if (!options.parse(argc, argv)) return 0;
  if (options.positional().empty()) {
    if (options.has("set")) throw UsageError("recipes: --set needs the name of a recipe");
    print_list(std::cout);
    return 0;
  }
  train::Config config = train::load_config(options.positional().front());
  for (const std::string& assignment : options.all("set")) train::set_value(config, assignment);
  train::validate(config);
  print_recipe(config, std::cout);
  return 0;
}

}  // namespace tools
