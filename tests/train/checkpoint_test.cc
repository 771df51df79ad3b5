#include "train/checkpoint.h"

#include <doctest/doctest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include <chrono>

#include "engine/core/rng.h"
#include "tests/train/temp_folder.h"

using engine::Dtype;
using engine::ErrorKind;
using engine::ParamStore;
using engine::Slab;
using namespace train;
using namespace train::test;

namespace {

// Parameters whose every element tells the step and the slab.
void declare_small(ParamStore& params) {
  params.declare("embed/weight", {3, 5}, true, true);
  params.declare("head/bias", {7}, false, true);
  params.declare("norm/running_mean", {2, 2}, false, false);
  params.allocate(Dtype::kF32);
  for (const Slab slab : {Slab::kMoment1, Slab::kMoment2, Slab::kEma}) params.allocate(slab);
}

constexpr Slab kSaved[] = {Slab::kValue, Slab::kMoment1, Slab::kMoment2, Slab::kEma};

void fill(ParamStore& params, int64_t step) {
  for (const Slab slab : kSaved) {
    for (const auto& entry : params.entries()) {
      const engine::Tensor view = params.view(entry, slab);
      for (int64_t i = 0; i < view.numel(); ++i) {
        view.data<float>()[i] = static_cast<float>(step * 8 + static_cast<int64_t>(slab));
      }
    }
  }
}

// Whether every element is what fill() made for this step.
bool holds(const ParamStore& params, int64_t step, std::initializer_list<Slab> slabs) {
  for (const Slab slab : slabs) {
    for (const auto& entry : params.entries()) {
      const engine::Tensor view = params.view(entry, slab);
      for (int64_t i = 0; i < view.numel(); ++i) {
        const auto wanted = static_cast<float>(step * 8 + static_cast<int64_t>(slab));
        if (view.data<float>()[i] != wanted) return false;
      }
    }
  }
  return true;
}
bool holds_all(const ParamStore& params, int64_t step) {
  return holds(params, step, {Slab::kValue, Slab::kMoment1, Slab::kMoment2, Slab::kEma});
}

const Metadata kMetadata{{"config", "[model]\nwidth = 5\n"}};

CheckpointState state_at(int64_t step) {
  CheckpointState state;
  state.step = step;
  state.epoch = step / 10;
  state.position = step * 64;
  state.seed = 0xFEDCBA9876543210u;
  state.config_hash = "abc123";
  return state;
}

std::string save(const std::string& run, ParamStore& params, int64_t step, int64_t keep = 3) {
  fill(params, step);
  return save_checkpoint(run, params, state_at(step), kMetadata, keep);
}

std::vector<std::string> checkpoints_in(const TempFolder& run) {
  return names_in(run / "checkpoints");
}

// Changes one bit of a file; calling it again restores it.
void flip(const std::string& path, size_t byte, int bit) {
  std::string content = content_of(path);
  content.at(byte) = static_cast<char>(content[byte] ^ (1 << bit));
  put(path, content);
}

}  // namespace

TEST_CASE("checkpoint: everything comes back") {
  const TempFolder run;
  ParamStore params, loaded;
  declare_small(params);
  declare_small(loaded);
  fill(params, 12);
  CheckpointState state = state_at(12);
  state.best_metric = 0.1;
  state.best_step = 12;
  state.extra = R"({"dialect":"fork","masks":[1,2]})";
  const std::string step = save_checkpoint(run.path(), params, state, kMetadata, 3);
  CHECK(step == run / "checkpoints/step-000000012");
  CHECK(names_in(step) == std::vector<std::string>{"manifest.json", "model.safetensors", "run.json",
                                                   "state.safetensors"});
  CHECK(content_of(run / "checkpoints/latest") == "step-000000012\n");

  const Loaded back = load_checkpoint(run.path(), loaded, LoadWhat::kEverything);
  CHECK(holds_all(loaded, 12));
  CHECK(back.path == step);
  CHECK(back.warnings.empty());
  CHECK(back.metadata == kMetadata);
  CHECK(back.state.step == 12);
  CHECK(back.state.epoch == 1);
  CHECK(back.state.position == 768);
  CHECK(back.state.seed == 0xFEDCBA9876543210u);
  CHECK(back.state.config_hash == "abc123");
  CHECK(back.state.best_metric == 0.1);
  CHECK(back.state.best_step == 12);
  CHECK(back.state.extra == state.extra);
}

