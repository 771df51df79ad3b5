#include "train/init/rules.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <regex>
#include <sstream>
#include <utility>

#include "data/names.h"
#include "engine/core/rng.h"
#include "train/init/zoom.h"

namespace train {
namespace {

using engine::check;
using engine::ErrorKind;
using engine::Shape;

enum class Kind { kRename, kTile, kZoom, kDrop, kKeep };
constexpr const char* kKindNames[] = {"rename", "tile", "zoom", "drop", "keep"};

struct Rule {
  Kind kind;
  std::string text, name;  // as written; the NAME of rename and tile
  std::regex pattern;
  int64_t matches = 0;
  bool for_source() const {
    return kind == Kind::kRename || kind == Kind::kTile || kind == Kind::kDrop;
  }
};

Rule parse_rule(const std::string& text) {
  const size_t colon = std::min(text.find(':'), text.size());
  const std::string word = text.substr(0, colon);
  const auto* at = std::find(std::begin(kKindNames), std::end(kKindNames), word);
  check(at != std::end(kKindNames) && colon < text.size(), ErrorKind::kValue, "init.rules: ", text,
        ": expected rename:REGEX=>NAME, tile:REGEX=>NAME, zoom:REGEX, drop:REGEX or keep:REGEX; "
        "the nearest is ",
        data::nearest_name(word, {std::begin(kKindNames), std::end(kKindNames)}));
  Rule rule{static_cast<Kind>(at - kKindNames), text, "", {}};
  std::string pattern = text.substr(colon + 1);
  const size_t arrow = pattern.find("=>");
  const bool named = rule.kind == Kind::kRename || rule.kind == Kind::kTile;
  check(named == (arrow != std::string::npos), ErrorKind::kValue, "init.rules: ", text,
        named ? ": expected => and the new name" : ": a rule of this kind has no =>");
  if (named) {
    rule.name = pattern.substr(arrow + 2);
    pattern.resize(arrow);
  }
  try {
    rule.pattern = std::regex(pattern);
  } catch (const std::regex_error&) {
    engine::fail(ErrorKind::kValue, "init.rules: ", text, ": ", pattern,
                 " is no regular expression");
  }
  return rule;
}

std::vector<Rule> parse_rules(const std::string& text) {
  std::vector<Rule> rules;
  std::istringstream words(text);
  for (std::string word; words >> word;) rules.push_back(parse_rule(word));
  return rules;
}

// The rule that a name falls under, of those for sources or of those for targets; null if none.
// Two are an error.
Rule* rule_for(std::vector<Rule>& rules, const std::string& name, bool source) {
  Rule* found = nullptr;
  for (Rule& rule : rules) {
    if (rule.for_source() != source || !std::regex_match(name, rule.pattern)) continue;
    check(found == nullptr, ErrorKind::kValue, "init.rules: ", name, " falls under two rules, ",
          found == nullptr ? "" : found->text, " and ", rule.text);
    ++rule.matches;
    found = &rule;
  }
  return found;
}

// What a target gets.
struct Plan {
  const SourceTensor* source = nullptr;
  std::string source_name;
  bool tile = false, zoom = false, keep = false;
};

class Planner {
 public:
  Planner(const SourceTensors& source, const InitRules& rules, const engine::ParamStore& params)
      : source_(source), rules_(parse_rules(rules.text)), allow_nonfinite_(rules.allow_nonfinite) {
    for (const auto& entry : params.entries()) plans_[entry.path] = {};
    for (const auto& entry : params.entries()) shapes_[entry.path] = entry.shape;
  }

  std::map<std::string, Plan> make(InitReport& report) {
    for (const auto& [name, tensor] : source_) place(name, tensor, report);
    for (auto& [target, plan] : plans_) settle(target, plan, report);
    for (const Rule& rule : rules_) {
      if (rule.matches == 0)
        trouble("rules match nothing", "rule " + rule.text + " matches nothing");
    }
    check(problems_.empty(), ErrorKind::kFormat, "init: ", problems_text());
    return plans_;
  }

 private:
  // `many`: how to go on after "3 more ".
  void trouble(const std::string& many, const std::string& text) {
    auto at = std::ranges::find_if(problems_, [&](const auto& kind) { return kind.first == many; });
    if (at == problems_.end()) at = problems_.insert(at, {many, {}});
    at->second.push_back(text);
  }

  // Weights of quite another model have hundreds: a few of each kind show what is wrong.
  std::string problems_text() const {
    constexpr size_t kShown = 5;
    std::string all;
    for (const auto& [many, texts] : problems_) {
      for (size_t i = 0; i < std::min(kShown, texts.size()); ++i) all += "; " + texts[i];
      if (texts.size() > kShown)
        all += "; " + std::to_string(texts.size() - kShown) + " more " + many;
    }
    return all.empty() ? all : all.substr(2);
  }

