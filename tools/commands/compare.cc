#include <algorithm>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>

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

void print_row(const std::string& name, const std::vector<std::string>& cells) {
  std::cout << "  " << std::left << std::setw(38) << name;
  for (const std::string& cell : cells) std::cout << std::right << std::setw(18) << cell;
  std::cout << "\n";
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

void print_table(const std::vector<RunFigures>& runs) {
  const auto row = [&](const std::string& name, auto cell) {
    std::vector<std::string> cells;
    for (const RunFigures& run : runs) cells.push_back(cell(run));
    print_row(name, cells);
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
    std::cout << "  MoE layer in block " << block << "\n";
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
}

// One line for every bar a run misses.
std::vector<std::string> missed_bars(const RunFigures& run, const Options& options) {
  std::vector<std::string> missed;
  if (options.has("min-accuracy")) {
    const double bar = std::stod(options.get("min-accuracy"));
    const double accuracy = number(run.eval, "accuracy", run.name + "/eval.json");
    if (!(accuracy >= bar)) {
      missed.push_back(run.name + ": accuracy " + fixed(100 * accuracy, 2) + " % is below " +
                       fixed(100 * bar, 2) + " %");
    }
  }
  if (options.has("no-dead-experts")) {
    for (const json& layer : layers_of(run)) {
      if (emptiest(layer, run.name) <= 0) {
        missed.push_back(run.name + ": a dead expert in block " +
                         std::to_string(layer.value("layer", -1)));
      }
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
  if (!options.parse(argc, argv)) return 0;
  if (options.positional().empty()) throw UsageError("compare needs run directories");
  std::vector<RunFigures> runs;
  for (std::string name : options.positional()) {
    while (name.size() > 1 && name.back() == '/') name.pop_back();
    runs.push_back({name, read_json(name + "/eval.json"), read_json(name + "/audit.json")});
  }
  print_table(runs);
  std::vector<std::string> missed;
  for (const RunFigures& run : runs) {
    for (const std::string& line : missed_bars(run, options)) missed.push_back(line);
  }
  for (const std::string& line : missed) std::cout << "missed: " << line << "\n";
  return missed.empty() ? 0 : 1;
}

}  // namespace tools
