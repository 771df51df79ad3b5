#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/support/tensors.h"
#include "tests/tools/program.h"
#include "tests/train/small_model.h"
#include "tests/train/temp_folder.h"
#include "train/checkpoint.h"
#include "train/safetensors.h"

using nlohmann::json;
using tools::test::check_fails;
using tools::test::Result;
using tools::test::run;
using train::test::contains;
using train::test::SmallModel;
using train::test::TempFolder;

TEST_CASE("attack: text, JSON, and eps written in both ways") {
  const TempFolder folder;
  SmallModel small("shapes:size=16,train=30,test=30", {});
  train::CheckpointState state;
  state.step = 12;
  train::save_checkpoint(folder / "run", small.model.params, state,
                         {{"config", train::to_toml(small.config, false)}}, 1);
  const std::string attack =
      "attack --checkpoint " + (folder / "run") + " --data shapes:size=16,train=30,test=30 ";
  const Result text = run(attack + "--attack fgsm,pgd --steps 3");
  CHECK(text.status == 0);
  for (const char* part : {"step 12", "linf, eps 0.0313725 (8/255)", "n 30", "without attack",
                           "fgsm", "pgd", "worst case", " ± "}) {
    CHECK_MESSAGE(contains(text.out, part), part);
  }
  const json result = json::parse(
      run(attack + "--eps 0.5/10 --norm l2 --steps 3 --limit 8 --from-clean --json -").out);
  CHECK(result["eps"] == 0.05);
  CHECK(result["norm"] == "l2");
  CHECK(result["n"] == 8);
  CHECK(result["step"] == 12);
  CHECK(result["attack_step"] == 0.0125);
  CHECK(result["random_start"] == 0);
  CHECK(result["per_attack"][0]["l2_largest"].get<double>() <= 0.05 * (1 + 1e-9));

  for (const auto& [option, part] : {std::pair{"--eps -8/255", "--eps"},
                                     {"--eps 8/0", "--eps"},
                                     {"--eps eight", "--eps"},
                                     {"--eps 8/255/2", "--eps"},
                                     {"--step nan", "--step"},
                                     {"--norm l1", "linf or l2"},
                                     {"--attack cw", "noise, fgsm, pgd"},
                                     {"--attack pgd,,fgsm", "--attack"},
                                     {"--steps 0", "--steps"},
                                     {"--restarts 0", "--restarts"},
                                     {"--seed -1", "--seed"},
                                     {"--sigma -1", "--sigma"}}) {
    check_fails(attack + option, 2, {part});
  }
  check_fails("attack --checkpoint " + (folder / "run") +
                  " --data shapes: --attack pgd --limit 1 " + "--json " + (folder / "no/such/file"),
              1, {"cannot write"});
}

TEST_CASE("attack: signs that it saw too little are flags in text and JSON") {
  const TempFolder folder;
  SmallModel small("shapes:size=16,train=30,test=200", {});
  const auto attacked = [&](const std::string& output) {
    train::CheckpointState state;
    state.step = 1;
    train::save_checkpoint(folder / "run", small.model.params, state,
                           {{"config", train::to_toml(small.config, false)}}, 1);
    const Result result = run("attack --checkpoint " + (folder / "run") +
                              " --data shapes:size=16,train=30,test=200 --attack pgd,apgd-dlr"
                              " --steps 2 " +
                              output);
    CHECK(result.status == 0);
    return result.out;
  };
  const json good = json::parse(attacked("--json -"));
  CHECK(good["clean_accuracy"] > 0);
  CHECK(good["flags"].empty());
  CHECK(good["logits_changed"] == 0);
  CHECK(good["per_attack"][0]["zero_gradients"] == 0);
  CHECK_FALSE(contains(attacked(""), "flag"));
  // Weights so large that the softmax saturates.
  const auto head =
      small.model.params.view(small.model.params.find("head.output.weight"), engine::Slab::kValue);
  for (int64_t i = 0; i < head.numel(); ++i) head.data<float>()[i] *= 1e4f;
  const json blind = json::parse(attacked("--json -"));
  CHECK(blind["flags"] == json::array({"zero_gradients"}));
  CHECK(blind["per_attack"][0]["zero_gradients"] > 0);
  CHECK(blind["per_attack"][1]["zero_gradients"] == 0);
  CHECK(contains(attacked(""), "\n  flag zero_gradients: the gradient at the clean image is "));
}

