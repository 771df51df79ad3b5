#include <doctest/doctest.h>

#include <string>

#include "tests/train/small_run.h"
#include "train/checkpoint.h"
#include "train/config.h"

using train::Outcome;
using train::test::contains;
using train::test::content_of;
using train::test::error_of;
using train::test::file_of_step;
using train::test::run;
using train::test::Settings;
using train::test::TempFolder;
using train::test::tensors;

namespace {

constexpr const char* kLarger = "shapes:size=24,train=40,test=20";

// What a published fine-tuning recipe says about weights, to be started from `from`.
Settings fine_tuning(const std::string& from) {
  return {"init.from=" + from, "init.rules=" + train::load_config("prc-s32-ft-cifar10").init.rules,
          "moe.top_k=1", "optimizer.name=sgd", "schedule.warmup_steps=2"};
}

}  // namespace

TEST_CASE("fine-tuning: another size and K, head and pre_logits dropped, resumed bit for bit") {
  const TempFolder folder;
  // Pre-trained on 16 pixels (4 x 4 patches), 12 classes, with pre_logits.
  run(folder / "from", {"model.classes=12", "model.pre_logits=true", "train.loss=sigmoid"});
  const Settings settings = fine_tuning(folder / "from");
  CHECK(run(folder / "straight", settings, {.data = kLarger}) == Outcome::kDone);
  const std::string log = content_of(folder / "straight/log.txt");
  CHECK(contains(log, "weights of " + (folder / "from")));
  CHECK(contains(log,
                 " taken, 1 zoomed (stem.position), 4 dropped (head.output.bias, "
                 "head.output.weight, head.pre_logits.bias, head.pre_logits.weight), 2 left as "
                 "initialised (head.output.bias, head.output.weight)"));
  for (int stops = 0; stops < 3; ++stops) {
    CHECK(run(folder / "stopped", settings, {.resume = stops > 0, .stop = true, .data = kLarger}) ==
          Outcome::kStopped);
  }
  CHECK(run(folder / "stopped", settings, {.resume = true, .threads = 2, .data = kLarger}) ==
        Outcome::kDone);
  CHECK(tensors(file_of_step(folder / "stopped", 12, "model.safetensors")) ==
        tensors(file_of_step(folder / "straight", 12, "model.safetensors")));
  // From there to a smaller size again.
  CHECK(run(folder / "back", fine_tuning(folder / "straight"), {}) == Outcome::kDone);
  CHECK(contains(content_of(folder / "back/log.txt"), "1 zoomed (stem.position)"));
}

TEST_CASE("fine-tuning: the recipe's rules without weights to start from are refused") {
  const TempFolder folder;
  const std::string rules = train::load_config("vmoe-s32-ft-imagenet").init.rules;
  const std::string message =
      error_of(engine::ErrorKind::kValue, [&] { run(folder / "run", {"init.rules=" + rules}); });
  CHECK(contains(message, "needs weights to start from: give --init PATH"));
}
