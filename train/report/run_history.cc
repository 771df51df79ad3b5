#include "train/report/run_history.h"

#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "train/file_io.h"

namespace train {

using nlohmann::json;

namespace {

json thinned(const std::vector<json>& lines) {
  json kept = json::array();
  const auto n = static_cast<int64_t>(lines.size());
  const int64_t stride = (n + kHistoryLines - 1) / kHistoryLines;
  for (int64_t i = 0; i < n; ++i) {
    if ((n - 1 - i) % stride == 0) kept.push_back(lines[static_cast<size_t>(i)]);
  }
  return kept;
}

json columns_of(const json& lines) {
  std::set<std::string> keys;
  for (const json& line : lines) {
    for (const auto& [key, value] : line.items()) keys.insert(key);
  }
  keys.erase("kind");
  json columns = json::object();
  for (const std::string& key : keys) {
    json& column = columns[key] = json::array();
    for (const json& line : lines) column.push_back(line.value(key, json()));
  }
  return columns;
}

}  // namespace

json read_history(const std::string& run_dir, std::vector<std::string>& warnings) {
  const std::string path = (std::filesystem::path(run_dir) / "metrics.jsonl").string();
  std::vector<json> train, eval, s, event;
  if (!std::filesystem::exists(path)) {
    warnings.push_back(path + ": not there, so the report has no history of the training");
  } else {
    const std::string all = read_file(path, int64_t{1} << 32);
    int64_t unread = 0;
    for (size_t begin = 0; begin < all.size();) {
      const size_t end = std::min(all.find('\n', begin), all.size());
      json line = json::parse(all.begin() + static_cast<int64_t>(begin),
                              all.begin() + static_cast<int64_t>(end), nullptr, false);
      begin = end + 1;
      const json kind = line.is_object() ? line.value("kind", json()) : json();
      const bool whole = kind.is_string() && line.value("step", json()).is_number();
      if (!whole) {
        ++unread;
      } else if (kind == "train") {
        train.push_back(std::move(line));
      } else if (kind == "eval") {
        eval.push_back(std::move(line));
      } else if (kind == "s") {
        s.push_back(std::move(line));
      } else if (kind == "event") {
        event.push_back(std::move(line));
      }
    }
    if (unread > 0) {
      warnings.push_back(path + ": " + std::to_string(unread) +
                         " lines are no whole JSON objects and were left out");
    }
  }
  const json shown = thinned(train);
  return {{"train", columns_of(shown)},
          {"eval", thinned(eval)},
          {"s", thinned(s)},
          {"event", event},
          {"lines", train.size()},
          {"shown_lines", shown.size()}};
}

}  // namespace train
