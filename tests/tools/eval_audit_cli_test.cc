#include <doctest/doctest.h>

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/tools/program.h"
#include "tests/train/small_model.h"
#include "tests/train/temp_folder.h"
#include "train/checkpoint.h"
#include "train/safetensors.h"

using nlohmann::json;
using tools::test::Result;
using tools::test::run;
using train::test::contains;
using train::test::content_of;
using train::test::SmallModel;
using train::test::TempFolder;

namespace {

constexpr const char* kData = "shapes:size=16,train=30,test=30";

// A run directory with one checkpoint of a small model, with averaged weights of its own.
void make_run(const std::string& folder, const std::vector<std::string>& settings = {}) {
  SmallModel small(kData, settings);
  small.model.params.allocate(engine::Slab::kEma);
  train::CheckpointState state;
  state.step = 12;
  train::save_checkpoint(folder, small.model.params, state,
                         {{"config", train::to_toml(small.config, false)}}, 1);
}

std::string on(const std::string& checkpoint, const std::string& data = kData) {
  return " --checkpoint " + checkpoint + " --data " + data + " ";
}

// As check_fails of program.h, for one part and mostly exit code 1.
void check_fails(const std::string& arguments, const std::string& part, int status = 1) {
  tools::test::check_fails(arguments, status, {part});
}

}  // namespace

TEST_CASE("eval: text and JSON") {
  const TempFolder folder;
  make_run(folder / "run");
  const Result text = run("eval" + on(folder / "run") + "--json " + (folder / "eval.json"));
  CHECK(text.status == 0);
  CHECK(contains(text.out, "step 12"));
  CHECK(contains(text.out, "n 30"));
  CHECK(contains(text.out, " ± "));
  CHECK_FALSE(contains(text.out, "neighbours"));
  const json result = json::parse(content_of(folder / "eval.json"));
  for (const char* key : {"accuracy", "accuracy_se", "n", "loss", "loss_se", "seconds",
                          "images_per_s", "step", "checkpoint", "data", "split"}) {
    CHECK_MESSAGE(result.contains(key), key);
  }
  CHECK(result["n"] == 30);
  CHECK(result["step"] == 12);

  const json other = json::parse(
      run("eval" + on(folder / "run") + "--split train --limit 7 --batch 3 --threads 1 --json -")
          .out);
  CHECK(other["n"] == 7);
  CHECK(other["split"] == "train");
  const json part =
      json::parse(run("eval" + on(folder / "run") + "--split 'train[50%:]' --json -").out);
  CHECK(part["n"] == 15);
  CHECK(part["split"] == "train[50%:]");
  // Pictures that are drawn are called 0, 1, ...; every class counts as right, of two images none.
  std::string list = "[[], []";
  for (int i = 3; i < 30; ++i) list += ",[0,1,2,3,4,5,6,7,8,9]";
  train::test::put(folder / "real.json", list + "]");
  const json several = json::parse(run("eval" + on(folder / "run") + "--split 'test[1:]' " +
                                       "--multi-labels " + (folder / "real.json") + " --json -")
                                       .out);
  CHECK(several["multi_label_n"] == 27);
  CHECK(several["multi_label_accuracy"] == 1);
  CHECK(several["n"] == 29);
  // The averaged weights are all zero here, so every class has the same logit.
  const json ema = json::parse(run("eval" + on(folder / "run") + "--ema --json -").out);
  CHECK(ema["loss"].get<double>() == doctest::Approx(std::log(10)));
  const std::string weights = folder / "run/checkpoints/step-000000012/model.safetensors";
  CHECK(json::parse(run("eval" + on(weights) + "--json -").out)["accuracy"] == result["accuracy"]);
}

TEST_CASE("audit: text, JSON and dump") {
  const TempFolder folder;
  make_run(folder / "run");
  const std::string audit = "audit" + on(folder / "run") + "--noise-levels 0,0.05,0.5 --seed 4 ";
  const Result text =
      run(audit + "--json " + (folder / "a.json") + " --dump " + (folder / "d.safetensors"));
  CHECK(text.status == 0);
  for (const char* part : {"layer 0", "layer 1", "mutual information", "by chance", "sigma"})
    CHECK_MESSAGE(contains(text.out, part), part);
  const json result = json::parse(content_of(folder / "a.json"));
  CHECK(result["n_images"] == 30);
  CHECK(result["seed"] == 4);
  CHECK(result.contains("accuracy"));
  REQUIRE(result["layers"].size() == 2);
  for (const json& layer : result["layers"]) {
    for (const char* key :
         {"layer", "n_pairs", "match_top1", "match_top1_se", "match_top1_chance",
          "mutual_information", "effective_experts", "margin_mean", "match_top2",
          "match_top2_any_order", "confidence_first", "confidence_second", "confidence_rest",
          "s_diagonal_mean", "s_offdiagonal_mean", "dropped_share"}) {
      CHECK_MESSAGE(layer[key].is_number(), key);
    }
    CHECK(layer["load"].size() == 4);
  }
  REQUIRE(result["noise_sweep"].size() == 3);
  CHECK(result["noise_sweep"][2]["sigma"] == 0.5);
  CHECK(result["noise_sweep"][2]["top1_flips"].size() == 2);
  const train::SafetensorsFile dump(folder / "d.safetensors");
  REQUIRE(dump.find("probabilities") != nullptr);
  CHECK(dump.find("probabilities")->shape == engine::Shape{30 * 2 * 17 * 2, 4});

  const Result threads = run(audit + "--threads 1 --batch 5 --json -");
  CHECK(threads.out == content_of(folder / "a.json"));
  CHECK(run(audit + "--seed 5 --json -").out != threads.out);
  CHECK(json::parse(
            run("audit" + on(folder / "run") + "--noise-levels none --json -").out)["noise_sweep"]
            .size() == 1);
}

