#include <doctest/doctest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "engine/config.h"
#include "engine/core/cpu_limits.h"
#include "engine/core/cuda_runtime.h"
#include "tests/tools/program.h"
#include "tests/train/temp_folder.h"
#include "tools/commands/command.h"
#include "tools/commands/doctor_advice.h"
#include "train/recipe.h"

using nlohmann::json;
using tools::test::check_fails;
using tools::test::Result;
using tools::test::run;
using train::test::contains;
using train::test::content_of;
using train::test::TempFolder;

namespace {

const std::string kSmall =
    "doctor --recipe quick-prc --set model.width=24 --set model.heads=3 "
    "--set model.mlp=24 --set model.image_size=14 --seconds 0.1 ";

int gpu_count() {
  if constexpr (engine::kCudaEnabled) return engine::cuda_device_count();
  return 0;
}

}  // namespace

TEST_CASE("doctor: rates of the machine and a forecast, as text and as JSON") {
  const TempFolder folder;
  const Result text = run(kSmall + "--threads 1 --images 640 --out " + folder.path() + " --json " +
                          (folder / "x.json"));
  REQUIRE(text.status == 0);
  for (const char* part :
       {"cores ", "; 1 thread\n", "products   f32 ", "memory ", "pictures ", "disk ",
        "quick-prc: about ", "an epoch of 640 images in ", "needs ", "try "}) {
    CHECK_MESSAGE(contains(text.out, part), part);
  }
  const json all = json::parse(content_of(folder / "x.json"));
  for (const char* rate : {"f32_gflops", "bf16_gflops", "memory_gb_s", "jpeg_per_s", "disk_mb_s",
                           "step_s", "views_per_s", "needs_bytes"}) {
    CHECK_MESSAGE(all.at(rate).get<double>() > 0, rate);
  }
  CHECK(all["threads"] == 1);
  CHECK(contains(text.out, "\ngpu        "));
  CHECK(all["cuda"] == tools::cuda_of_build());
  CHECK(static_cast<int>(all["gpus"].size()) == gpu_count());
  CHECK(contains(text.out, "this build has no CUDA backend") == !engine::kCudaEnabled);
  for (const json& gpu : all["gpus"]) {
    CHECK(contains(text.out, gpu["name"].get<std::string>()));
    CHECK(gpu["memory_bytes"].get<double>() > 0);
    CHECK(contains(text.out, "compute capability " + gpu["compute_capability"].get<std::string>()));
    CHECK(contains(text.out, "this build has code for it") ==
          (gpu["has_code"].get<bool>() && gpu["trouble"].get<std::string>().empty()));
  }
  // The file for the disk is gone.
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 1);
}

TEST_CASE("doctor: an emulated CUDA backend says so" *
          doctest::skip(tools::cuda_of_build() != "emulated")) {
  const Result with = run(kSmall + "--threads 1");
  CHECK(
      contains(with.out, "gpu        cuda:0 emulated on the CPU, 4.0 GiB, compute capability 9.0"));
  CHECK(contains(with.out, "the emulated backend, for tests"));
  CHECK(contains(run("--version").out, "cpu, cuda (emulated on the CPU, for tests)\n"));
}

TEST_CASE("doctor: what would help follows from the rates") {
  train::Config config = train::load_config("quick-prc");
  train::set_value(config, "model.image_size=224");
  train::set_value(config, "train.batch=128");
  train::set_value(config, "data.two_view=true");
  train::set_value(config, "data.workers=2");
  tools::Machine m;
  m.limits = {8, 4};
  m.f32 = 300;
  m.bf16 = 200;
  m.pictures = 800;
  tools::Forecast f;
  f.step_s = 0.5;  // 128 images/s
  f.needs = int64_t{3} << 30;
  f.available = int64_t{4} << 30;
  CHECK(tools::advice(config, m, f, 4, "").empty());
  const auto only = [&](int64_t threads = 4, const std::string& isa = "") {
    const auto all = tools::advice(config, m, f, threads, isa);
    return all.size() == 1 ? all[0] : "lines: " + std::to_string(all.size());
  };
  CHECK(contains(only(5), "--threads 4: more"));
  CHECK(contains(only(4, "base"), "unset ROBUSTMOE_ISA"));
  m.bf16 = 600;
  CHECK(contains(only(), "--precision bf16: products 2.0 times"));
  train::set_value(config, "train.precision=bf16");
  CHECK(tools::advice(config, m, f, 4, "").empty());
  m.bf16 = 30;
  CHECK(contains(only(), "--precision f32: products 10.0 times"));
  m.bf16 = 600;
  f.needs = int64_t{5} << 30;
  CHECK(contains(only(), "train.micro_batch=N, N views at a time: the recipe's 5.0 GiB"));
  f.available = 0;  // not known
  CHECK(tools::advice(config, m, f, 4, "").empty());
  f.step_s = 0.05;  // 1280 images/s, of which two workers load 800
  CHECK(contains(only(), "--set data.workers=4 where"));
  CHECK(contains(only(), "wants 1280 images/s, 2 workers load about 800"));
  train::set_value(config, "model.image_size=32");  // such sets lie in memory
  CHECK(tools::advice(config, m, f, 4, "").empty());
}

TEST_CASE("doctor: settings that hold it back are told") {
  const std::string threads = std::to_string(engine::cpu_limits().threads());
  const Result slow = tools::test::shell(
      "ROBUSTMOE_ISA=base OMP_WAIT_POLICY=passive " + std::string(ROBUSTMOE_PROGRAM) + " " +
      kSmall + "--precision bf16 --threads " + std::to_string(engine::cpu_limits().threads() + 1));
  CHECK(contains(slow.out, "unset ROBUSTMOE_ISA: it allows products no more than base"));
  CHECK(contains(slow.out, "without AMX: no faster than f32"));
  CHECK(contains(slow.out, "--threads " + threads + ": more only wait for each other"));
}

TEST_CASE("doctor: what cannot work is one line") {
  check_fails("doctor --recipe nothing", 1, {"nothing"});
  check_fails(kSmall + "--seconds 0", 2, {"--seconds"});
  check_fails(kSmall + "--images x", 2, {"--images"});
  check_fails(kSmall + "--precision f16", 2, {"--precision", "f16"});
  check_fails(kSmall + "--out /dev/null", 1, {"/dev/null: cannot write a file there", "--out"});
  check_fails(kSmall + "--json /dev/full", 1, {"no regular file"});
}
