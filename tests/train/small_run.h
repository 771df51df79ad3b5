#pragma once

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "tests/support/bits.h"
#include "tests/train/small_model.h"
#include "tests/train/temp_folder.h"
#include "train/trainer.h"

// Whole training runs of a small model.
namespace train::test {

using Settings = std::vector<std::string>;

// Sends standard output elsewhere while a run prints its lines.
class Quiet {
 public:
  Quiet() : before_((std::fflush(stdout), ::dup(1))) {
    const int nowhere = ::open("/dev/null", O_WRONLY);
    ::dup2(nowhere, 1);
    ::close(nowhere);
  }
  ~Quiet() {
    std::fflush(stdout);
    ::dup2(before_, 1);
    ::close(before_);
  }
  Quiet(const Quiet&) = delete;
  Quiet& operator=(const Quiet&) = delete;

 private:
  int before_;
};

// 40 images in steps of 16 views: epochs end inside steps 3, 5, 8 and 10. Accumulation, averaged
// weights and a warm-up that a stop interrupts are on.
inline const Settings kRun = {"train.steps=12",          "train.batch=16",   "train.micro_batch=8",
                              "train.ema=0.9",           "optimizer.clip=1", "schedule.peak=0.01",
                              "schedule.warmup_steps=4", "log.every=1",      "checkpoint.every=5"};

// Continue a run? Stop after one step?
struct Options {
  bool resume = false, stop = false;
  int threads = 1;
  const char* data = "shapes:size=16,train=40,test=20";
};

inline Outcome run(const std::string& folder, const Settings& more = {},
                   const Options& options = {}) {
  const Quiet quiet;
  const engine::test::Threads threads(options.threads);
  const auto training = data::open_dataset(options.data, data::Split::kTrain);
  const auto test = data::open_dataset(options.data, data::Split::kTest);
  Settings settings = kRun;
  settings.insert(settings.end(), more.begin(), more.end());
  const train::Config config = small_config(*training, settings);
  train::validate(config);
  const volatile std::sig_atomic_t stop = options.stop ? 1 : 0;
  train::Trainer trainer(config, *training, test.get(),
                         {.run_dir = folder,
                          .resume = options.resume,
                          .resume_command = "the command to go on",
                          .stop = &stop});
  return trainer.run();
}

inline std::string file_of_step(const std::string& folder, int step, const std::string& name) {
  char directory[32];
  std::snprintf(directory, sizeof directory, "step-%09d", step);
  return content_of(folder + "/checkpoints/" + directory + "/" + name);
}

// The tensors of a .safetensors file without its header, which holds the settings.
inline std::string tensors(const std::string& file) {
  uint64_t header = 0;
  REQUIRE(file.size() > sizeof header);
  std::memcpy(&header, file.data(), sizeof header);
  REQUIRE(file.size() > sizeof header + header);
  return file.substr(sizeof header + header);
}

}  // namespace train::test