TEST_CASE("checkpoint: run directory, step directory and file give the same weights") {
  const TempFolder run;
  ParamStore params;
  declare_small(params);
  save(run.path(), params, 1);
  const std::string second = save(run.path(), params, 2);
  const std::string first = run / "checkpoints/step-000000001";
  const auto loads = [&](const std::string& path, int64_t step) {
    ParamStore fresh;
    declare_small(fresh);
    const Loaded loaded = load_checkpoint(path, fresh, LoadWhat::kWeights);
    return holds(fresh, step, {Slab::kValue}) && !holds(fresh, step, {Slab::kMoment1}) &&
           loaded.metadata == kMetadata && peek_checkpoint(path).metadata == kMetadata &&
           peek_checkpoint(path).path == loaded.path;
  };
  CHECK(loads(run.path(), 2));
  CHECK(loads(run.path() + "/", 2));
  CHECK(loads(first, 1));
  CHECK(loads(first + "/", 1));
  CHECK(loads(second, 2));
  CHECK(loads(first + "/model.safetensors", 1));
  CHECK(peek_checkpoint(first).state.step == 1);
  CHECK(peek_checkpoint(first + "/model.safetensors").state.step == -1);
  ParamStore fresh;
  declare_small(fresh);
  CHECK(contains(error_of(ErrorKind::kFormat,
                          [&] {
                            load_checkpoint(first + "/model.safetensors", fresh,
                                            LoadWhat::kEverything);
                          }),
                 "holds weights alone"));
  load_checkpoint(first, fresh, LoadWhat::kEma);
  CHECK(fresh.slab(Slab::kValue).data<float>()[0] == 8 + static_cast<float>(Slab::kEma));
}

TEST_CASE("checkpoint: the same weights are the same bytes, wherever and whenever") {
  const TempFolder a, b;
  ParamStore params;
  declare_small(params);
  const std::string first = save(a.path(), params, 5);
  save(b.path(), params, 4);
  const std::string second = save(b.path(), params, 5);
  for (const std::string name :
       {"model.safetensors", "state.safetensors", "run.json", "manifest.json"}) {
    CHECK_MESSAGE(content_of(first + "/" + name) == content_of(second + "/" + name), name);
  }
}

TEST_CASE("checkpoint: the last ones and the best are kept") {
  const TempFolder run;
  ParamStore params;
  declare_small(params);
  for (int64_t step = 1; step <= 6; ++step) {
    CheckpointState state = state_at(step);
    state.best_step = step < 2 ? 1 : 2;
    save_checkpoint(run.path(), params, state, kMetadata, 2);
  }
  CHECK(checkpoints_in(run) ==
        std::vector<std::string>{"latest", "step-000000002", "step-000000005", "step-000000006"});
  CHECK(contains(error_of(ErrorKind::kValue, [&] { save(run.path(), params, 7, 0); }),
                 "at least 1 to keep"));
}

TEST_CASE("checkpoint: a step saved again is replaced, one from a later time stays") {
  const TempFolder run;
  ParamStore params, loaded;
  declare_small(params);
  declare_small(loaded);
  save(run.path(), params, 3, 1);
  fill(params, 30);
  save_checkpoint(run.path(), params, state_at(3), kMetadata, 1);
  CHECK(checkpoints_in(run) == std::vector<std::string>{"latest", "step-000000003"});
  load_checkpoint(run.path(), loaded, LoadWhat::kEverything);
  CHECK(holds_all(loaded, 30));
  // A run taken up at an older step: `latest` tells which history counts.
  save(run.path(), params, 2, 1);
  CHECK(checkpoints_in(run) ==
        std::vector<std::string>{"latest", "step-000000002", "step-000000003"});
  CHECK(load_checkpoint(run.path(), loaded, LoadWhat::kEverything).state.step == 2);
}

