#include <csignal>

#include <filesystem>
#include <iostream>

#include "data/dataset.h"
#include "tools/commands/command.h"
#include "tools/commands/options.h"
#include "tools/commands/session.h"
#include "train/trainer.h"

namespace tools {
namespace {

Options train_options() {
  Options options("train", "train a model");
  options.add_value("recipe", "recipe name or TOML file (robustmoe recipes)", "", "NAME|FILE");
  options.add_value("data", "data set; the recipe's data.source if not given", "", "KIND:PATH");
  options.add_flag("skip-bad-images", "same as --set data.skip_bad_images=true");
  options.add_value("out", "run directory (default: runs/RECIPE)", "", "DIR");
  options.add_value("init", "weights to start from, same as --set init.from=PATH", "", "PATH");
  options.add_flag("allow-nonfinite", "same as --set init.allow_nonfinite=true");
  options.add_value("set", "set one config value; may be repeated", "", "KEY=VALUE");
  options.add_flag("resume", "continue the run in --out from its newest checkpoint");
  options.add_value("threads", "threads of the training (default: all that this process may use)",
                    "", "N");
  options.add_value("epochs", "same as --set train.epochs=N with train.steps=0", "", "N");
  options.add_value("steps", "same as --set train.steps=N", "", "N");
  options.add_value("seed", "same as --set train.seed=S", "", "S");
  add_device_option(options);
  options.add_value("precision", "of the operands of products: f32, bf16, or on a GPU tf32", "",
                    "P");
  return options;
}

// Everything that was said, in the order: recipe (or the run's own config), --data, shortcuts,
// --set.
train::Config config_from(const Options& options, const std::string& out) {
  const bool from_run = options.has("resume") && !options.has("recipe");
  train::Config config =
      train::load_config(from_run ? out + "/config.toml" : options.required("recipe"));
  if (options.has("data")) config.data.source = options.get("data");
  if (options.has("skip-bad-images")) config.data.skip_bad_images = true;
  if (options.has("epochs")) {
    train::set_value(config, "train.steps=0");
  }
  for (const char* name : {"epochs", "steps", "seed", "threads", "device", "precision"}) {
    set_train_value(config, options, name);
  }
  (void)device_from(options);  // a wrong text is wrong usage, before data is opened
  if (options.has("init")) train::set_value(config, "init.from=" + options.get("init"));
  if (options.has("allow-nonfinite")) config.init.allow_nonfinite = true;
  for (const std::string& assignment : options.all("set")) train::set_value(config, assignment);
  return config;
}

}  // namespace

int run_train(int argc, char** argv) {
  Options options = train_options();
  if (!options.parse(argc, argv)) return 0;
  if (!options.has("out") && options.has("resume") && !options.has("recipe")) {
    throw UsageError("--resume needs --out DIR, the run to continue");
  }
  std::string out = options.get("out");
  if (out.empty()) {
    out = "runs/" + std::filesystem::path(options.required("recipe")).stem().string();
  }
  train::Config config = config_from(options, out);
  engine::check(!config.data.source.empty(), engine::ErrorKind::kValue,
                "no data set: give --data KIND:PATH, for example --data shapes:");
  const auto training =
      open_data(config.data.source, data::parse_split(config.data.train_split), config);
  const auto test = open_data(config.data.source, data::parse_split(config.data.test_split), config,
                              training->info().class_names);
  train::adapt_to_data(config, training->info());
  train::validate(config);
  use_threads(config.train.threads);

  // A reader of our output that ends first, such as head, must not end the training.
  std::signal(SIGPIPE, SIG_IGN);
  train::Trainer trainer(config, *training, test.get(),
                         {.run_dir = out,
                          .resume = options.has("resume"),
                          .resume_command = "robustmoe train --resume --out " + shell_word(out),
                          .stop = &stop_requested});
  // Before its first step there is nothing to save: until here these signals end the program.
  note_stop_signals();
  return trainer.run() == train::Outcome::kStopped ? kStopped : 0;
}

}  // namespace tools
