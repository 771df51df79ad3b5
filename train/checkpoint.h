#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "engine/core/param_store.h"
#include "train/safetensors.h"

// Checkpoints of a run: RUN/checkpoints/step-000001234/ and the text file RUN/checkpoints/latest.
// train/FORMATS.md describes the files. A kill at any moment leaves every finished checkpoint
// whole; one that is being written does not carry a name that begins with `step-`.
namespace train {

// What a resumed run needs beside tensors; run.json.
struct CheckpointState {
  int64_t step = -1;  // finished steps; -1: unknown (a bare .safetensors file)
  int64_t epoch = 0;
  int64_t position = 0;  // samples of the epoch that were used
  uint64_t seed = 0;
  std::string config_hash;
  double best_metric = std::numeric_limits<double>::quiet_NaN();
  int64_t best_step = -1;    // a checkpoint of this step is never deleted; -1: none yet
  std::string extra = "{}";  // a JSON object with anything else; its text may be reordered
};

struct Loaded {
  CheckpointState state;
  std::string path;                   // the step directory or file that was taken
  std::vector<std::string> warnings;  // what was passed over, and why
  Metadata metadata;                  // of the weights; "config" is the model's TOML text
};

// kWeights: model.safetensors into kValue. kEverything: and moments and EMA into those of the
// slabs kMoment1, kMoment2, kEma that are allocated. kEma: the averaged weights into kValue.
enum class LoadWhat : uint8_t { kWeights, kEverything, kEma };

// Writes run_dir/checkpoints/step-…, then `latest`, and then deletes all older checkpoints but
// the last `keep` (the new one counts) and the best. Returns the step directory. When it throws
// Error(kIo) (full disk, no permission), what was there before is still there.
// Call it from one process per run directory. more: what else belongs to the state, under names
// that begin with none of the slabs' prefixes.
std::string save_checkpoint(const std::string& run_dir, const engine::ParamStore& params,
                            const CheckpointState& state, const Metadata& metadata, int64_t keep,
                            std::span<const NamedTensor> more = {});

// Loads from a run directory (the checkpoint `latest` names; if that is damaged the next older
// one, with a warning), from one step directory, or from a .safetensors file (weights alone).
// Missing, extra and differing tensors are all named in one Error(kFormat), thrown before
// anything in `params` has changed. more: as in save_checkpoint, read with kEverything.
Loaded load_checkpoint(const std::string& path, engine::ParamStore& params, LoadWhat what,
                       std::span<const NamedTensor> more = {});
// The same choice without the tensors; pass its path on to load_checkpoint to get that one.
Loaded peek_checkpoint(const std::string& path);

// The .safetensors file of the weights that load_checkpoint(path) would take.
std::string weights_of(const std::string& path);

// Whether a run directory holds a step directory, whole or not.
bool has_checkpoint(const std::string& run_dir);
// Deletes what a killed run left half-written; returns how many things. Call it when a run
// begins.
int64_t clean_checkpoints(const std::string& run_dir);

}  // namespace train