TEST_CASE("checkpoint: a bit flipped anywhere is found and the one before is taken") {
  const TempFolder run;
  ParamStore params, loaded;
  declare_small(params);
  declare_small(loaded);
  save(run.path(), params, 1);
  const std::string step = save(run.path(), params, 2);
  const engine::RngKey random(7, engine::Purpose::kTest);
  for (const std::string& name : names_in(step)) {
    const std::string path = step + "/" + name;
    const size_t size = content_of(path).size();
    for (uint64_t trial = 0; trial < 12; ++trial) {
      const auto byte = static_cast<size_t>(random.below(2 * trial, size));
      const int bit = static_cast<int>(random.below(2 * trial + 1, 8));
      flip(path, byte, bit);
      CAPTURE(path);
      CAPTURE(byte);
      const Loaded back = load_checkpoint(run.path(), loaded, LoadWhat::kEverything);
      CHECK(back.state.step == 1);
      CHECK(holds_all(loaded, 1));
      REQUIRE(back.warnings.size() == 1);
      CHECK(contains(back.warnings[0], path));
      CHECK(contains(back.warnings[0], "checkpoint step-000000002 is passed over"));
      CHECK(contains(error_of(ErrorKind::kFormat, [&] { peek_checkpoint(step); }),
                     "this checkpoint is damaged, use another"));
      flip(path, byte, bit);
    }
  }
  CHECK(load_checkpoint(run.path(), loaded, LoadWhat::kEverything).state.step == 2);
}

TEST_CASE("checkpoint: files cut short, missing or foreign; a broken `latest`") {
  const TempFolder run;
  ParamStore params, loaded;
  declare_small(params);
  declare_small(loaded);
  for (int64_t step = 1; step <= 3; ++step) save(run.path(), params, step);
  const std::string checkpoints = run / "checkpoints/";
  put(checkpoints + "step-000000003/model.safetensors", "");
  std::filesystem::remove(checkpoints + "step-000000002/manifest.json");
  Loaded back = load_checkpoint(run.path(), loaded, LoadWhat::kEverything);
  CHECK(back.state.step == 1);
  REQUIRE(back.warnings.size() == 2);
  CHECK(contains(back.warnings[0], "step-000000003/model.safetensors: 0 bytes, the manifest says"));
  CHECK(contains(back.warnings[1], "step-000000002/manifest.json: cannot read: No such file"));

  for (const std::string latest :
       {"step-000000009\n", "nonsense", "step-1\n", "../step-000000001", ""}) {
    put(checkpoints + "latest", latest);
    back = load_checkpoint(run.path(), loaded, LoadWhat::kWeights);
    CHECK(back.state.step == 1);
    REQUIRE(back.warnings.size() == 3);
    CHECK(contains(back.warnings[0], "latest: names no checkpoint that is there"));
  }
  std::filesystem::remove(checkpoints + "step-000000001/run.json");
  const std::string message = error_of(ErrorKind::kFormat, [&] { peek_checkpoint(run.path()); });
  CHECK(contains(message, "there is no usable checkpoint"));
  for (const char* step : {"step-000000001", "step-000000002", "step-000000003"}) {
    CHECK(contains(message, step));
  }
  CHECK(contains(error_of(ErrorKind::kIo, [] { peek_checkpoint("/none"); }), "check the path"));
  const TempFolder empty;
  CHECK(contains(error_of(ErrorKind::kIo, [&] { peek_checkpoint(empty.path()); }),
                 "no usable checkpoint"));
  CHECK(has_checkpoint(run.path()));
  CHECK_FALSE(has_checkpoint(empty.path()));
}

