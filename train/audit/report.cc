#include <algorithm>
#include <iomanip>
#include <sstream>

#include "train/audit/audit.h"

namespace train {
namespace {

Fields fields_of(const LayerFigures& f) {
  return {{"layer", f.layer},
          {"experts", f.experts},
          {"top_k", f.top_k},
          {"n_pairs", f.n_pairs},
          {"match_top1", f.match_top1},
          {"match_top1_se", f.match_top1_se},
          {"match_top1_chance", f.match_top1_chance},
          {"mutual_information", f.mutual_information},
          {"effective_experts", f.effective_experts},
          {"margin_mean", f.margin_mean},
          {"match_top2", f.match_top2},
          {"match_top2_se", f.match_top2_se},
          {"match_top2_any_order", f.match_top2_any_order},
          {"match_top2_any_order_se", f.match_top2_any_order_se},
          {"confidence_first", f.confidence_first},
          {"confidence_second", f.confidence_second},
          {"confidence_rest", f.confidence_rest},
          {"s_diagonal_mean", f.s_diagonal_mean},
          {"s_offdiagonal_mean", f.s_offdiagonal_mean},
          {"load", f.load},
          {"load_fair", 1 / static_cast<double>(f.experts)},
          {"dropped_share", f.dropped_share},
          {"dropped_share_se", f.dropped_share_se},
          {"load_all_tokens", f.load_all_tokens},
          {"effective_experts_all_tokens", f.effective_experts_all_tokens},
          {"dropped_share_all_tokens", f.dropped_share_all_tokens},
          {"dropped_share_all_tokens_se", f.dropped_share_all_tokens_se},
          {"margin_histogram", f.margin_histogram},
          {"s", f.s},
          {"class_information", f.class_information},
          {"class_expert", f.class_expert},
          {"part_information", f.part_information},
          {"part_expert", f.part_expert}};
}

Fields fields_of(const NoiseLevel& level) {
  return {{"sigma", level.sigma},
          {"accuracy", level.accuracy},
          {"accuracy_se", level.accuracy_se},
          {"changed_predictions", level.changed_predictions},
          {"changed_predictions_se", level.changed_predictions_se},
          {"top1_flips", level.top1_flips},
          {"top1_flips_se", level.top1_flips_se}};
}

Fields fields_of(const NoisePathFigures& path) {
  return {{"sigma", path.sigma},
          {"steps", path.steps},
          {"n_images", path.n_images},
          {"mean_logit_step", path.mean_logit_step},
          {"mean_logit_step_se", path.mean_logit_step_se},
          {"largest_logit_step", path.largest_logit_step},
          {"largest_logit_step_se", path.largest_logit_step_se},
          {"set_changes", path.set_changes},
          {"set_changes_se", path.set_changes_se}};
}

template <class Entry>
std::string array_of(const std::vector<Entry>& entries) {
  std::string text = "[";
  for (const Entry& entry : entries) {
    if (text.size() > 1) text += ',';
    text += json_line(fields_of(entry));
  }
  return text + "]";
}

std::string fixed(double value, int digits) {
  std::ostringstream text;
  text << std::fixed << std::setprecision(digits) << value;
  return text.str();
}
std::string percent(double share) { return fixed(100 * share, 2) + " %"; }
std::string percent(double share, double error) {
  return fixed(100 * share, 2) + " ± " + fixed(100 * error, 2) + " %";
}

// A table with a name before each row and columns as wide as what they hold.
class Table {
 public:
  void row(const std::string& name, const std::vector<std::string>& cells) {
    rows_.push_back({name});
    rows_.back().insert(rows_.back().end(), cells.begin(), cells.end());
  }
  std::string text() const {
    std::vector<size_t> widths;
    for (const auto& row : rows_) {
      widths.resize(std::max(widths.size(), row.size()));
      for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], length(row[i]));
    }
    std::string out;
    for (const auto& row : rows_) {
      for (size_t i = 0; i < row.size(); ++i) {
        const std::string space(widths[i] - length(row[i]), ' ');
        out += i == 0 ? "  " + row[i] + space : "   " + space + row[i];
      }
      out += "\n";
    }
    return out;
  }

 private:
  // Characters, not bytes of UTF-8.
  static size_t length(const std::string& s) {
    return static_cast<size_t>(
        std::count_if(s.begin(), s.end(), [](char c) { return (c & 0xC0) != 0x80; }));
  }
  std::vector<std::vector<std::string>> rows_;
};

// A row of the table of layers: `cell` makes a text of each layer.
template <class Cell>
void add_row(Table& table, const std::string& name, const AuditResult& result, Cell cell) {
  std::vector<std::string> cells;
  for (const LayerFigures& layer : result.layers) cells.push_back(cell(layer));
  table.row(name, cells);
}

