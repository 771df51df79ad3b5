#include "train/audit/audit.h"

#include <algorithm>
#include <charconv>

#include "tools/commands/checkpoint_input.h"
#include "tools/commands/command.h"
#include "tools/commands/options.h"
#include "tools/commands/session.h"

namespace tools {
namespace {

constexpr double kLargestNoise = 1000;  // white is 1

// "0.05,0.1" or "none".
std::vector<double> noise_levels(const std::string& list) {
  std::vector<double> levels;
  if (list == "none") return levels;
  for (size_t begin = 0; begin <= list.size();) {
    const size_t end = std::min(list.find(',', begin), list.size());
    double level = -1;
    const auto parsed = std::from_chars(list.data() + begin, list.data() + end, level);
    if (parsed.ec != std::errc() || parsed.ptr != list.data() + end || !(level >= 0) ||
        level > kLargestNoise) {
      throw UsageError("--noise-levels is " + list +
                       ", expected numbers from 0 to 1000 such as 0.05,0.1, or none");
    }
    levels.push_back(level);
    begin = end + 1;
  }
  return levels;
}

// "64:0.2".
void set_noise_path(const std::string& text, train::AuditOptions& what) {
  const size_t colon = std::min(text.find(':'), text.size());
  const char *begin = text.data(), *end = text.data() + text.size();
  const auto steps = std::from_chars(begin, begin + colon, what.path_steps);
  const auto sigma = std::from_chars(std::min(begin + colon + 1, end), end, what.path_sigma);
  const bool read = steps.ec == std::errc() && steps.ptr == begin + colon &&
                    sigma.ec == std::errc() && sigma.ptr == end;
  if (!read || what.path_steps < 1 || what.path_steps > 100000 || !(what.path_sigma > 0) ||
      what.path_sigma > kLargestNoise) {
    throw UsageError(
        "--noise-path is " + text +
        ", expected STEPS:SIGMA such as 64:0.2, at least one step and a sigma above 0");
  }
}

Options audit_options() {
  Options options("audit",
                  "What happens inside the MoE layers: routing match of two views, confidence, "
                  "load, drops, noise.");
  add_checkpoint_options(options);
  add_device_option(options);
  options.add_value("seed", "of the two views and of the noise", "0", "S");
  options.add_value("noise-levels",
                    "standard deviations of Gaussian noise, black being 0 and white 1; none: "
                    "no noise",
                    "0.05,0.1,0.2", "LIST");
  options.add_value("noise-path",
                    "follow each image on a straight way into noise: so many equal steps, up to "
                    "this deviation, such as 64:0.2",
                    "", "STEPS:SIGMA");
  options.add_value("dump", "write the rows behind the figures", "", "FILE.safetensors");
  return options;
}

}  // namespace

int run_audit(int argc, char** argv) {
  Options options = audit_options();
  if (!options.parse(argc, argv)) return 0;
  if (options.integer("seed") < 0) throw UsageError("audit: --seed must not be negative");
  const auto seed = static_cast<uint64_t>(options.integer("seed"));
  train::AuditOptions what{.seed = seed,
                           .noise_sigmas = noise_levels(options.get("noise-levels")),
                           .dump_path = options.get("dump")};
  if (options.has("noise-path")) set_noise_path(options.get("noise-path"), what);
  if (!what.dump_path.empty()) {
    if (options.has("json")) check_other_file(what.dump_path, options.get("json"));
    check_apart(what.dump_path, options.required("checkpoint"));
    check_writable(what.dump_path);
  }
  const CheckpointInput input = open_checkpoint_input(options);
  const train::Config& config = input.loaded.config;
  const train::AuditResult result =
      train::audit_model(*input.loaded.model->network, config, *input.dataset, what);

  train::Fields head = describe(input, options);
  head.emplace_back("seed", static_cast<int64_t>(seed));
  write_result(options,
               headline(input, options) + std::to_string(result.n_images) +
                   " images, two views each, seed " + std::to_string(seed) + "\n" +
                   neighbour_warning(config) + "\n" + train::audit_text(result),
               train::audit_json(result, head));
  return 0;
}

}  // namespace tools
