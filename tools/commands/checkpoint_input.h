#pragma once

#include <memory>
#include <string>

#include "data/split.h"
#include "tools/commands/options.h"
#include "train/metrics.h"
#include "train/model.h"

namespace tools {

// What a verb that looks at a finished model works on.
struct CheckpointInput {
  train::LoadedModel loaded;
  std::unique_ptr<data::Dataset> dataset;
  data::SplitPart split;
};

// Adds --checkpoint, --data, --split, --limit, --batch, --ema, --allow-nonfinite,
// --skip-bad-images, --threads and --json.
void add_checkpoint_options(Options& options);

// Reads them: checks the command line and that --json can be written, sets the threads, loads
// the model and opens the data. Warnings about the checkpoint go to standard error. Error(kValue)
// where the data set does not fit the model.
CheckpointInput open_checkpoint_input(const Options& options);

// --split. UsageError.
data::SplitPart split_from(const Options& options);
// Error(kValue) unless the model can see such images and knows as many classes.
void check_fit(const train::Config& config, const data::Info& info, const std::string& spec);
// The checksum of the weights that a checkpoint's manifest holds; empty for a bare file.
std::string model_crc32(const train::LoadedModel& loaded);

// Which checkpoint and data a result is about, for its JSON.
train::Fields describe(const CheckpointInput& input, const Options& options);
// The same in a line for a person.
std::string headline(const CheckpointInput& input, const Options& options);

// Where the model drops tokens by what else is in a batch, the line that says so; else empty.
std::string neighbour_warning(const train::Config& config);

// Prints `text` and writes `json`, one object on one line, to --json; with --json - standard
// output holds the object alone.
void write_result(const Options& options, const std::string& text, const std::string& json);

// Throws Error(kValue) where a file of this name is the checkpoint, lies among its files, or is one
// that a run keeps.
void check_apart(const std::string& path, const std::string& checkpoint);
// Throws Error(kValue) where both names are of one file.
void check_other_file(const std::string& path, const std::string& other);

// Throws Error(kIo) unless a file of this name can be written, so that long work does not end in
// a path that never was.
void check_writable(const std::string& path);

}  // namespace tools
