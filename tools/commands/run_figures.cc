#include "tools/commands/run_figures.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iomanip>
#include <limits>
#include <sstream>
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
  return *at;
}

double RunFigures::of_layer(size_t layer, const std::string& key) const {
  check(layer < layers().size(), ErrorKind::kValue, name, ": has ", layers().size(),
        " MoE layers, fewer than another run");
  return number(layers()[layer], key, name + "/audit.json");
}

int64_t RunFigures::block(size_t layer) const { return layers()[layer].value("layer", -1); }

double RunFigures::emptiest(size_t layer) const {
  const json& all = layers()[layer];
  const auto load = all.find("load_all_tokens");
  check(load != all.end() && load->is_array() && !load->empty(), ErrorKind::kFormat, name,
        "/audit.json: a layer without load_all_tokens");
  double least = std::numeric_limits<double>::infinity();
  for (const json& share : *load) least = std::min(least, share.get<double>());
  return least * static_cast<double>(load->size());
}

RunFigures read_figures(std::string run) {
  while (run.size() > 1 && run.back() == '/') run.pop_back();
  json eval = read_json(run + "/eval.json"), audit = read_json(run + "/audit.json");
  const std::string path = run + "/path.json";
  json way = std::filesystem::exists(path) ? read_json(path) : json(nullptr);
  return {std::move(run), std::move(eval), std::move(audit), std::move(way)};
}

std::string fixed(double value, int digits) {
  std::ostringstream text;
  text << std::fixed << std::setprecision(digits) << value;
  return text.str();
}

}  // namespace tools