  void place(const std::string& name, const SourceTensor& tensor, InitReport& report) {
    Rule* rule = rule_for(rules_, name, true);
    if (rule != nullptr && rule->kind == Kind::kDrop) {
      report.dropped.push_back(name);
      return;
    }
    const std::string target = rule == nullptr
                                   ? name
                                   : std::regex_replace(name, rule->pattern, rule->name,
                                                        std::regex_constants::format_first_only);
    const auto at = plans_.find(target);
    if (at == plans_.end()) {
      trouble("are not in this model", name + (rule == nullptr ? "" : " as " + target) +
                                           " is not in this model: rename or drop it");
      return;
    }
    if (at->second.source != nullptr) {
      trouble("come from two",
              target + " comes from both " + at->second.source_name + " and " + name);
      return;
    }
    at->second.source = &tensor;
    at->second.source_name = name;
    at->second.tile = rule != nullptr && rule->kind == Kind::kTile;
  }

  void settle(const std::string& target, Plan& plan, InitReport& report) {
    Rule* rule = rule_for(rules_, target, false);
    plan.keep = rule != nullptr && rule->kind == Kind::kKeep;
    plan.zoom = rule != nullptr && rule->kind == Kind::kZoom;
    if (plan.keep) {
      report.kept.push_back(target);
      if (plan.source != nullptr) report.dropped.push_back(plan.source_name);
      return;
    }
    if (plan.source == nullptr) {
      trouble("get nothing", target + " gets nothing: keep or rename");
      return;
    }
    const auto finite = [](float x) { return std::isfinite(x); };
    if (!allow_nonfinite_ && !std::ranges::all_of(plan.source->values, finite)) {
      trouble("are not finite", plan.source_name +
                                    " holds numbers that are not finite: drop it, take other "
                                    "weights, or --allow-nonfinite");
    }
    const Shape &from = plan.source->shape, &to = shapes_.at(target);
    if (plan.tile) {
      bool fits = to.rank() == from.rank() + 1;
      for (int axis = 0; fits && axis < from.rank(); ++axis) fits = to[axis + 1] == from[axis];
      if (!fits) complain(target, " cannot be tiled from ", from, to);
      report.tiled.push_back(target);
    } else if (plan.zoom && from != to) {
      report.zoomed.push_back(target);
    } else {
      if (from != to) complain(target, " has another shape: ", from, to);
      report.taken.push_back(target);
    }
  }

  void complain(const std::string& target, const char* what, const Shape& from, const Shape& to) {
    std::ostringstream text;
    text << target << what << from << " where the model has " << to;
    trouble("have another shape", text.str());
  }

  const SourceTensors& source_;
  std::vector<Rule> rules_;
  bool allow_nonfinite_;
  std::map<std::string, Plan> plans_;
  std::map<std::string, Shape> shapes_;
  std::vector<std::pair<std::string, std::vector<std::string>>> problems_;  // by kind
};

double deviation(const std::vector<float>& values) {
  double mean = 0, square = 0;
  const auto n = static_cast<double>(std::max<size_t>(1, values.size()));
  for (const float x : values) mean += static_cast<double>(x) / n;
  for (const float x : values)
    square += (static_cast<double>(x) - mean) * (static_cast<double>(x) - mean) / n;
  return std::sqrt(square);
}

void tile(const std::vector<float>& from, int64_t experts, double noise, const engine::RngKey& key,
          float* to) {
  const double sigma = noise > 0 ? noise * deviation(from) : 0;
  const auto n = static_cast<int64_t>(from.size());
  for (int64_t i = 0; i < experts * n; ++i) {
    const double shift = sigma > 0 ? sigma * key.normal(static_cast<uint64_t>(i)) : 0;
    to[i] = static_cast<float>(static_cast<double>(from[static_cast<size_t>(i % n)]) + shift);
  }
}

std::string listed(const char* what, const std::vector<std::string>& names, bool all) {
  if (names.empty()) return "";
  std::string text = ", " + std::to_string(names.size()) + " " + what;
  return all ? text + " (" + data::join(names) + ")" : text;
}

}  // namespace

std::string InitReport::text() const {
  const std::string text = listed("taken", taken, false) + listed("zoomed", zoomed, true) +
                           listed("tiled", tiled, true) + listed("dropped", dropped, true) +
                           listed("left as initialised", kept, true);
  return text.empty() ? "nothing" : text.substr(2);
}

InitReport init_from(const SourceTensors& source, const InitRules& rules,
                     engine::ParamStore& params) {
  InitReport report;
  const std::map<std::string, Plan> plans = Planner(source, rules, params).make(report);
  // Zooming can still fail, so it comes before anything is written.
  std::map<std::string, SourceTensor> zoomed;
  for (const std::string& target : report.zoomed) {
    const engine::Tensor own = params.view(params.find(target), engine::Slab::kValue);
    const auto* begin = own.data<const float>();
    zoomed[target] = zoom_positions(*plans.at(target).source,
                                    {own.shape(), {begin, begin + own.numel()}}, target);
  }
  uint64_t tensor = 0;
  for (const auto& [target, plan] : plans) {
    const engine::RngKey key = engine::RngKey(rules.seed, engine::Purpose::kInit).with(++tensor);
    if (plan.keep) continue;
    const engine::Tensor own = params.view(params.find(target), engine::Slab::kValue);
    const auto done = zoomed.find(target);
    const std::vector<float>& values =
        done == zoomed.end() ? plan.source->values : done->second.values;
    if (plan.tile) {
      tile(values, own.shape()[0], rules.tile_noise, key, own.data<float>());
    } else {
      std::ranges::copy(values, own.data<float>());
    }
  }
  return report;
}

}  // namespace train
