#include <algorithm>
#include <iomanip>
#include <iostream>
#include <sstream>

#include "data/names.h"
#include "tools/commands/checkpoint_input.h"
#include "tools/commands/command.h"
#include "tools/commands/options.h"
#include "tools/commands/paired_table.h"
#include "tools/commands/run_figures.h"
#include "train/file_io.h"

namespace tools {
namespace {

void add_row(std::ostream& out, const std::string& name, const std::vector<std::string>& cells) {
  out << "  " << std::left << std::setw(38) << name;
  for (const std::string& cell : cells) out << std::right << std::setw(18) << cell;
  out << "\n";
}

std::string table(const std::vector<RunFigures>& runs) {
  std::ostringstream out;
  const auto row = [&](const std::string& name, auto cell) {
    std::vector<std::string> cells;
    for (const RunFigures& run : runs) cells.push_back(cell(run));
    add_row(out, name, cells);
  };
  row("", [](const RunFigures& r) { return r.name.substr(r.name.find_last_of('/') + 1); });
  row(split_of(runs[0]) + " accuracy, %", [](const RunFigures& r) {
    return fixed(100 * r.of_eval("accuracy"), 2) + " +- " +
           fixed(100 * r.of_eval("accuracy_se"), 2);
  });
  for (size_t l = 0; l < runs[0].layers().size(); ++l) {
    out << "  MoE layer in block " << runs[0].block(l) << "\n";
    for (const LayerFigure& figure : kLayerFigures) {
      row(std::string("  ") + figure.name, [&](const RunFigures& r) {
        return fixed(figure.factor * r.of_layer(l, figure.key), figure.digits);
      });
    }
    row("  emptiest expert, fair shares",
        [&](const RunFigures& r) { return fixed(r.emptiest(l), 3); });
  }
  return out.str();
}

// One line for every bar a run misses.
std::vector<std::string> missed_bars(const RunFigures& run, const Options& options) {
  std::vector<std::string> missed;
  if (options.has("min-accuracy")) {
    const double bar = options.number("min-accuracy");
    const double accuracy = run.of_eval("accuracy");
    if (!(accuracy >= bar)) {
      missed.push_back(run.name + ": accuracy " + fixed(100 * accuracy, 2) + " % is below " +
                       fixed(100 * bar, 2) + " %");
    }
  }
  for (size_t l = 0; l < run.layers().size(); ++l) {
    const std::string block = " in block " + std::to_string(run.block(l));
    if (options.has("no-dead-experts") && run.emptiest(l) <= 0) {
      missed.push_back(run.name + ": a dead expert" + block);
    }
    if (!options.has("min-effective-experts")) continue;
    const double bar = options.number("min-effective-experts");
    const double experts = run.of_layer(l, "effective_experts_all_tokens");
    if (!(experts >= bar)) {
      missed.push_back(run.name + ": " + fixed(experts, 2) + " effective experts" + block +
                       ", fewer than " + fixed(bar, 2));
    }
  }
  return missed;
}

// UsageError unless `key` is a number of the run's layers.
void check_figure(const RunFigures& run, const std::string& key) {
  std::vector<std::string> keys;
  for (const auto& [name, value] : run.layers()[0].items()) {
    if (value.is_number() && name != "layer") keys.push_back(name);
  }
  if (std::find(keys.begin(), keys.end(), key) != keys.end()) return;
  throw UsageError("compare: --first-highest is " + key + ", expected one of " + data::join(keys));
}

// One line for every layer and run whose figure the first run's is not above.
std::vector<std::string> not_below_first(const std::vector<RunFigures>& runs,
                                         const std::string& key) {
  check_figure(runs[0], key);
  std::vector<std::string> missed;
  for (size_t l = 0; l < runs[0].layers().size(); ++l) {
    const double first = runs[0].of_layer(l, key);
    for (size_t r = 1; r < runs.size(); ++r) {
      const double other = runs[r].of_layer(l, key);
      if (first > other) continue;
      missed.push_back(runs[0].name + ": " + key + " " + fixed(first, 4) + " in block " +
                       std::to_string(runs[0].block(l)) + " is not above " + fixed(other, 4) +
                       " of " + runs[r].name);
    }
  }
  return missed;
}

Options compare_options() {
  Options options("compare", "one table from several runs' eval.json and audit.json");
  options.add_positional("RUN", "run directories", 256);
  options.add_flag("paired",
                   "means over seeds, and by seed the differences to the first run's arm; runs "
                   "whose results are decided by the same settings but train.seed are an arm");
  options.add_value("json", "with --paired: write the table as JSON; - for standard output", "",
                    "FILE");
  options.add_value("min-accuracy", "fail unless every run reaches this share", "", "0..1");
  options.add_flag("no-dead-experts", "fail if an expert of any run serves no token");
  options.add_value("min-effective-experts", "fail unless every layer of every run has so many", "",
                    "N");
  options.add_value("first-highest",
                    "fail unless the first run has the highest figure in every layer; a key of "
                    "audit.json's layers such as mutual_information",
                    "", "KEY");
  return options;
}

void check_usage(const Options& options) {
  if (options.positional().empty()) throw UsageError("compare needs run directories");
  if (options.has("json") && !options.has("paired")) {
    throw UsageError("compare: --json goes with --paired");
  }
  for (const char* name : {"min-accuracy", "min-effective-experts"}) {
    if (options.has(name)) options.number(name);  // refuse before any work
  }
  if (!options.has("min-accuracy")) return;
  const double bar = options.number("min-accuracy");
  if (bar < 0 || bar > 1) {
    throw UsageError("compare: --min-accuracy is " + options.get("min-accuracy") +
                     ", expected 0 to 1");
  }
}

}  // namespace

int run_compare(int argc, char** argv) {
  Options options = compare_options();
  if (!options.parse(argc, argv)) return 0;
  check_usage(options);
  if (options.has("json") && options.get("json") != "-") {
    for (const std::string& run : options.positional()) {
      for (const char* file : {"/eval.json", "/audit.json", "/path.json", "/config.toml"}) {
        check_other_file(options.get("json"), run + file);
      }
    }
    check_writable(options.get("json"));
  }
  const std::vector<RunFigures> runs = read_all_figures(options.positional());
  const PairedTable shown =
      options.has("paired") ? paired_table(runs) : PairedTable{table(runs), ""};
  std::vector<std::string> missed;
  for (const RunFigures& run : runs) {
    for (const std::string& line : missed_bars(run, options)) missed.push_back(line);
  }
  if (options.has("first-highest")) {
    for (const std::string& line : not_below_first(runs, options.get("first-highest"))) {
      missed.push_back(line);
    }
  }
  write_result(options, shown.text, shown.json);
  for (const std::string& line : missed) std::cout << "missed: " << line << "\n";
  return missed.empty() ? 0 : 1;
}

}  // namespace tools