TEST_CASE("attack: images are saved, and starts are taken from a file") {
  const TempFolder folder;
  const std::string data = " --data shapes:size=16,train=30,test=30 ", run_folder = folder / "run";
  REQUIRE(run("train --recipe quick-resnet --data shapes:size=16,train=64,test=30 --steps 30"
              " --set train.batch=16 --set model.first_width=4 --out " +
              run_folder)
              .status == 0);
  const std::string attack =
      "attack --checkpoint " + run_folder + data + "--limit 9 --steps 3 --batch 4 --json - ";
  const std::string file = folder / "saved.safetensors", starts = folder / "starts.safetensors";
  const Result saved = run(attack + "--attack pgd,apgd,pgd --from-clean --save " + file);
  REQUIRE(saved.status == 0);
  const json result = json::parse(saved.out);
  const train::SafetensorsFile images(file);
  CHECK(images.entries().size() == 9);
  CHECK(result["clean_accuracy"] > 0);
  std::vector<float> clean(9 * 768), adversarial(9 * 768);
  std::vector<uint8_t> right(9), broken(9);
  const auto read = [&](const std::string& name, auto& to, const engine::Shape& shape) {
    images.read(name, engine::test::view(to, shape));
  };
  read("images", clean, {9, 3, 16, 16});
  read("pgd.images", adversarial, {9, 3, 16, 16});
  read("right", right, {9});
  read("pgd.2.broken", broken, {9});
  double largest = 0;
  for (size_t i = 0; i < clean.size(); ++i) {
    largest = std::max(largest, std::abs(double{clean[i]} - double{adversarial[i]}));
  }
  CHECK(largest <= 8.0 / 255 * (1 + 1e-6));
  CHECK(std::count(right.begin(), right.end(), 1) ==
        std::lround(result["clean_accuracy"].get<double>() * 9));
  CHECK(std::count(broken.begin(), broken.end(), 0) ==
        std::lround(result["per_attack"][2]["robust_accuracy"].get<double>() * 9));
  // From the clean images themselves.
  train::write_safetensors(starts, std::vector<train::NamedTensor>{
                                       {"starts", engine::test::view(clean, {9, 3, 16, 16})}});
  const json given = json::parse(run(attack + "--attack pgd,apgd,pgd --starts " + starts).out);
  CHECK(given["per_attack"][0] == result["per_attack"][0]);
  const json drawn = json::parse(run(attack + "--attack pgd,apgd,pgd").out);
  CHECK(drawn["per_attack"][0] != result["per_attack"][0]);

  check_fails("attack --checkpoint " + run_folder + data + "--limit 10 --starts " + starts, 1,
              {"9 starts", "10 images"});
  check_fails(attack + "--starts " + file, 1, {"there is no tensor starts", "(n, 3, 16, 16)"});
  check_fails(attack + "--starts " + (folder / "none"), 1, {"none"});
  train::write_safetensors(
      starts, std::vector<train::NamedTensor>{{"starts", engine::test::view(clean, {6912})}});
  check_fails(attack + "--starts " + starts, 1, {"starts is (6912)", "(n, 3, 16, 16)"});
  CHECK(run(attack + "--norm l2 --eps 1e300 --attack pgd,apgd").status == 0);
  check_fails(attack + "--save " + (folder / "no/such/file"), 1, {"cannot write"});
  check_fails(attack + "--save " + run_folder + "/checkpoints/x", 1, {"checkpoint"});
}
