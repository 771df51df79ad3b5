#include "train/evaluate.h"

#include <chrono>
#include <iomanip>
#include <optional>
#include <sstream>

#include "tools/commands/checkpoint_input.h"
#include "tools/commands/command.h"
#include "tools/commands/options.h"
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

}  // namespace

int run_eval(int argc, char** argv) {
  Options options("eval", "Accuracy and loss of a trained model, with their standard errors.");
  add_checkpoint_options(options);
  options.add_value("multi-labels", "several right classes for each image (ReaL's real.json)", "",
                    "FILE");
  if (!options.parse(argc, argv)) return 0;
  const CheckpointInput input = open_checkpoint_input(options);
  const train::Config& config = input.loaded.config;

  const auto start = std::chrono::steady_clock::now();
  std::optional<train::MultiLabels> labels;
  std::optional<train::MultiLabelSum> several;
  if (options.has("multi-labels")) {
    labels.emplace(options.get("multi-labels"), config.model.classes,
                   input.dataset->info().class_names);
    several.emplace(*labels);
  }
  const train::Evaluation result = train::evaluate(*input.loaded.model->network, config,
                                                   *input.dataset, several ? &*several : nullptr);
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
  for (const auto& field : describe(input, options)) fields.push_back(field);
  write_result(options,
               headline(input, options) + result_text(result, images_per_s) + more.str() +
                   neighbour_warning(config),
               train::json_line(fields));
  return 0;
}

}  // namespace tools
