#include "train/report/run_history.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>

#include "train/file_io.h"
#include "train/report/shallow_json.h"

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

namespace {

// What the lines of a file come to.
struct Lines {
  std::vector<json> train, eval, s, event;
  int64_t unread = 0, wrong = 0;
};

bool is_step(const json& value) {
  return value.is_number_integer() && value >= 0 && value <= (int64_t{1} << 53);
}

bool all_numbers(const json& list) {
  return std::ranges::all_of(list, [](const json& x) { return x.is_number(); });
}

// Takes out what is neither a finite number, nor null, nor a list of numbers, one an expert (S: one
// a pair of experts), nor the text of an event. Returns how many were.
int64_t clean_values(json& line, int64_t experts) {
  int64_t wrong = 0;
  for (auto& [key, value] : line.items()) {
    const auto size = static_cast<size_t>(key.ends_with("_s") ? experts * experts : experts);
    const bool list = value.is_array() && value.size() == size && all_numbers(value);
    const bool text = value.is_string() && (key == "kind" || key == "event" || key == "text");
    if (value.is_number() || value.is_null() || list || text) continue;
    value = nullptr;
    ++wrong;
  }
  return wrong;
}

// Counts an event among those seen, or begins a new entry.
void add_event(json line, std::vector<json>& events) {
  line["event"] = line.value("event", json()).is_string() ? line["event"] : json("event");
  line["text"] = line.value("text", json()).is_string() ? line["text"] : json("");
  const auto same = std::ranges::find_if(events, [&](const json& e) {
    return e["event"] == line["event"] && e["text"] == line["text"] && line["event"] != "resume";
  });
  if (same != events.end()) {
    (*same)["times"] = (*same)["times"].get<int64_t>() + 1;
    (*same)["last_step"] = line["step"];
  } else if (static_cast<int64_t>(events.size()) < kHistoryLines) {
    line["times"] = 1;
    line["last_step"] = line["step"];
    events.push_back(std::move(line));
  }
}

void add_line(std::string_view text, int64_t experts, Lines& lines) {
  json line = parse_shallow(text);
  const json kind = line.is_object() ? line.value("kind", json()) : json();
  if (!kind.is_string() || !is_step(line.value("step", json()))) {
    ++lines.unread;
    return;
  }
  lines.wrong += clean_values(line, experts);
  if (kind == "train") {
    lines.train.push_back(std::move(line));
  } else if (kind == "eval" && line.value("accuracy", json()).is_number()) {
    lines.eval.push_back(std::move(line));
  } else if (kind == "s") {
    lines.s.push_back(std::move(line));
  } else if (kind == "event") {
    add_event(std::move(line), lines.event);
  }
}

}  // namespace

json read_history(const std::string& run_dir, int64_t experts, std::vector<std::string>& warnings) {
  const std::string path = (std::filesystem::path(run_dir) / "metrics.jsonl").string();
  Lines lines;
  if (!std::filesystem::exists(path)) {
    warnings.push_back(path + ": not there, so the report has no history of the training");
  } else {
    const std::string all = read_file(path, int64_t{1} << 32);
    for (size_t begin = 0; begin < all.size();) {
      const size_t end = std::min(all.find('\n', begin), all.size());
      add_line(std::string_view(all).substr(begin, end - begin), experts, lines);
      begin = end + 1;
    }
    if (lines.unread > 0) {
      warnings.push_back(path + ": lines that are no whole JSON objects and were left out: " +
                         std::to_string(lines.unread));
    }
    if (lines.wrong > 0) {
      warnings.push_back(path + ": values of a wrong kind or length that were left out: " +
                         std::to_string(lines.wrong));
    }
  }
  const json shown = thinned(lines.train);
  return {{"train", columns_of(shown)},  {"eval", thinned(lines.eval)},
          {"s", thinned(lines.s)},       {"event", lines.event},
          {"lines", lines.train.size()}, {"shown_lines", shown.size()}};
}

}  // namespace train
