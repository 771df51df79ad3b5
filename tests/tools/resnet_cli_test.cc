#include <doctest/doctest.h>

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "data/codec/encode_image.h"
#include "data/dataset.h"
#include "tests/support/devices.h"
#include "tests/tools/program.h"
#include "tests/train/temp_folder.h"
#include "train/safetensors.h"

// A residual network through the program: trained, resumed, judged, attacked, exported, read again.
using nlohmann::json;
using tools::test::check_fails;
using tools::test::Result;
using tools::test::run;
using train::test::contains;
using train::test::content_of;
using train::test::TempFolder;

namespace {

const std::string kData = " --data shapes:size=16,train=64,test=32 ";

std::string small(const std::string& out, const std::string& more = "") {
  return "train --recipe quick-resnet --out " + out + kData +
         "--steps 6 --set train.batch=16 --set model.first_width=4 --set train.ema=0.5"
         " --set checkpoint.every=3 --set log.every=2 " +
         more + " 2>&1";
}

std::string weights(const std::string& run_folder, const std::string& step) {
  return content_of(run_folder + "/checkpoints/step-00000000" + step + "/model.safetensors");
}

}  // namespace

TEST_CASE("resnet: a run that is resumed ends in the same bits, on other threads too") {
  const TempFolder folder;
  const std::string straight = folder / "a", resumed = folder / "b";
  const Result first = run(small(straight, "--threads 1"));
  CHECK_MESSAGE(first.status == 0, first.out);
  CHECK(contains(first.out, "multiply-adds per image"));
  CHECK(contains(first.out, "test accuracy"));
  std::filesystem::copy(straight, resumed, std::filesystem::copy_options::recursive);
  std::filesystem::remove_all(resumed + "/checkpoints/step-000000006");
  const Result second = run(small(resumed, "--threads 5 --resume"));
  CHECK_MESSAGE(second.status == 0, second.out);
  CHECK(weights(resumed, "6") == weights(straight, "6"));
  CHECK(weights(straight, "3") != weights(straight, "6"));
  // Running statistics are among the weights and the averaged weights, and have moved.
  const train::SafetensorsFile model(straight + "/checkpoints/step-000000006/model.safetensors");
  const train::SafetensorsFile state(straight + "/checkpoints/step-000000006/state.safetensors");
  std::vector<float> mean(4), average(4);
  const engine::Shape four{4};
  model.read("bn1.running_mean",
             engine::Tensor(mean.data(), four, engine::Dtype::kF32, engine::Device::kCpu));
  state.read("ema/bn1.running_mean",
             engine::Tensor(average.data(), four, engine::Dtype::kF32, engine::Device::kCpu));
  CHECK(mean[0] != 0);
  CHECK(mean == average);
}

TEST_CASE(
    "resnet: an image's verdict does not depend on its batch, and an attack changes nothing") {
  const TempFolder folder;
  const std::string out = folder / "run";
  REQUIRE(run(small(out)).status == 0);
  const std::string before = weights(out, "6");
  const auto evaluated = [&](const std::string& batch) {
    return json::parse(run("eval --checkpoint " + out + kData + "--json - --batch " + batch).out);
  };
  CHECK(evaluated("1")["loss"] == evaluated("32")["loss"]);
  const auto attacked = [&](const std::string& more) {
    json result = json::parse(run("attack --checkpoint " + out + kData +
                                  "--attack fgsm,pgd --steps 3 --limit 12 --json - " + more)
                                  .out);
    result.erase("batch");
    return result;
  };
  const json one = attacked("--batch 1 --threads 1");
  CHECK(one["n"] == 12);
  CHECK(one["robust_accuracy"] <= one["clean_accuracy"]);
  CHECK(attacked("--batch 7 --threads 2")["per_attack"] == one["per_attack"]);
  CHECK(attacked("--batch 256 --threads 5")["per_attack"] == one["per_attack"]);
  CHECK(weights(out, "6") == before);
}

TEST_CASE("resnet: exported in torchvision's layout and read again") {
  const TempFolder folder;
  const std::string out = folder / "run", file = folder / "torchvision.safetensors";
  REQUIRE(run(small(out)).status == 0);
  const Result exported = run("export --checkpoint " + out + " --out " + file + " 2>&1");
  CHECK_MESSAGE(exported.status == 0, exported.out);
  const train::SafetensorsFile theirs(file);
  CHECK(theirs.find("conv1.weight")->shape == engine::Shape{4, 3, 3, 3});
  CHECK(theirs.find("layer2.0.downsample.0.weight")->shape == engine::Shape{8, 4, 1, 1});
  CHECK(theirs.find("fc.weight")->shape == engine::Shape{10, 32});
  // One step of rate almost 0 from there leaves the weights where they were, but for rounding.
  const std::string again = folder / "again";
  const Result read = run(small(again, "--init " + file + " --steps 1 --set schedule.peak=1e-30"));
  CHECK_MESSAGE(read.status == 0, read.out);
  const auto convolution = [](const std::string& run_folder, const std::string& step) {
    const train::SafetensorsFile model(run_folder + "/checkpoints/step-00000000" + step +
                                       "/model.safetensors");
    std::vector<float> v(3 * 3 * 4 * 4);
    model.read("layer1.0.conv1.weight",
               engine::Tensor(v.data(), {3, 3, 4, 4}, engine::Dtype::kF32, engine::Device::kCpu));
    return v;
  };
  CHECK(convolution(again, "1") == convolution(out, "6"));
}

