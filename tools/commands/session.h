#pragma once

#include <csignal>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "data/split.h"
#include "engine/core/tensor.h"
#include "tools/commands/options.h"
#include "train/config.h"

namespace tools {

// A text without control characters, shortened where it is very long: a message is one line,
// whatever the input it quotes.
std::string one_line(const std::string& text);

// The text as one word for a shell.
std::string shell_word(const std::string& text);

// What a verb returns that SIGINT or SIGTERM ended after it had saved how far it was.
inline constexpr int kStopped = 3;
// Set by these signals once note_stop_signals() was called; until then they end the program.
extern volatile std::sig_atomic_t stop_requested;
void note_stop_signals();

// Threads of everything that follows; 0: all this process may use.
void use_threads(int64_t threads);

// As data::open_dataset, with the config's data.jpeg and data.skip_bad_images; pictures that were
// skipped are counted and listed on standard error. classes: those of a model, or empty.
std::unique_ptr<data::Dataset> open_data(const std::string& spec, const data::SplitPart& part,
                                         const train::Config& config,
                                         const std::vector<std::string>& classes = {});

// --device, for verbs that run on a GPU, too.
void add_device_option(Options& options);
// What it says, opened; the CPU where the verb has no such option. UsageError for another text.
engine::Device device_from(const Options& options);

// --NAME, if it was given, becomes the config's train.NAME. UsageError where it does not fit.
void set_train_value(train::Config& config, const Options& options, const std::string& name);

}  // namespace tools
