#include "train/evaluate.h"

#include <chrono>
#include <iomanip>
#include <optional>
#include <sstream>

#include "tools/commands/attack_options.h"
#include "tools/commands/checkpoint_input.h"
#include "tools/commands/command.h"
#include "tools/commands/options.h"
#include "tools/commands/session.h"
#include "train/attacks/fixed_expert.h"
#include "train/multi_labels.h"

namespace tools {
namespace {

std::string result_text(const train::Evaluation& result, double images_per_s) {
  std::ostringstream text;
  text << std::fixed << std::setprecision(2) << "accuracy " << 100 * result.accuracy << " ± "
       << 100 * result.accuracy_se << " %   n " << result.n << "   loss " << std::setprecision(4)
       << result.loss << " ± " << result.loss_se << "   " << std::setprecision(0) << images_per_s
       << " images/s\n";
  return text.str();
}

// Of one image, beside the time that all took.
std::string cost_text(const nn::Cost& cost) {
  std::ostringstream text;
  text << std::fixed << std::setprecision(2)
       << "million multiply-adds per image: " << static_cast<double>(cost.active) * 1e-6;
  if (cost.routers > 0 || cost.all > cost.active) {
    text << " gone through, " << static_cast<double>(cost.all) * 1e-6 << " with all experts, "
         << static_cast<double>(cost.routers) * 1e-6 << " of routers";
  }
  return text.str() + "\n";
}

// Each expert of a layer alone, behind what `text` and `json` say already.
void add_fixed_experts(const Options& options, const CheckpointInput& input, int64_t layer,
                       std::vector<train::AttackPlan> plans, std::string& text, std::string& json) {
  const train::Network& network = *input.loaded.model->network;
  const std::string name = network.moe_layer_names()[static_cast<size_t>(layer)];
  const std::vector<float> starts = attack_starts(options, input.loaded.config);
  for (train::AttackPlan& plan : plans) plan.pgd.starts = starts;
  const auto rows =
      train::evaluate_fixed_experts(network, input.loaded.config, *input.dataset, layer, plans);
  train::Fields fields{{"fixed_expert_layer", name}};
  if (!plans.empty()) {
    for (const auto& field : attack_fields(options)) fields.push_back(field);
  }
  text += "experts of " + name + (plans.empty() ? "\n" : ", " + attack_headline(options)) +
          train::fixed_expert_text(rows);
  const std::string more = train::json_line(fields);
  json.pop_back();
  json += ", " + more.substr(1, more.size() - 2) + ", " + train::fixed_expert_json(rows) + "}";
}

}  // namespace

int run_eval(int argc, char** argv) {
  Options options("eval", "Accuracy and loss of a trained model, with their standard errors.");
  add_checkpoint_options(options);
  add_device_option(options);
  options.add_value("multi-labels", "several right classes for each image (ReaL's real.json)", "",
                    "FILE");
  options.add_value(
      "fixed-expert",
      "also with each expert of this MoE layer alone, such as layer4.1 or \"block 5\"", "",
      "LAYER");
  add_attack_options(options, "");
  if (!options.parse(argc, argv)) return 0;
  std::vector<train::AttackPlan> plans = attack_plans(options);
  if (!plans.empty() && !options.has("fixed-expert")) {
    throw UsageError(
        "--attack is for --fixed-expert here; robustmoe attack attacks the model as it is");
  }
  for (const char* name :
       {"norm", "eps", "step", "steps", "restarts", "from-clean", "sigma", "seed", "starts"}) {
    if (plans.empty() && options.has(name)) {
      throw UsageError("--" + std::string(name) + " is of an attack: give --attack, too");
    }
  }
  const CheckpointInput input = open_checkpoint_input(options);
  const train::Config& config = input.loaded.config;

  const train::Network& network = *input.loaded.model->network;
  engine::check(!options.has("fixed-expert") || network.chooses_experts(),
                engine::ErrorKind::kValue,
                "--fixed-expert is for models that choose experts, which this one does not "
                "(moe.layers is none, or moe.chooser is soft)");
  const int64_t layer = options.has("fixed-expert")
                            ? train::find_moe_layer(network, options.get("fixed-expert"))
                            : -1;
  const auto start = std::chrono::steady_clock::now();
  std::optional<train::MultiLabels> labels;
  std::optional<train::MultiLabelSum> several;
  if (options.has("multi-labels")) {
    labels.emplace(options.get("multi-labels"), config.model.classes,
                   input.dataset->info().class_names);
    several.emplace(*labels);
  }
  const train::Evaluation result =
      train::evaluate(network, config, *input.dataset, several ? &*several : nullptr);
  engine::check(!several || several->n() > 0, engine::ErrorKind::kValue,
                options.get("multi-labels"), ": has no right class of any of these ", result.n,
                " images");
  const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
  const double images_per_s = static_cast<double>(result.n) / spent.count();

  train::Fields fields = {{"accuracy", result.accuracy},
                          {"accuracy_se", result.accuracy_se},
                          {"n", result.n},
                          {"loss", result.loss},
                          {"loss_se", result.loss_se},
                          {"seconds", spent.count()},
                          {"images_per_s", images_per_s}};
  std::ostringstream more;
  if (several) {
    fields.emplace_back("multi_label_accuracy", several->accuracy());
    fields.emplace_back("multi_label_accuracy_se", several->accuracy_se());
    fields.emplace_back("multi_label_n", several->n());
    more << std::fixed << std::setprecision(2) << "accuracy with several right classes "
         << 100 * several->accuracy() << " ± " << 100 * several->accuracy_se() << " %   n "
         << several->n() << "\n";
  }
  const nn::Cost cost = network.cost_per_image();
  for (const auto& field : train::Fields{{"multiply_adds_active", cost.active},
                                         {"multiply_adds_all_experts", cost.all},
                                         {"multiply_adds_routers", cost.routers}}) {
    fields.push_back(field);
  }
  for (const auto& field : describe(input, options)) fields.push_back(field);
  std::string text = headline(input, options) + result_text(result, images_per_s) +
                     cost_text(cost) + more.str() + neighbour_warning(config);
  std::string json = train::json_line(fields);
  if (layer >= 0) add_fixed_experts(options, input, layer, plans, text, json);
  write_result(options, text, json);
  return 0;
}

}  // namespace tools
