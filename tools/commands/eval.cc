#include "train/evaluate.h"

#include <chrono>
#include <iomanip>
#include <sstream>

#include "tools/commands/checkpoint_input.h"
#include "tools/commands/command.h"
#include "tools/commands/options.h"

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
  if (!options.parse(argc, argv)) return 0;
  const CheckpointInput input = open_checkpoint_input(options);
  const train::Config& config = input.loaded.config;

  const auto start = std::chrono::steady_clock::now();
  const train::Evaluation result =
      train::evaluate(input.loaded.model->vmoe, config, *input.dataset);
  const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
  const double images_per_s = static_cast<double>(result.n) / spent.count();

  train::Fields fields = {{"accuracy", result.accuracy},
                          {"accuracy_se", result.accuracy_se},
                          {"n", result.n},
                          {"loss", result.loss},
                          {"loss_se", result.loss_se},
                          {"seconds", spent.count()},
                          {"images_per_s", images_per_s}};
  for (const auto& field : describe(input, options)) fields.push_back(field);
  write_result(
      options,
      headline(input, options) + result_text(result, images_per_s) + neighbour_warning(config),
      train::json_line(fields));
  return 0;
}

}  // namespace tools