TEST_CASE("checkpoint: of another model: everything that differs is named, nothing changed") {
  const TempFolder run;
  ParamStore params;
  declare_small(params);
  save(run.path(), params, 1);
  ParamStore other;
  other.declare("embed/weight", {5, 3}, true, true);
  other.declare("head/bias", {7}, false, true);
  other.declare("new/a", {1}, true, true);
  other.declare("new/b", {1}, true, true);
  other.allocate(Dtype::kF32);
  const std::string differs =
      "does not fit this model: 2 missing: new/a, new/b; 1 extra: norm/running_mean; "
      "1 of another shape or type: embed/weight is f32 (3,5) where the model has f32 (5,3)";
  CHECK(contains(
      error_of(ErrorKind::kFormat, [&] { load_checkpoint(run.path(), other, LoadWhat::kWeights); }),
      differs));
  CHECK(other.view(other.find("head/bias"), Slab::kValue).data<float>()[0] == 0);

  ParamStore no_ema;
  no_ema.declare("embed/weight", {3, 5}, true, true);
  no_ema.declare("head/bias", {7}, false, true);
  no_ema.declare("norm/running_mean", {2, 2}, false, false);
  no_ema.allocate(Dtype::kF64);
  no_ema.allocate(Slab::kMoment1);
  no_ema.allocate(Slab::kMoment2);
  const std::string message = error_of(
      ErrorKind::kFormat, [&] { load_checkpoint(run.path(), no_ema, LoadWhat::kEverything); });
  CHECK(contains(message, "3 extra: ema/embed/weight, ema/head/bias, ema/norm/running_mean"));
  CHECK(contains(message,
                 "9 of another shape or type: embed/weight is f32 (3,5) where the model "
                 "has f64 (3,5)"));
}

TEST_CASE(
    "checkpoint: a number in the manifest that no double holds is damage, an older one serves") {
  const TempFolder run;
  ParamStore params;
  declare_small(params);
  save(run.path(), params, 1);
  const std::string newest = save(run.path(), params, 2), manifest = newest + "/manifest.json";
  std::string text = content_of(manifest);
  const size_t at = text.find("\"bytes\": ") + 9;
  text.replace(at, 1, "4e95016");
  put(manifest, text);
  const Loaded back = load_checkpoint(run.path(), params, LoadWhat::kEverything);
  CHECK(back.state.step == 1);
  REQUIRE(back.warnings.size() == 1);
  CHECK(contains(back.warnings[0], "manifest.json: "));
}

TEST_CASE("checkpoint: averaged weights that were never kept are said so") {
  const TempFolder run;
  ParamStore params;
  params.declare("head/bias", {7}, false, true);
  params.allocate(Dtype::kF32);
  save_checkpoint(run.path(), params, state_at(1), kMetadata, 1);
  CHECK(contains(
      error_of(ErrorKind::kFormat, [&] { load_checkpoint(run.path(), params, LoadWhat::kEma); }),
      "step-000000001: keeps no averaged weights"));
}

TEST_CASE("checkpoint: writing that fails anywhere leaves the one before and no rest") {
  const TempFolder run;
  ParamStore params, loaded;
  declare_small(params);
  declare_small(loaded);
  const std::string first = save(run.path(), params, 1);
  std::vector<rlim_t> limits{0, 1, 10};
  for (const std::string& name : names_in(first)) {
    limits.push_back(content_of(first + "/" + name).size() - 1);
  }
  for (const rlim_t limit : limits) {
    std::string message;
    {
      const FileSizeLimit full(limit);
      message = error_of(ErrorKind::kIo, [&] { save(run.path(), params, 2); });
    }
    CAPTURE(limit);
    CHECK(contains(message, ": cannot write: File too large; raise the limit"));
    CHECK_FALSE(contains(message, "\n"));
    CHECK(checkpoints_in(run) == std::vector<std::string>{"latest", "step-000000001"});
    CHECK(load_checkpoint(run.path(), loaded, LoadWhat::kEverything).state.step == 1);
    CHECK(holds_all(loaded, 1));
  }
  put(run / "file", "");
  CHECK(contains(error_of(ErrorKind::kIo, [&] { save(run / "file/run", params, 1); }),
                 "Not a directory"));
  CHECK(error_of(ErrorKind::kIo, [&] { save("/proc/run", params, 1); }) != "no error");
}

