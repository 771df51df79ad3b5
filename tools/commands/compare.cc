#include <algorithm>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "data/names.h"
#include "engine/core/error.h"
#include "tools/commands/command.h"
#include "tools/commands/options.h"

namespace tools {
namespace {

using engine::check;
using engine::ErrorKind;
using nlohmann::json;

// What eval and audit wrote about one run.
struct RunFigures {
  std::string name;
  json eval, audit;
};

json read_json(const std::string& path) {
  std::ifstream file(path);
  check(file.good(), ErrorKind::kIo, path,
        ": cannot be read; write it with robustmoe eval or audit --json ", path);
  try {
    return json::parse(file);
  } catch (const json::exception& e) {
    engine::fail(ErrorKind::kFormat, path, ": not JSON: ", e.what());
  }
}

double number(const json& object, const std::string& key, const std::string& path) {
  const auto at = object.find(key);
  check(at != object.end() && at->is_number(), ErrorKind::kFormat, path, ": no number ", key);
  return at->get<double>();
}

const json& layers_of(const RunFigures& run) {
  const auto at = run.audit.find("layers");
  check(at != run.audit.end() && at->is_array() && !at->empty(), ErrorKind::kFormat, run.name,
        "/audit.json: no layers");
  return *at;
}

std::string fixed(double value, int digits) {
  std::ostringstream text;
  text << std::fixed << std::setprecision(digits) << value;
  return text.str();
}

void add_row(std::ostream& out, const std::string& name, const std::vector<std::string>& cells) {
  out << "  " << std::left << std::setw(38) << name;
  for (const std::string& cell : cells) out << std::right << std::setw(18) << cell;
  out << "\n";
}

// Smallest share of all routed choices that any expert of a layer serves, in fair shares.
double emptiest(const json& layer, const std::string& where) {
  const auto load = layer.find("load_all_tokens");
  check(load != layer.end() && load->is_array() && !load->empty(), ErrorKind::kFormat, where,
        ": a layer without load_all_tokens");
  double least = 1e300;
  for (const json& share : *load) least = std::min(least, share.get<double>());
  return least * static_cast<double>(load->size());
}

std::string table(const std::vector<RunFigures>& runs) {
  std::ostringstream out;
  const auto row = [&](const std::string& name, auto cell) {
    std::vector<std::string> cells;
    for (const RunFigures& run : runs) cells.push_back(cell(run));
    add_row(out, name, cells);
  };
  row("", [](const RunFigures& r) { return r.name.substr(r.name.find_last_of('/') + 1); });
  row("test accuracy, %", [](const RunFigures& r) {
    const std::string path = r.name + "/eval.json";
    return fixed(100 * number(r.eval, "accuracy", path), 2) + " +- " +
           fixed(100 * number(r.eval, "accuracy_se", path), 2);
  });
  const struct {
    const char *key, *name;
    double factor;
    int digits;
  } kFigures[] = {{"match_top1", "same first expert, %", 100, 2},
                  {"match_top1_chance", "  by chance, %", 100, 2},
                  {"mutual_information", "mutual information, nats", 1, 4},
                  {"effective_experts_all_tokens", "effective experts", 1, 2},
                  {"confidence_first", "mean probability of the first", 1, 4},
                  {"margin_mean", "margin, first - second", 1, 4}};
  for (size_t l = 0; l < layers_of(runs[0]).size(); ++l) {
    const std::string block = std::to_string(layers_of(runs[0])[l].value("layer", -1));
    out << "  MoE layer in block " << block << "\n";
    for (const auto& figure : kFigures) {
      row(std::string("  ") + figure.name, [&](const RunFigures& r) {
        check(l < layers_of(r).size(), ErrorKind::kValue, r.name, ": fewer MoE layers than ",
              runs[0].name);
        return fixed(figure.factor * number(layers_of(r)[l], figure.key, r.name + "/audit.json"),
                     figure.digits);
      });
    }
    row("  emptiest expert, fair shares", [&](const RunFigures& r) {
      return fixed(emptiest(layers_of(r)[l], r.name + "/audit.json"), 3);
    });
  }
  return out.str();
}

// One line for every bar a run misses.
std::vector<std::string> missed_bars(const RunFigures& run, const Options& options) {
  std::vector<std::string> missed;
  if (options.has("min-accuracy")) {
    const double bar = options.number("min-accuracy");
    const double accuracy = number(run.eval, "accuracy", run.name + "/eval.json");
    if (!(accuracy >= bar)) {
      missed.push_back(run.name + ": accuracy " + fixed(100 * accuracy, 2) + " % is below " +
                       fixed(100 * bar, 2) + " %");
    }
  }
  for (const json& layer : layers_of(run)) {
    const std::string block = " in block " + std::to_string(layer.value("layer", -1));
    if (options.has("no-dead-experts") && emptiest(layer, run.name) <= 0) {
      missed.push_back(run.name + ": a dead expert" + block);
    }
    if (!options.has("min-effective-experts")) continue;
    const double bar = options.number("min-effective-experts");
    const double experts = number(layer, "effective_experts_all_tokens", run.name + "/audit.json");
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
  for (const auto& [name, value] : layers_of(run)[0].items()) {
    if (value.is_number() && name != "layer") keys.push_back(name);
  }
  if (std::find(keys.begin(), keys.end(), key) != keys.end()) return;
  throw UsageError("compare: --first-highest is " + key + ", expected one of " + data::join(keys));
}

// One line for every layer and run whose figure the first run's is not above.
std::vector<std::string> not_below_first(const std::vector<RunFigures>& runs,
                                         const std::string& key) {
  std::vector<std::string> missed;
  for (size_t l = 0; l < layers_of(runs[0]).size(); ++l) {
    const auto figure = [&](const RunFigures& run) {
      return number(layers_of(run)[l], key, run.name + "/audit.json");
    };
    const double first = figure(runs[0]);
    for (size_t r = 1; r < runs.size(); ++r) {
      if (first > figure(runs[r])) continue;
      missed.push_back(runs[0].name + ": " + key + " " + fixed(first, 4) + " in block " +
                       std::to_string(layers_of(runs[0])[l].value("layer", -1)) + " is not above " +
                       fixed(figure(runs[r]), 4) + " of " + runs[r].name);
    }
  }
  return missed;
}

}  // namespace

int run_compare(int argc, char** argv) {
  Options options("compare", "one table from several runs' eval.json and audit.json");
  options.add_positional("RUN", "run directories", 64);
  options.add_value("min-accuracy", "fail unless every run reaches this share", "", "0..1");
  options.add_flag("no-dead-experts", "fail if an expert of any run serves no token");
  options.add_value("min-effective-experts", "fail unless every layer of every run has so many", "",
                    "N");
  options.add_value("first-highest",
                    "fail unless the first run has the highest figure in every layer; a key of "
                    "audit.json's layers such as mutual_information",
                    "", "KEY");
  if (!options.parse(argc, argv)) return 0;
  if (options.positional().empty()) throw UsageError("compare needs run directories");
  for (const char* name : {"min-accuracy", "min-effective-experts"}) {
    if (options.has(name)) options.number(name);  // refuse before any work
  }
  if (options.has("min-accuracy")) {
    const double bar = options.number("min-accuracy");
    if (bar < 0 || bar > 1) {
      throw UsageError("compare: --min-accuracy is " + options.get("min-accuracy") +
                       ", expected 0 to 1");
    }
  }
  std::vector<RunFigures> runs;
  for (std::string name : options.positional()) {
    while (name.size() > 1 && name.back() == '/') name.pop_back();
    runs.push_back({name, read_json(name + "/eval.json"), read_json(name + "/audit.json")});
  }
  const std::string text = table(runs);
  std::vector<std::string> missed;
  for (const RunFigures& run : runs) {
    for (const std::string& line : missed_bars(run, options)) missed.push_back(line);
  }
  if (options.has("first-highest")) {
    check_figure(runs[0], options.get("first-highest"));
    for (const std::string& line : not_below_first(runs, options.get("first-highest"))) {
      missed.push_back(line);
    }
  }
  std::cout << text;
  for (const std::string& line : missed) std::cout << "missed: " << line << "\n";
  return missed.empty() ? 0 : 1;
}

}  // namespace tools