TEST_CASE("resnet: mixtures of blocks are trained, resumed, audited and judged expert by expert") {
  const TempFolder folder;
  const std::string straight = folder / "a", resumed = folder / "b";
  const std::string moe = "--recipe quick-blockmoe --set moe.experts=3 ";
  const auto command = [&](const std::string& out, const std::string& more) {
    std::string text = small(out, moe + more);
    return text.replace(text.find("--recipe quick-resnet "), 22, "");
  };
  const Result first = run(command(straight, "--threads 1"));
  CHECK_MESSAGE(first.status == 0, first.out);
  CHECK(contains(first.out, "experts "));
  std::filesystem::copy(straight, resumed, std::filesystem::copy_options::recursive);
  std::filesystem::remove_all(resumed + "/checkpoints/step-000000006");
  REQUIRE(run(command(resumed, "--threads 5 --resume")).status == 0);
  CHECK(weights(resumed, "6") == weights(straight, "6"));

  const std::string at = " --checkpoint " + straight + kData;
  const json one = json::parse(run("eval" + at + "--json - --batch 1").out);
  const json fixed =
      json::parse(run("eval" + at + "--json - --fixed-expert layer4.1 --attack pgd --steps 2").out);
  CHECK(one["loss"] == fixed["loss"]);
  CHECK(fixed["fixed_expert_layer"] == "layer4.1");
  CHECK(fixed["steps"] == 2);
  REQUIRE(fixed["fixed_expert"].size() == 4);
  CHECK(fixed["fixed_expert"][3]["expert"] == -1);
  CHECK(fixed["fixed_expert"][3]["loss"] == fixed["loss"]);
  CHECK(fixed["fixed_expert"][0]["loss"] != fixed["loss"]);
  for (const json& row : fixed["fixed_expert"]) CHECK(row["pgd_accuracy"] <= row["accuracy"]);
  CHECK(fixed["multiply_adds_active"] < fixed["multiply_adds_all_experts"]);
  CHECK(fixed["multiply_adds_routers"] == 3 * (16 + 32));

  const json audit = json::parse(run("audit" + at + "--json -").out);
  REQUIRE(audit["layers"].size() == 2);
  CHECK(audit["layers"][0]["load"].size() == 3);
  check_fails("eval" + at + "--fixed-expert layer9", 1, {"layer9", "layer4.0, layer4.1"});
  check_fails("eval" + at + "--attack pgd", 2, {"--fixed-expert"});
  check_fails("eval" + at + "--fixed-expert layer4.0 --steps 3", 2, {"--steps", "--attack"});
  // An image's verdict is its own, and the model's file stays as it was.
  const std::string before = weights(straight, "6");
  const auto attacked = [&](const std::string& more) {
    const Result result =
        run("attack" + at + "--attack fgsm,pgd --steps 3 --limit 20 --json - " + more);
    CHECK_MESSAGE(result.status == 0, result.out);
    return json::parse(result.out);
  };
  const json alone = attacked("--batch 1 --threads 1");
  for (const char* key : {"per_attack", "router_gradient_share"}) {
    CHECK(attacked("--batch 7 --threads 2")[key] == alone[key]);
    CHECK(attacked("--batch 256 --threads 5")[key] == alone[key]);
  }
  for (const json& attack : alone["per_attack"]) {
    REQUIRE(attack["routing"].size() == 2);
    CHECK(attack["routing"][1]["layer"] == "layer4.1");
    CHECK(attack["routing"][1]["change"] >= 0);
    CHECK(attack["frozen_routing_accuracy"] <= alone["clean_accuracy"]);
  }
  CHECK(weights(straight, "6") == before);
  // Out in PyTorch's layout and in again.
  const std::string file = folder / "moe.safetensors", again = folder / "again";
  REQUIRE(run("export --checkpoint " + straight + " --out " + file).status == 0);
  const Result read =
      run(command(again, "--init " + file + " --steps 1 --set schedule.peak=1e-30"));
  CHECK_MESSAGE(read.status == 0, read.out);
  check_fails(command(folder / "c", "--set 'moe.layers=blocks layer5'"), 1,
              {"layer5", "layer1.0", "layer4.1"});
  const Result bench =
      run("bench experts --recipe quick-blockmoe --set model.first_width=4"
          " --set train.batch=8 --json -");
  CHECK_MESSAGE(bench.status == 0, bench.out);
  CHECK(json::parse(bench.out)["batch_1_routed_ratio"] > 0);
  CHECK(json::parse(bench.out)["batch_8_even_ratio"] > 0);
  // The page of a run, whose patches are whole images.
  const Result page = run("report --run " + straight + " --out " + (folder / "r.html") + " 2>&1");
  CHECK_MESSAGE(page.status == 0, page.out);
  check_fails("bench experts --recipe quick-vmoe", 1, {"residual networks", "quick-blockmoe"});
}

