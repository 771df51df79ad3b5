#include <doctest/doctest.h>

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/support/tensors.h"
#include "tests/tools/program.h"
#include "tests/train/temp_folder.h"
#include "train/safetensors.h"

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

TEST_CASE("weights that are not finite are refused unless they are allowed") {
  const TempFolder folder;
  CHECK(run(small(folder / "a", "--steps 1 2>&1")).status == 0);
  const std::string file = folder / "nan.safetensors", vit = folder / "vit.safetensors";
  {
    const train::SafetensorsFile whole(folder / "a/checkpoints/step-000000001/model.safetensors");
    std::vector<std::vector<float>> values;
    std::vector<train::NamedTensor> tensors;
    for (const auto& entry : whole.entries()) {
      values.emplace_back(static_cast<size_t>(entry.shape.numel()));
      const engine::Tensor tensor = engine::test::view(values.back(), entry.shape);
      whole.read(entry.name, tensor);
      if (entry.name == "head.output.bias") values.back()[0] = NAN;
      tensors.push_back({entry.name, tensor});
    }
    train::write_safetensors(file, tensors, whole.metadata());
  }
  const std::string data = " --data shapes:size=16,train=40,test=20", on = " --checkpoint " + file;
  const std::string exporting = "export --out " + vit + on, evaluating = "eval" + data + on;
  const char* refused = "head.output.bias holds numbers that are not finite";
  check_fails(exporting, 1, {"nan.safetensors", refused, "or --allow-nonfinite"});
  check_fails(evaluating, 1, {refused});
  CHECK(run(exporting + " --allow-nonfinite").status == 0);
  // Nothing is counted as right or wrong of which the model says nothing.
  check_fails(evaluating + " --allow-nonfinite", 1, {"is not finite"});
  const std::string init = small(folder / "b", "--steps 1 --init " + vit);
  check_fails(init, 1, {"vit.safetensors", refused, "drop it"});
  const auto trained = run(init + " --allow-nonfinite 2>&1");
  CHECK(trained.status == 1);
  CHECK(contains(trained.out, "step 1: the loss is not finite"));
  // What is dropped may hold anything.
  const std::string rules = " --set 'init.rules=drop:head.output.bias keep:head.output.bias'";
  CHECK(run(small(folder / "c", "--steps 1 --init " + vit + rules)).status == 0);
  check_fails(small(folder / "d", "--steps 1 --allow-nonfinite"), 1, {"init.allow_nonfinite"});
  // A link is not replaced by a file.
  std::filesystem::create_symlink(vit, folder / "link");
  check_fails("export --allow-nonfinite --out " + (folder / "link") + on, 1, {"this is a link"});
  CHECK(std::filesystem::is_symlink(folder / "link"));
  check_fails("export --allow-nonfinite --out /dev/stdout" + on, 1, {"/dev/stdout: cannot write"});
}

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