TEST_CASE("audit: a way into noise") {
  const TempFolder folder;
  make_run(folder / "run");
  const std::string audit =
      "audit" + on(folder / "run") + "--noise-levels none --noise-path 8:0.4 ";
  const json path = json::parse(run(audit + "--json -").out)["noise_path"];
  CHECK(path["steps"] == 8);
  CHECK(path["sigma"] == 0.4);
  CHECK(path["n_images"] == 30);
  CHECK(path["set_changes"].size() == 2);
  CHECK(path["largest_logit_step"] >= path["mean_logit_step"]);
  CHECK(contains(run(audit).out, "On a straight way of 8 steps into noise of sigma 0.400"));
  for (const char* wrong : {"8", "8:", ":0.2", "0:0.2", "8:0", "8:0.2x", "8:-1", "x:0.2"}) {
    check_fails("audit" + on(folder / "run") + "--noise-path " + wrong, "STEPS:SIGMA", 2);
  }
}

TEST_CASE("eval, audit: capacity at evaluation is said") {
  const TempFolder folder;
  make_run(folder / "run", {"moe.dispatch=capacity", "moe.eval_capacity_factor=1"});
  for (const char* verb : {"eval", "audit"}) {
    const Result result = run(verb + on(folder / "run"));
    CHECK(result.status == 0);
    CHECK(contains(result.out, "Predictions depend on batch neighbours"));
  }
}

TEST_CASE("eval, audit: what cannot work is one line") {
  const TempFolder folder;
  make_run(folder / "run");
  make_run(folder / "dense", {"moe.layers=none"});
  const std::string run_folder = folder / "run";
  check_fails("audit" + on(folder / "dense"), "no MoE layers");
  for (const std::string verb : {"eval", "audit"}) {
    check_fails(verb + on(folder / "none"), "none");
    check_fails(verb + on(run_folder, "shaeps:"), "did you mean");
    check_fails(verb + on(run_folder, "idx:" + folder.path()), folder.path());
    check_fails(verb + on(run_folder) + "--json " + (folder / "no/such.json"), "such.json");
    check_fails(verb + on(run_folder) + "--json /dev/null", "no regular file");
    check_fails(verb + " --data shapes:", "--checkpoint is required", 2);
    check_fails(verb + " --checkpoint " + run_folder, "--data is required", 2);
    check_fails(verb + on(run_folder) + "--split val",
                "--split: \"val\" is no split, expected train, test, or a part", 2);
    check_fails(verb + on(run_folder) + "--limit -1", "--limit is -1", 2);
    check_fails(verb + on(run_folder) + "--batch 0", "--batch is 0", 2);
    check_fails(verb + on(run_folder) + "--threads 4097", "expected an integer from 0 to 4096", 2);
    check_fails(verb + on(run_folder) + "--json=", "--json has no value", 2);
    check_fails(verb + on(run_folder) + "--ema=false", "--ema takes no value", 2);
    check_fails(verb + on(run_folder) + "--json " + run_folder + "/checkpoints/latest",
                "would overwrite the checkpoint");
  }
  check_fails("audit" + on(run_folder) + "--noise-levels 0.1,,2", "--noise-levels", 2);
  check_fails("audit" + on(run_folder) + "--noise-levels -1", "--noise-levels", 2);
  check_fails("audit" + on(run_folder) + "--noise-levels 1e300", "from 0 to 1000", 2);
  check_fails("audit" + on(run_folder) + "--dump " + (folder / "no/such.safetensors"), "such");

  check_fails("audit" + on(run_folder) + "--json x --dump ./x", "the same file");
  const std::string weights = folder / "run/checkpoints/step-000000012/model.safetensors";
  check_fails("audit" + on(weights) + "--dump " + weights, "would overwrite the checkpoint");

  // A data set of another kind of picture, and one without a test split.
  std::string images("\0\0\x08\x03\0\0\0\1\0\0\0\x10\0\0\0\x10", 16),
      labels("\0\0\x08\1\0\0\0\1\2", 9);
  images.append(256, 'x');
  std::filesystem::create_directory(folder / "grey");
  train::test::put(folder / "grey/train-images-idx3-ubyte", images);
  train::test::put(folder / "grey/train-labels-idx1-ubyte", labels);
  const std::string grey = "idx:" + (folder / "grey");
  check_fails("eval" + on(run_folder, grey) + "--split train", "has 1 channels");
  check_fails("eval" + on(run_folder, grey), "t10k");

  // Weights with a NaN, and of a model that no machine holds.
  const std::string file = folder / "run/checkpoints/step-000000012/model.safetensors";
  const std::string bytes = content_of(file), other = folder / "other.safetensors";
  train::test::put(other, bytes.substr(0, bytes.size() - 4) + "\xff\xff\xff\xff");
  check_fails("eval" + on(other), other + ": ");
  check_fails("eval" + on(other), "holds numbers that are not finite");
  SmallModel small(kData, {});
  small.config.model.layers = 1000;
  small.config.model.mlp = 262144;
  small.config.moe.layers = "every 1";
  small.config.moe.experts = 4096;
  train::CheckpointState state;
  state.step = 1;
  train::save_checkpoint(folder / "huge", small.model.params, state,
                         {{"config", train::to_toml(small.config, false)}}, 1);
  check_fails("eval" + on(folder / "huge"), "more than fit into the");

  // Weights that lost a byte.
  std::filesystem::resize_file(file, std::filesystem::file_size(file) - 1);
  check_fails("eval" + on(file), "model.safetensors");
}
