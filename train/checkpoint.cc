#include "train/checkpoint.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <optional>

#include "train/checkpoint_json.h"

namespace train {
namespace {

namespace fs = std::filesystem;
using engine::check;
using engine::Error;
using engine::ErrorKind;
using engine::fail;
using engine::ParamStore;
using engine::Slab;

constexpr const char* kModelFile = "model.safetensors";
constexpr const char* kStateFile = "state.safetensors";
constexpr const char* kRunFile = "run.json";
constexpr const char* kManifestFile = "manifest.json";
constexpr const char* kStepPrefix = "step-";
constexpr size_t kStepDigits = 9;

struct StateSlab {
  Slab slab;
  const char* prefix;
};
constexpr StateSlab kStateSlabs[] = {
    {Slab::kMoment1, "moment1/"}, {Slab::kMoment2, "moment2/"}, {Slab::kEma, "ema/"}};

std::string join(const std::string& folder, const std::string& name) {
  return (fs::path(folder) / name).string();
}

std::string step_name(int64_t step) {
  const std::string digits = std::to_string(step);
  const size_t zeros = kStepDigits > digits.size() ? kStepDigits - digits.size() : 0;
  return kStepPrefix + std::string(zeros, '0') + digits;
}

// The step in a name as step_name() makes it.
std::optional<int64_t> step_of(const std::string& name) {
  const std::string prefix = kStepPrefix;
  if (!name.starts_with(prefix)) return std::nullopt;
  int64_t step = -1;
  const char* end = name.data() + name.size();
  const auto [stop, trouble] = std::from_chars(name.data() + prefix.size(), end, step);
  if (trouble != std::errc() || stop != end || step < 0 || name != step_name(step)) {
    return std::nullopt;
  }
  return step;
}

// Steps that have a directory, in rising order; none if the folder cannot be listed.
std::vector<int64_t> steps_in(const std::string& folder) {
  std::vector<int64_t> steps;
  std::error_code trouble;
  for (fs::directory_iterator it(folder, trouble), end; !trouble && it != end;
       it.increment(trouble)) {
    if (const auto step = step_of(it->path().filename().string())) steps.push_back(*step);
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

std::vector<NamedTensor> tensors_of(const ParamStore& params, Slab slab,
                                    const std::string& prefix) {
  std::vector<NamedTensor> tensors;
  for (const ParamStore::Entry& entry : params.entries()) {
    tensors.push_back({prefix + entry.path, params.view(entry, slab)});
  }
  return tensors;
}

std::vector<NamedTensor> state_tensors(const ParamStore& params,
                                       std::span<const NamedTensor> others) {
  std::vector<NamedTensor> tensors;
  for (const auto& [slab, prefix] : kStateSlabs) {
    if (!params.has(slab)) continue;
    const auto more = tensors_of(params, slab, prefix);
    tensors.insert(tensors.end(), more.begin(), more.end());
  }
  tensors.insert(tensors.end(), others.begin(), others.end());
  return tensors;
}

// Why the step directory cannot be used; empty if it can.
std::string damage_of(const std::string& folder) {
  try {
    const std::string path = join(folder, kManifestFile);
    const Manifest manifest = parse_manifest(read_file(path), path);
    for (const char* name : {kModelFile, kStateFile, kRunFile}) {
      const auto listed = manifest.find(name);
      if (listed == manifest.end()) return path + ": does not list " + name;
      const std::string file = join(folder, name);
      const FileSum sum = sum_file(file);
      if (sum.bytes != listed->second.bytes) {
        return file + ": " + std::to_string(sum.bytes) + " bytes, the manifest says " +
               std::to_string(listed->second.bytes);
      }
      if (sum != listed->second) return file + ": its checksum is not the manifest's";
    }
    return "";
  } catch (const Error& error) {
    return error.message();
  }
}

// What there is to load, and from which file the weights come.
struct Choice {
  Loaded loaded;
  std::string weights;
  bool whole = false;  // a step directory, with state
};

Choice choose_step(const std::string& folder) {
  Choice choice;
  choice.loaded.path = folder;
  choice.weights = join(folder, kModelFile);
  choice.whole = true;
  const std::string path = join(folder, kRunFile);
  CheckpointState& state = choice.loaded.state;
  state = parse_state(read_file(path), path);
  const auto named = step_of(fs::path(folder).filename().string());
  check(!named || *named == state.step, ErrorKind::kFormat, path, ": says step ", state.step,
        ", but is in ", folder);
  check(state.best_step <= state.step, ErrorKind::kFormat, path, ": best_step is ", state.best_step,
        ", after the checkpoint's own step ", state.step);
  return choice;
}

// Steps in the order in which they should be tried: what `latest` names, the older ones from
// new to old, then those after it (left by a history that was given up, or, after a kill, not
// yet named).
std::vector<int64_t> steps_to_try(const std::string& folder, std::vector<std::string>& warnings) {
  std::vector<int64_t> steps = steps_in(folder);
  std::reverse(steps.begin(), steps.end());
  const std::string path = join(folder, "latest");
  std::string name;
  try {
    name = read_file(path, 64);
  } catch (const Error& error) {
    if (!steps.empty()) warnings.push_back(error.message());
    return steps;
  }
  if (name.ends_with('\n')) name.pop_back();
  const auto latest = step_of(name);
  if (!latest || std::find(steps.begin(), steps.end(), *latest) == steps.end()) {
    warnings.push_back(path + ": names no checkpoint that is there");
    if (!latest) return steps;
  }
  std::stable_partition(steps.begin(), steps.end(), [&](int64_t step) { return step <= *latest; });
  return steps;
}

Choice choose(const std::string& path) {
  std::error_code ignored;
  if (!fs::is_directory(path, ignored)) {
    Choice choice;
    choice.loaded.path = path;
    choice.weights = path;
    return choice;
  }
  if (fs::exists(join(path, kManifestFile), ignored) ||
      step_of(fs::path(path).filename().string())) {
    const std::string damage = damage_of(path);
    check(damage.empty(), ErrorKind::kFormat, damage, "; this checkpoint is damaged, use another");
    return choose_step(path);
  }
  const std::string folder = join(path, "checkpoints");
  std::vector<std::string> warnings;
  for (const int64_t step : steps_to_try(folder, warnings)) {
    const std::string candidate = join(folder, step_name(step));
    const std::string damage = damage_of(candidate);
    if (!damage.empty()) {
      warnings.push_back(damage + "; checkpoint " + step_name(step) + " is passed over");
      continue;
    }
    Choice choice = choose_step(candidate);
    choice.loaded.warnings = warnings;
    return choice;
  }
  std::string reasons;
  for (const std::string& warning : warnings) reasons += "; " + warning;
  fail(warnings.empty() ? ErrorKind::kIo : ErrorKind::kFormat, path,
       ": there is no usable checkpoint in checkpoints/step-*", reasons);
}

// Collects how a file differs from what the model wants.
class Differences {
 public:
  void compare(const SafetensorsFile& file, const std::vector<NamedTensor>& wanted,
               const std::string& only_prefix = "") {
    std::vector<std::string> names;
    for (const NamedTensor& target : wanted) {
      names.push_back(target.name);
      const auto* entry = file.find(target.name);
      if (entry == nullptr) {
        add(missing_, target.name);
      } else if (entry->shape != target.tensor.shape() || entry->dtype != target.tensor.dtype()) {
        std::ostringstream text;
        text << target.name << " is " << entry->dtype << " " << entry->shape
             << " where the model has " << target.tensor.dtype() << " " << target.tensor.shape();
        add(other_, text.str());
      }
    }
    std::sort(names.begin(), names.end());
    for (const auto& entry : file.entries()) {
      const bool counts = entry.name.starts_with(only_prefix);
      if (counts && !std::binary_search(names.begin(), names.end(), entry.name)) {
        add(extra_, entry.name);
      }
    }
  }
  void fail_if_any(const std::string& path) const {
    std::string text;
    for (const auto& [list, what] : {std::pair{&missing_, " missing: "},
                                     {&extra_, " extra: "},
                                     {&other_, " of another shape or type: "}}) {
      if (list->count == 0) continue;
      text += (text.empty() ? "" : "; ") + std::to_string(list->count) + what + list->names;
    }
    check(text.empty(), ErrorKind::kFormat, path, ": does not fit this model: ", text);
  }

 private:
  struct List {
    int64_t count = 0;
    std::string names;
  };
  static void add(List& list, const std::string& name) {
    list.names += (list.count++ > 0 ? ", " : "") + name;
  }
  List missing_, extra_, other_;
};

void read_all(const SafetensorsFile& file, const std::vector<NamedTensor>& targets) {
  for (const NamedTensor& target : targets) file.read(target.name, target.tensor);
}

// Deletes all checkpoints up to `state.step` but the last `keep` and the best.
void delete_old(const std::string& folder, const CheckpointState& state, int64_t keep) {
  std::vector<int64_t> steps = steps_in(folder);
  std::erase_if(steps, [&](int64_t step) { return step > state.step; });
  const int64_t old = static_cast<int64_t>(steps.size()) - keep;
  for (int64_t i = 0; i < old; ++i) {
    const int64_t step = steps[static_cast<size_t>(i)];
    if (step != state.best_step) remove_folder(join(folder, step_name(step)));
  }
}

}  // namespace

std::string save_checkpoint(const std::string& run_dir, const ParamStore& params,
                            const CheckpointState& state, const Metadata& metadata, int64_t keep,
                            std::span<const NamedTensor> more) {
  check(state.step >= 0 && keep >= 1, ErrorKind::kValue, "checkpoint of step ", state.step,
        ", keeping the last ", keep, ": expected a step >= 0 and at least 1 to keep");
  const std::string run_json = state_text(state);
  const std::string checkpoints = join(run_dir, "checkpoints");
  make_folders(checkpoints);
  flush_folder(run_dir);
  const std::string folder = join(checkpoints, step_name(state.step));
  const std::string unfinished = unfinished_path(folder);
  std::error_code ignored;
  fs::remove_all(unfinished, ignored);
  try {
    make_folders(unfinished);
    Manifest manifest;
    manifest[kModelFile] = write_safetensors(join(unfinished, kModelFile),
                                             tensors_of(params, Slab::kValue, ""), metadata);
    manifest[kStateFile] =
        write_safetensors(join(unfinished, kStateFile), state_tensors(params, more));
    manifest[kRunFile] = write_file(join(unfinished, kRunFile), run_json);
    write_file(join(unfinished, kManifestFile), manifest_text(manifest));
    replace_folder(unfinished, folder);
  } catch (...) {
    fs::remove_all(unfinished, ignored);
    throw;
  }
  flush_folder(checkpoints);
  write_file(join(checkpoints, "latest"), step_name(state.step) + "\n");
  delete_old(checkpoints, state, keep);
  return folder;
}

Loaded load_checkpoint(const std::string& path, ParamStore& params, LoadWhat what,
                       std::span<const NamedTensor> more) {
  Choice choice = choose(path);
  check(choice.whole || what == LoadWhat::kWeights, ErrorKind::kFormat, path,
        ": holds weights alone; give a run directory or a step directory");
  const SafetensorsFile weights(choice.weights);
  choice.loaded.metadata = weights.metadata();
  const auto values = tensors_of(params, Slab::kValue, "");
  Differences differences;
  if (what != LoadWhat::kEma) differences.compare(weights, values);
  if (what == LoadWhat::kWeights) {
    differences.fail_if_any(choice.weights);
    read_all(weights, values);
    return choice.loaded;
  }
  const SafetensorsFile state(join(choice.loaded.path, kStateFile));
  const bool ema = what == LoadWhat::kEma;
  const auto targets = ema ? tensors_of(params, Slab::kValue, "ema/") : state_tensors(params, more);
  const bool averaged = std::any_of(state.entries().begin(), state.entries().end(),
                                    [](const auto& e) { return e.name.starts_with("ema/"); });
  check(!ema || averaged, ErrorKind::kFormat, choice.loaded.path,
        ": keeps no averaged weights (train.ema was 0): take the last ones, without --ema");
  differences.compare(state, targets, ema ? "ema/" : "");
  differences.fail_if_any(choice.loaded.path);
  if (!ema) read_all(weights, values);
  read_all(state, targets);
  return choice.loaded;
}

Loaded peek_checkpoint(const std::string& path) {
  Choice choice = choose(path);
  choice.loaded.metadata = SafetensorsFile(choice.weights).metadata();
  return choice.loaded;
}

std::string weights_of(const std::string& path) { return choose(path).weights; }

bool has_checkpoint(const std::string& run_dir) {
  return !steps_in(join(run_dir, "checkpoints")).empty();
}

int64_t clean_checkpoints(const std::string& run_dir) {
  constexpr std::string_view kOurs[] = {kStepPrefix, "latest"};
  return remove_unfinished(join(run_dir, "checkpoints"), kOurs);
}

}  // namespace train