namespace {

// In a child, so that what f does to the process stays there: f's return value, -1 if it threw.
template <class F>
int in_child(F&& f) {
  const pid_t child = ::fork();
  if (child == 0) {
    int result = -1;
    try {
      result = f();
    } catch (...) {
    }
    ::_exit(result);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? static_cast<int8_t>(WEXITSTATUS(status)) : -2;
}

// A disk of 256 KiB that this process alone sees.
bool mount_small_disk(const std::string& folder) {
  if (::unshare(CLONE_NEWNS) != 0 && ::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return false;
  ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr);
  return ::mount("tmpfs", folder.c_str(), "tmpfs", 0, "size=256k") == 0;
}

bool can_mount() {
  const TempFolder folder;
  return in_child([&] { return mount_small_disk(folder.path()) ? 1 : 0; }) == 1;
}

}  // namespace

TEST_CASE("checkpoint: a disk that fills up" * doctest::skip(!can_mount())) {
  const TempFolder run;
  const int result = in_child([&] {
    if (!mount_small_disk(run.path())) return 1;
    ParamStore params, loaded;
    declare_small(params);
    declare_small(loaded);
    int64_t step = 0;
    std::string message = "no error";
    while (message == "no error" && ++step < 100) {
      message = error_of(ErrorKind::kIo, [&] { save(run.path(), params, step, 1000); });
    }
    if (step < 3 || step == 100) return 2;
    if (!contains(message, "No space left on device; free some space")) return 3;
    if (load_checkpoint(run.path(), loaded, LoadWhat::kEverything).state.step != step - 1) return 4;
    if (!holds_all(loaded, step - 1)) return 5;
    for (const std::string& name : checkpoints_in(run)) {
      if (name.starts_with(kUnfinished)) return 6;
    }
    // Room again: the run goes on.
    std::filesystem::remove_all(run / "checkpoints/step-000000001");
    save(run.path(), params, step, 1);
    load_checkpoint(run.path(), loaded, LoadWhat::kEverything);
    return holds_all(loaded, step) ? 0 : 7;
  });
  CHECK(result == 0);
}

TEST_CASE("checkpoint: SIGKILL at any moment leaves a checkpoint that fits together") {
  const TempFolder run;
  ParamStore params, loaded;
  declare_small(params);
  declare_small(loaded);
  const auto begin = std::chrono::steady_clock::now();
  save(run.path(), params, 1, 2);
  const std::chrono::duration<double, std::micro> one_save =
      std::chrono::steady_clock::now() - begin;
  const engine::RngKey random(11, engine::Purpose::kTest);
  int64_t last = 1, inside = 0;
  uint64_t kill = 0;
  for (; kill < 20 || (kill < 200 && (inside < 5 || last == 1)); ++kill) {
    const pid_t child = ::fork();
    if (child == 0) {
      try {
        for (int64_t step = last + 1;; ++step) save(run.path(), params, step, 2);
      } catch (...) {
        ::_exit(1);
      }
    }
    // Up to two saves after the time a child needs to begin, and more where that was not enough.
    const int64_t tens = kill / 10;
    const double most = (2 * one_save.count() + 2000) * static_cast<double>(1 + tens);
    ::usleep(static_cast<useconds_t>(random.uniform(kill) * most));
    ::kill(child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
    REQUIRE(WIFSIGNALED(status));
    inside += clean_checkpoints(run.path()) > 0 ? 1 : 0;
    const Loaded back = load_checkpoint(run.path(), loaded, LoadWhat::kEverything);
    CHECK(back.warnings.empty());
    CHECK(back.state.step >= last);
    CHECK(holds_all(loaded, back.state.step));
    last = back.state.step;
    // Nothing else is left, and whatever is called a checkpoint is one.
    for (const std::string& name : checkpoints_in(run)) {
      if (name == "latest") continue;
      const std::string step = run / "checkpoints/" + name;
      CHECK(names_in(step).size() == 4);
      CHECK(holds_all(loaded, load_checkpoint(step, loaded, LoadWhat::kEverything).state.step));
      CHECK(name.starts_with("step-"));
      CHECK(name.size() == 14);
    }
  }
  MESSAGE(kill, " kills, ", inside, " of them in the middle of writing, ", last, " steps");
  CHECK(inside >= 5);
  CHECK(last > 1);
}
