#include "tools/commands/run_figures.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iomanip>
#include <limits>
#include <sstream>
#include <tuple>
#include <utility>

#include "engine/core/error.h"

namespace tools {

using engine::check;
using engine::ErrorKind;
using nlohmann::json;

namespace {

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

}  // namespace

double RunFigures::of_eval(const std::string& key) const {
  return number(eval, key, name + "/eval.json");
}

double RunFigures::of_path(const std::string& key) const {
  const auto at = path.find("noise_path");
  check(at != path.end() && at->is_object(), ErrorKind::kFormat, name, "/path.json: no noise_path");
  return number(*at, key, name + "/path.json");
}

double RunFigures::set_changes(size_t layer) const {
  const json changes = path.value("noise_path", json::object()).value("set_changes", json::array());
  check(layer < changes.size() && changes[layer].is_number(), ErrorKind::kFormat, name,
        "/path.json: no set_changes of layer ", layer);
  return changes[layer].get<double>();
}

const json& RunFigures::layers() const {
  const auto at = audit.find("layers");
  check(at != audit.end() && at->is_array() && !at->empty(), ErrorKind::kFormat, name,
        "/audit.json: no layers");
  for (const json& layer : *at) {
    const bool fits = layer.is_object() && layer.contains("layer") && layer["layer"].is_number();
    check(fits, ErrorKind::kFormat, name, "/audit.json: a layer without the number of its block");
  }
  return *at;
}

double RunFigures::of_layer(size_t layer, const std::string& key) const {
  check(layer < layers().size(), ErrorKind::kValue, name, ": has ", layers().size(),
        " MoE layers, fewer than another run");
  return number(layers()[layer], key, name + "/audit.json");
}

int64_t RunFigures::block(size_t layer) const { return layers()[layer]["layer"].get<int64_t>(); }

double RunFigures::emptiest(size_t layer) const {
  const json& all = layers()[layer];
  const auto load = all.find("load_all_tokens");
  check(load != all.end() && load->is_array() && !load->empty(), ErrorKind::kFormat, name,
        "/audit.json: a layer without load_all_tokens");
  double least = std::numeric_limits<double>::infinity();
  for (const json& share : *load) {
    check(share.is_number(), ErrorKind::kFormat, name, "/audit.json: load_all_tokens holds ",
          share.dump());
    least = std::min(least, share.get<double>());
  }
  return least * static_cast<double>(load->size());
}

RunFigures read_figures(std::string run) {
  while (run.size() > 1 && run.back() == '/') run.pop_back();
  json eval = read_json(run + "/eval.json"), audit = read_json(run + "/audit.json");
  const std::string path = run + "/path.json";
  json way = std::filesystem::exists(path) ? read_json(path) : json(nullptr);
  return {std::move(run), std::move(eval), std::move(audit), std::move(way)};
}

namespace {

// What figures of two runs must agree in to stand in one row.
void check_alike(const RunFigures& first, const RunFigures& other) {
  for (const auto& [file, a, b] : {std::tuple{"eval.json", &first.eval, &other.eval},
                                   {"audit.json", &first.audit, &other.audit}}) {
    for (const char* key : {"split", "n", "n_images", "weights", "seed"}) {
      const json x = a->value(key, json()), y = b->value(key, json());
      check(x == y, ErrorKind::kValue, other.name, "/", file, ": ", key, " is ", y.dump(), ", but ",
            x.dump(), " in ", first.name, ": they cannot be compared");
    }
  }
  for (const char* key : {"sigma", "steps", "n_images"}) {
    if (!first.has_path() || !other.has_path()) break;
    check(first.of_path(key) == other.of_path(key), ErrorKind::kValue, other.name,
          "/path.json: ", key, " is ", other.of_path(key), ", but ", first.of_path(key), " in ",
          first.name, ": they cannot be compared");
  }
  check(first.layers().size() == other.layers().size(), ErrorKind::kValue, other.name, " has ",
        other.layers().size(), " MoE layers, but ", first.name, " has ", first.layers().size());
  for (size_t l = 0; l < first.layers().size(); ++l) {
    check(first.block(l) == other.block(l), ErrorKind::kValue, other.name, " has experts in block ",
          other.block(l), ", but ", first.name, " in block ", first.block(l));
  }
}

}  // namespace

std::vector<RunFigures> read_all_figures(const std::vector<std::string>& runs) {
  std::vector<RunFigures> all;
  for (const std::string& run : runs) {
    const RunFigures& one = all.emplace_back(read_figures(run));
    const json eval_step = one.eval.value("step", json()),
               audit_step = one.audit.value("step", json());
    check(eval_step == audit_step, ErrorKind::kValue, one.name, ": eval.json is of step ",
          eval_step.dump(), " and audit.json of step ", audit_step.dump(), "; make them again");
    check(!one.has_path() || one.path.value("step", json()) == eval_step, ErrorKind::kValue,
          one.name, ": path.json is of another step than eval.json; make it again");
    check_alike(all.front(), one);
  }
  return all;
}

std::string split_of(const RunFigures& run) { return run.eval.value("split", "test"); }

std::string fixed(double value, int digits) {
  std::ostringstream text;
  text << std::fixed << std::setprecision(digits) << value;
  return text.str();
}

}  // namespace tools
