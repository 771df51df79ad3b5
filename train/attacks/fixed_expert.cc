#include "train/attacks/fixed_expert.h"

#include <algorithm>
#include <iomanip>
#include <map>
#include <sstream>

#include "engine/core/error.h"
#include "train/attacks/ordered_network.h"
#include "train/attacks/sanity.h"

namespace train {

using engine::check;
using engine::ErrorKind;

int64_t find_moe_layer(const Network& network, const std::string& name) {
  const std::vector<std::string> names = network.moe_layer_names();
  std::string list;
  for (size_t i = 0; i < names.size(); ++i) {
    if (names[i] == name || names[i] == "block " + name) return static_cast<int64_t>(i);
    list += (i > 0 ? ", " : "") + names[i];
  }
  engine::fail(ErrorKind::kValue, "there is no MoE layer ", name, ": ",
               list.empty() ? "the model has none" : "the model has " + list);
}

std::vector<FixedExpertRow> evaluate_fixed_experts(const Network& network, const Config& config,
                                                   const data::Dataset& dataset, int64_t layer,
                                                   const std::vector<AttackPlan>& plans) {
  check(network.chooses_experts(), ErrorKind::kValue,
        "fixed experts: this model chooses no experts (moe.layers is none, or moe.chooser soft)");
  const int64_t id = moe_layer_indices(config)[static_cast<size_t>(layer)];
  OrderedNetwork ordered(network);
  std::vector<FixedExpertRow> rows;
  for (int64_t e = 0; e <= config.moe.experts; ++e) {
    FixedExpertRow& row = rows.emplace_back();
    row.expert = e < config.moe.experts ? e : -1;
    ordered.orders().clear();
    if (row.expert >= 0) ordered.orders().push_back({.layer = id, .expert = row.expert});
    row.clean = evaluate(ordered, config, dataset);
    if (!plans.empty()) row.attacked = attack_model(ordered, config, dataset, plans);
  }
  return rows;
}

namespace {

double robust_share(const FixedExpertRow& row, const AttackFigures& a) {
  return static_cast<double>(a.robust) / static_cast<double>(std::max<int64_t>(1, row.attacked.n));
}

}  // namespace

std::string fixed_expert_text(const std::vector<FixedExpertRow>& rows) {
  std::ostringstream text;
  text << std::fixed;
  const auto percent = [&](double p, double se) {
    text << std::setprecision(2) << std::setw(6) << 100 * p << " ± " << 100 * se << " %";
  };
  for (const FixedExpertRow& row : rows) {
    text << "  " << std::left << std::setw(10)
         << (row.expert < 0 ? "routed" : "expert " + std::to_string(row.expert)) << std::right;
    percent(row.clean.accuracy, row.clean.accuracy_se);
    text << "   loss " << std::setprecision(4) << row.clean.loss;
    for (const AttackFigures& a : row.attacked.attacks) {
      const double p = robust_share(row, a);
      text << "   " << a.name << " ";
      percent(p, share_error(p, row.attacked.n));
    }
    text << "\n";
    for (const AttackFlag& flag : attack_flags(row.attacked)) {
      text << "    flag " << flag.name << ": " << flag.text << "\n";
    }
  }
  return text.str();
}

std::string fixed_expert_json(const std::vector<FixedExpertRow>& rows) {
  std::string text = "\"fixed_expert\": [";
  for (size_t i = 0; i < rows.size(); ++i) {
    const FixedExpertRow& row = rows[i];
    Fields fields{{"expert", row.expert},
                  {"accuracy", row.clean.accuracy},
                  {"accuracy_se", row.clean.accuracy_se},
                  {"loss", row.clean.loss},
                  {"n", row.clean.n}};
    std::map<std::string, int> seen;
    for (const AttackFigures& a : row.attacked.attacks) {
      const double p = robust_share(row, a);
      const int before = seen[a.name]++;
      const std::string name = a.name + (before > 0 ? "." + std::to_string(before + 1) : "");
      fields.emplace_back(name + "_accuracy", p);
      fields.emplace_back(name + "_accuracy_se", share_error(p, row.attacked.n));
    }
    std::string line = json_line(fields);
    line.pop_back();
    line += ", \"flags\": [";
    const std::vector<AttackFlag> flags = attack_flags(row.attacked);
    for (size_t f = 0; f < flags.size(); ++f)
      line += (f > 0 ? ", \"" : "\"") + flags[f].name + "\"";
    text += (i > 0 ? ", " : "") + line + "]}";
  }
  return text + "]";
}

}  // namespace train
