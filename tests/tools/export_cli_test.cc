#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "tests/tools/program.h"
#include "tests/train/temp_folder.h"

using nlohmann::json;
using tools::test::check_fails;
using tools::test::run;
using train::test::contains;
using train::test::content_of;
using train::test::TempFolder;

namespace {

std::string small(const std::string& out, const std::string& more) {
  return "train --recipe quick-vmoe --out " + out +
         " --data shapes:size=16,train=40,test=20 --threads 1 --set train.batch=16"
         " --set model.width=16 --set model.mlp=24 --set model.patch=4 --set model.heads=2"
         " --set model.layers=2 --set moe.layers=none --set schedule.warmup_steps=1 " +
         more;
}

double loss_of(const std::string& run_dir) {
  const std::string eval =
      "eval --checkpoint " + run_dir + " --data shapes:size=16,train=40,test=20 --json -";
  return json::parse(run(eval).out)["loss"];
}

}  // namespace

TEST_CASE("export, train --init: under timm's names and back, the same model") {
  const TempFolder folder;
  const std::string first = folder / "a", again = folder / "b", file = folder / "vit.safetensors";
  CHECK(run(small(first, "--steps 3 2>&1")).status == 0);
  const std::string exporting = "export --checkpoint " + first + " --out ";
  const auto exported = run(exporting + file + " 2>&1");
  CHECK(exported.status == 0);
  CHECK(contains(exported.out, "GELU is the tanh approximation"));
  // One step, of rate 0: what is evaluated is what was read.
  CHECK(run(small(again, "--steps 1 --init " + file + " 2>&1")).status == 0);
  CHECK(contains(content_of(again + "/log.txt"), "weights of " + file + ": "));
  CHECK(loss_of(again) == loss_of(first));
  check_fails(exporting + first + "/checkpoints/latest", 1, {"would overwrite the checkpoint"});
  check_fails(small(folder / "c", "--steps 1 --set model.width=32 --init " + file), 1,
              {"vit.safetensors", "has another shape"});
}