std::string layer_table(const AuditResult& result) {
  using Layer = LayerFigures;
  Table t;
  const auto row = [&](const char* name, auto cell) { add_row(t, name, result, cell); };
  row("", [](const Layer& l) { return "layer " + std::to_string(l.layer); });
  row("pairs of patches", [](const Layer& l) { return std::to_string(l.n_pairs); });
  row("same first expert", [](const Layer& l) { return percent(l.match_top1, l.match_top1_se); });
  row("  by chance", [](const Layer& l) { return percent(l.match_top1_chance); });
  row("same first and second",
      [](const Layer& l) { return percent(l.match_top2, l.match_top2_se); });
  row("  in any order",
      [](const Layer& l) { return percent(l.match_top2_any_order, l.match_top2_any_order_se); });
  row("mutual information, nats", [](const Layer& l) { return fixed(l.mutual_information, 4); });
  row("effective experts", [](const Layer& l) {
    return fixed(l.effective_experts, 2) + " of " + std::to_string(l.experts);
  });
  row("  all tokens", [](const Layer& l) {
    return fixed(l.effective_experts_all_tokens, 2) + " of " + std::to_string(l.experts);
  });
  row("mean probability, first", [](const Layer& l) { return fixed(l.confidence_first, 4); });
  row("  second", [](const Layer& l) { return fixed(l.confidence_second, 4); });
  row("  all others", [](const Layer& l) { return fixed(l.confidence_rest, 4); });
  row("  margin, first - second", [](const Layer& l) { return fixed(l.margin_mean, 4); });
  row("S of PRC, diagonal mean", [](const Layer& l) { return fixed(l.s_diagonal_mean, 4); });
  row("  off the diagonal", [](const Layer& l) { return fixed(l.s_offdiagonal_mean, 4); });
  row("dropped choices",
      [](const Layer& l) { return percent(l.dropped_share, l.dropped_share_se); });
  row("  all tokens", [](const Layer& l) {
    return percent(l.dropped_share_all_tokens, l.dropped_share_all_tokens_se);
  });
  return t.text();
}

std::string load_table(const AuditResult& result) {
  Table t;
  for (const LayerFigures& layer : result.layers) {
    std::vector<std::string> cells;
    for (const double share : layer.load) cells.push_back(fixed(100 * share, 1));
    t.row("layer " + std::to_string(layer.layer), cells);
  }
  return t.text();
}

std::string sweep_table(const AuditResult& result) {
  Table t;
  std::vector<std::string> head = {"accuracy", "changed predictions"};
  for (const LayerFigures& layer : result.layers) {
    head.push_back("flips in layer " + std::to_string(layer.layer));
  }
  t.row("sigma", head);
  for (const NoiseLevel& level : result.noise_sweep) {
    std::vector<std::string> cells = {
        percent(level.accuracy, level.accuracy_se),
        percent(level.changed_predictions, level.changed_predictions_se)};
    for (size_t l = 0; l < level.top1_flips.size(); ++l) {
      cells.push_back(percent(level.top1_flips[l], level.top1_flips_se[l]));
    }
    t.row(fixed(level.sigma, 3), cells);
  }
  return t.text();
}

std::string path_table(const AuditResult& result) {
  if (!result.noise_path) return "";
  const NoisePathFigures& path = *result.noise_path;
  const auto with_error = [](double value, double error) {
    return fixed(value, 4) + " ± " + fixed(error, 4);
  };
  Table t;
  t.row("|change of the logits|, mean step",
        {with_error(path.mean_logit_step, path.mean_logit_step_se)});
  t.row("  largest step of an image",
        {with_error(path.largest_logit_step, path.largest_logit_step_se)});
  for (size_t l = 0; l < path.set_changes.size(); ++l) {
    t.row("changes of a patch's experts, layer " + std::to_string(result.layers[l].layer),
          {with_error(path.set_changes[l], path.set_changes_se[l])});
  }
  return "\nOn a straight way of " + std::to_string(path.steps) + " steps into noise of sigma " +
         fixed(path.sigma, 3) + "\n" + t.text();
}

}  // namespace

std::string audit_json(const AuditResult& result, const Fields& head) {
  Fields fields = head;
  fields.emplace_back("n_images", result.n_images);
  fields.emplace_back("accuracy", result.noise_sweep.at(0).accuracy);
  fields.emplace_back("accuracy_se", result.noise_sweep.at(0).accuracy_se);
  std::string text = json_line(fields);
  text.pop_back();  // the closing brace
  return text + ", \"layers\": " + array_of(result.layers) +
         ", \"noise_sweep\": " + array_of(result.noise_sweep) +
         (result.noise_path ? ", \"noise_path\": " + json_line(fields_of(*result.noise_path))
                            : "") +
         "}";
}

std::string audit_text(const AuditResult& result) {
  const LayerFigures& any = result.layers.at(0);
  return "Corresponding patches of two views (class tokens and patches of one colour left out)\n" +
         layer_table(result) + "\nLoad: share of choices an expert, %; a fair share is " +
         fixed(100 / static_cast<double>(any.experts), 1) + "\n" + load_table(result) +
         "\nGaussian noise on plain views (sigma of a pixel range of 0 to 1); flips: patches with "
         "another first expert\n" +
         sweep_table(result) + path_table(result);
}

}  // namespace train