TEST_CASE("resnet: what has no meaning for it is refused in one line") {
  const TempFolder folder;
  const std::string out = folder / "run";
  check_fails(small(out, "--set moe.layers=1"), 1, {"moe.layers", "resnet18"});
  check_fails(small(out, "--set model.kind=resnet7"), 1, {"model.kind", "resnet18"});
  // The plan's line, before memory of such a size is asked for.
  check_fails(small(out, "--set model.first_width=65536"), 1,
              {"memory plan: ", "MiB = weights ", "does not fit into the "});
  check_fails(small(out, "--set prc.form=paper --set data.two_view=true"), 1, {"data.two_view"});
  const Result diverged = run(small(out, "--set adversarial.kind=pgd --set schedule.peak=1e30"));
  CHECK(diverged.status == 1);
  CHECK(contains(diverged.out, "try a lower schedule.peak"));
  REQUIRE(run(small(out)).status == 0);
  check_fails("audit --checkpoint " + out + kData, 1, {"no MoE layers"});
  check_fails("report --run " + out + " --out " + (folder / "r.html"), 1, {"no MoE layers"});
  check_fails("bench ops --recipe quick-resnet", 1, {"vision transformers", "resnet18"});
}

TEST_CASE("cuda: mixtures are trained, resumed, judged, audited and predict" *
          doctest::skip(!engine::test::cuda_available())) {
  const TempFolder folder;
  const std::string out = folder / "run", data = " --data shapes:size=16,train=64,test=20 ";
  const Result trained = run(
      "train --recipe quick-blockmoe --out " + out + data +
      "--steps 3 --set train.batch=16 --set model.first_width=2 --set moe.experts=3"
      " --set image_moe.balance=switch --set checkpoint.every=2 --threads 1 --device cuda 2>&1");
  REQUIRE_MESSAGE(trained.status == 0, trained.out);
  CHECK(contains(trained.out, "device: cuda, "));
  const std::string last = out + "/checkpoints/step-000000003";
  REQUIRE(std::filesystem::remove_all(last) > 0);
  CHECK(run("train --resume --out " + out + " --device cpu 2>&1").status == 0);
  CHECK(std::filesystem::exists(last));

  const auto on_both = [&](const std::string& command) {
    const std::string all = command + " --checkpoint " + out + " --threads 1 --json - ";
    const Result cpu = run(all), gpu = run(all + "--device cuda");
    REQUIRE(cpu.status == 0);
    REQUIRE(gpu.status == 0);
    return std::pair(json::parse(cpu.out), json::parse(gpu.out));
  };
  const auto near = [](const json& a, const json& b) {
    return std::abs(a.get<double>() - b.get<double>()) < 1e-4;
  };
  const auto eval = on_both("eval --fixed-expert layer4.1" + data);
  CHECK(near(eval.first["loss"], eval.second["loss"]));
  CHECK(eval.first["accuracy"] == eval.second["accuracy"]);
  for (size_t e = 0; e < 4; ++e) {
    CHECK(near(eval.first["fixed_expert"][e]["loss"], eval.second["fixed_expert"][e]["loss"]));
  }
  const auto audit = on_both("audit" + data);
  for (size_t layer = 0; layer < 2; ++layer) {
    const json &a = audit.first["layers"][layer], &b = audit.second["layers"][layer];
    CHECK(a["load"] == b["load"]);
    CHECK(a["match_top2"] == b["match_top2"]);
  }
  data::ImageU8 image;
  data::open_dataset("shapes:size=16,train=64,test=20", data::Split::kTest)->read(5, image);
  const auto png = data::encode_png(image);
  train::test::put(folder / "p.png", {png.begin(), png.end()});
  const auto predicted = on_both("predict " + (folder / "p.png"));
  const json &a = predicted.first["images"][0], &b = predicted.second["images"][0];
  CHECK(a["top"][0]["name"] == b["top"][0]["name"]);
  CHECK(near(a["top"][0]["probability"], b["top"][0]["probability"]));
  CHECK(a["layers"].size() == 2);
}
