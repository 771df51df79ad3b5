#include <doctest/doctest.h>

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/support/devices.h"
#include "tests/tools/program.h"
#include "tests/train/temp_folder.h"

using engine::test::cuda_available;
using nlohmann::json;
using tools::test::check_fails;
using tools::test::Result;
using tools::test::run;
using train::test::contains;
using train::test::content_of;
using train::test::TempFolder;

namespace {

const std::string kData = "shapes:size=16,train=40,test=20";
const std::string kModel =
    " --recipe quick-prc --set train.batch=16 --set model.width=16 --set model.mlp=24"
    " --set model.patch=4 --set model.heads=2 --set model.layers=2 --set moe.layers=0,1"
    " --set moe.experts=4 ";

std::string training(const std::string& out, const std::string& more) {
  return "train --data " + kData + kModel + "--threads 1 --steps 3 --set schedule.warmup_steps=2" +
         " --out " + out + " " + more;
}

}  // namespace

TEST_CASE("program: a device is cpu, cuda or cuda:N") {
  const TempFolder folder;
  const std::string out = folder / "run";
  check_fails(training(out, "--device gpu"), 2, {"--device", "cpu, cuda or cuda:N"});
  check_fails(training(out, "--device cuda:x"), 2, {"--device", "cuda:x"});
  check_fails("eval --checkpoint " + out + " --data shapes: --device tpu", 2, {"--device"});
  check_fails("bench ops --recipe quick-vmoe --device cpu", 2, {"--device"});
  check_fails(training(out, "--precision tf32"), 1, {"tf32", "--device cuda"});
}

TEST_CASE("program: a GPU that is not there is one line" * doctest::skip(cuda_available())) {
  const TempFolder folder;
  const std::string out = folder / "run";
  check_fails(training(out, "--device cuda"), 1, {"CUDA", "--device cpu"});
  check_fails(training(out, "--set train.device=cuda"), 1, {"CUDA", "--device cpu"});
  check_fails("bench train --recipe quick-vmoe --device cuda", 1, {"CUDA", "--device cpu"});
  CHECK_FALSE(std::filesystem::exists(out + "/config.toml"));
}

TEST_CASE("cuda: train, resume, eval, audit, predict and bench" *
          doctest::skip(!cuda_available())) {
  const TempFolder folder;
  const std::string out = folder / "run";
  const Result trained = run(training(out, "--device cuda 2>&1"));
  CAPTURE(trained.out);
  REQUIRE(trained.status == 0);
  CHECK(contains(trained.out, "device: cuda, "));
  // More steps on the CPU, from the GPU's checkpoint.
  const Result more = run("train --resume --out " + out + " --device cpu --threads 1 2>&1");
  CAPTURE(more.out);
  CHECK(more.status == 0);

  const std::string on = " --checkpoint " + out + " --data " + kData + " --threads 1 ";
  for (const std::string verb : {"eval", "audit"}) {
    CAPTURE(verb);
    const std::string cpu = folder / "cpu.json", gpu = folder / "gpu.json";
    CHECK(run(verb + on + "--json " + cpu).status == 0);
    CHECK(run(verb + on + "--device cuda --json " + gpu).status == 0);
    const json a = json::parse(content_of(cpu)), b = json::parse(content_of(gpu));
    if (verb == "eval") {
      CHECK(a["accuracy"] == b["accuracy"]);
      CHECK(std::abs(a["loss"].get<double>() - b["loss"].get<double>()) < 1e-4);
    } else {
      CHECK(a["layers"][0]["match_top1"] == b["layers"][0]["match_top1"]);
      CHECK(a["layers"][1]["load"] == b["layers"][1]["load"]);
    }
  }
  const Result timed = run("bench train" + kModel +
                           "--set train.steps=10 --set schedule.warmup_steps=2 --steps 1 "
                           "--device cuda --ops --json - 2>/dev/null");
  CHECK(timed.status == 0);
  CHECK(contains(json::parse(timed.out)["device"], "cuda, "));
  CHECK(json::parse(timed.out)["replayed"] == 0);  // operations are timed one by one
  const Result replayed = run("bench train" + kModel +
                              "--set train.steps=10 --set schedule.warmup_steps=2 --steps 2 "
                              "--device cuda --json - 2>/dev/null");
  CHECK(replayed.status == 0);
  CHECK(json::parse(replayed.out)["replayed"] == 1);
  check_fails(training(folder / "other", "--device cuda:7"), 1, {"no CUDA device 7"});
}

TEST_CASE("cuda: attacks, experts under attack and adversarial training" *
          doctest::skip(!cuda_available())) {
  const TempFolder folder;
  const std::string out = folder / "run";
  const Result trained =
      run(training(out,
                   "--device cuda --set adversarial.kind=pgd --set adversarial.steps=1"
                   " --set prc.form=none --set data.two_view=false 2>&1"));
  CAPTURE(trained.out);
  REQUIRE(trained.status == 0);
  const std::string on = " --checkpoint " + out + " --data " + kData + " --threads 1 --limit 4 ";
  const std::string how = "--attack noise,pgd,apgd-dlr --steps 2 --eps 4/255 ";
  for (const std::string verb : {"attack", "eval --fixed-expert 'block 0'"}) {
    CAPTURE(verb);
    const Result a = run(verb + on + how + "--json -"),
                 b = run(verb + on + how + "--device cuda --json -");
    REQUIRE(a.status == 0);
    REQUIRE(b.status == 0);
    const json cpu = json::parse(a.out), gpu = json::parse(b.out);
    if (verb == "attack") {
      for (const char* key :
           {"n", "clean_accuracy", "robust_accuracy", "logits_changed", "flags"}) {
        CHECK_MESSAGE(cpu[key] == gpu[key], key);
      }
      CHECK(gpu["per_attack"][0]["l2_mean"] == cpu["per_attack"][0]["l2_mean"]);
    } else {
      REQUIRE(gpu["fixed_expert"].size() == 5);
      for (size_t e = 0; e < 5; ++e) {
        CHECK(gpu["fixed_expert"][e]["accuracy"] == cpu["fixed_expert"][e]["accuracy"]);
        CHECK(gpu["fixed_expert"][e]["pgd_accuracy"] == cpu["fixed_expert"][e]["pgd_accuracy"]);
      }
    }
  }
  // What one device began the other does not go on with.
  const std::string progress = "--attack fgsm --progress " + (folder / "p");
  CHECK(run("attack" + on + progress + " --device cuda").status == 0);
  check_fails("attack" + on + progress, 1, {"--device was \"cuda\", now not there"});
}

TEST_CASE("cuda: a model that does not fit is one line with the arithmetic and what fits" *
          doctest::skip(!cuda_available())) {
  const TempFolder folder;
  check_fails(training(folder / "run",
                       "--device cuda --set train.batch=65536"
                       " --set model.width=4096"),
              1, {"memory plan", "does not fit"});
}
