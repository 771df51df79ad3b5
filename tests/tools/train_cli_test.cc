#include <doctest/doctest.h>

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "tests/tools/program.h"
#include "tests/train/temp_folder.h"

using tools::test::check_fails;
using tools::test::Result;
using tools::test::shell;
using train::test::contains;
using train::test::content_of;
using train::test::put;
using train::test::TempFolder;

namespace {

Result program(const std::string& arguments) { return tools::test::run(arguments + " 2>&1"); }

// A run of milliseconds a step, in a folder that begins with a quote-free path.
std::string small(const std::string& out, const std::string& more = "") {
  return "train --recipe quick-vmoe --out " + out +
         " --data shapes:size=16,train=40,test=20 --threads 1 --steps 4 --set train.batch=16"
         " --set schedule.warmup_steps=2 --set model.width=16 --set model.mlp=24"
         " --set model.patch=4 --set model.heads=2 --set model.layers=2 --set moe.layers=0,1"
         " --set moe.experts=4 " +
         more;
}

// CIFAR-10 files of `records` grey pictures each.
void put_cifar(const std::string& folder, int records) {
  std::filesystem::create_directories(folder);
  std::string content;
  for (int i = 0; i < records; ++i)
    content += static_cast<char>(i % 10) + std::string(3072, '\x7f');
  for (const char* name : {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin",
                           "data_batch_4.bin", "data_batch_5.bin", "test_batch.bin"}) {
    put(folder + "/" + name, content);
  }
}

}  // namespace

TEST_CASE("train: keys and values that are wrong") {
  const TempFolder folder;
  const std::string out = folder / "run";
  check_fails(small(out, "--set moe.expert=4"), 1, {"moe.expert", "moe.experts"});
  check_fails(small(out, "--set schedul.peak=1"), 1, {"schedul.peak", "schedule.peak"});
  check_fails(small(out, "--set =="), 1, {"--set ==", "expected group.key=value"});
  check_fails(small(out, "--set moe.experts"), 1, {"expected group.key=value"});
  check_fails(small(out, "--set optimizer.beta1=1"), 1, {"optimizer.beta1", "below 1"});
  check_fails(small(out, "--set optimizer.name=adan"), 1, {"adan", "adam"});
  check_fails(small(out, "--set train.batch=sixteen"), 1, {"train.batch", "sixteen"});
  check_fails(small(out, "--set model.patch=5"), 1, {"model.patch", "16", "5"});
  check_fails(small(out, "--set train.micro_batch=6"), 1, {"train.micro_batch", "6", "multiple"});
  check_fails(small(out, "--set train.micro_batch=4"), 1, {"moe.group_images"});
  check_fails(small(out, "--set model.classes=3"), 1, {"model.classes", "10"});
  put(folder / "typo.toml", "base = \"quick-vmoe\"\n[moe]\nexperst = 4\n");
  check_fails("train --recipe " + (folder / "typo.toml") + " --data shapes: --out " + out, 1,
              {"typo.toml", "experst", "moe.experts", "3"});
  check_fails("train --recipe quick-vmo --data shapes: --out " + out, 1, {"quick-vmoe"});
}

TEST_CASE("train: wrong usage exits 2") {
  const TempFolder folder;
  check_fails("train", 2, {"--recipe"});
  check_fails(small(folder / "run", "--reciep x"), 2, {"--reciep", "--recipe"});
  check_fails(small(folder / "run", "extra"), 2, {"extra"});
  check_fails("train --resume", 2, {"--out"});
  check_fails("trian", 2, {"train"});
  check_fails("bench train --recipe quick-vmoe --steps 0", 2, {"--steps is 0"});
  for (const auto& [option, part] : {std::pair{"--threads x", "--threads: train.threads is x"},
                                     {"--threads 4097", "from 0 to 4096"},
                                     {"--steps=-1", "--steps: train.steps is -1"},
                                     {"--epochs 1.5", "--epochs: train.epochs is 1.5"},
                                     {"--seed 9223372036854775808", "from 0 to 9007199254740991"},
                                     {"--device gpu", "--device: device is \"gpu\""},
                                     {"--threads ''", "--threads has no value"},
                                     {"--out=", "--out has no value"}}) {
    check_fails(small(folder / "run", option), 2, {part});
  }
  check_fails(small(folder / "run", "--resume=false"), 2, {"--resume takes no value"});
  check_fails("bench train --recipe quick-vmoe --json /dev/full", 1, {"no regular file"});
  check_fails("bench train --recipe quick-vmoe --threads x", 2, {"--threads: train.threads is x"});
  CHECK_FALSE(std::filesystem::exists(folder / "run"));
}

TEST_CASE("train: data that is missing or damaged") {
  const TempFolder folder;
  const std::string cifar = folder / "cifar", out = folder / "run";
  const std::string train = "train --recipe cifar10-small-vmoe --steps 1 --out " + out + " --data ";
  check_fails(train + "cifar10:" + (folder / "absent"), 1, {folder / "absent"});
  check_fails(train + "cifar11:" + cifar, 1, {"cifar11", "cifar10"});
  put_cifar(cifar, 4);
  const std::string file = cifar + "/data_batch_3.bin", whole = content_of(file);
  put(file, whole.substr(0, whole.size() - 5));
  check_fails(train + "cifar10:" + cifar, 1, {file});
  std::string wrong = whole;
  wrong[3073 * 2] = 10;
  put(file, wrong);
  check_fails(train + "cifar10:" + cifar, 1, {file, std::to_string(3073 * 2)});
  std::filesystem::remove(file);
  check_fails(train + "cifar10:" + cifar, 1, {file});
  CHECK_FALSE(std::filesystem::exists(out));
}

TEST_CASE("train: a limit on file sizes, and input of more than one line") {
  const TempFolder folder;
  const Result limited = tools::test::shell("(ulimit -f 60; " + std::string(ROBUSTMOE_PROGRAM) +
                                            " " + small(folder / "run") + " 2>&1 >/dev/null)");
  CAPTURE(limited.out);
  CHECK(limited.status == 1);
  CHECK(tools::test::one_line(limited.out));
  CHECK(contains(limited.out, "File too large; raise the limit on file sizes"));
  CHECK(program(small(folder / "run", "--resume")).status == 0);
  check_fails(small(folder / "other", "--set \"$(printf 'model.width=1\\n2')\""), 1,
              {"model.width", "1\\n2"});
}

TEST_CASE("train: a reader of its output that goes away does not end it") {
  const TempFolder folder;
  const std::string status = folder / "status";
  shell("(sleep 0.2; " + std::string(ROBUSTMOE_PROGRAM) + " " + small(folder / "run") +
        " 2>/dev/null; echo $? > " + status + ") | true");
  CHECK(content_of(status) == "0\n");
  CHECK(contains(content_of(folder / "run/log.txt"), "done in"));
}

TEST_CASE("train: an output folder that cannot be") {
  const TempFolder folder;
  put(folder / "file", "mine");
  check_fails(small(folder / "file"), 1, {folder / "file"});
  check_fails(small(folder / "file/run"), 1, {folder / "file"});
  CHECK(content_of(folder / "file") == "mine");
}

TEST_CASE("train: a run there already is not overwritten, and other settings do not resume") {
  const TempFolder folder;
  CHECK(program(small(folder / "run")).status == 0);
  check_fails(small(folder / "run"), 1, {folder / "run", "--resume"});
  check_fails("train --resume --set schedule.peak=0.5 --out " + (folder / "run"), 1,
              {"other settings", "schedule.peak was", "now 0.5"});
  CHECK(program("train --resume --out " + (folder / "run")).status == 0);
  CHECK(program("train --resume --threads 2 --out " + (folder / "run")).status == 0);
  check_fails("train --resume --out " + (folder / "absent"), 1, {folder / "absent"});
}

TEST_CASE("train: SIGTERM saves, exits 3 and names the command that goes on") {
  const TempFolder folder;
  const std::string dir = folder / "a \"run\"", log = folder / "log";
  const std::string start = std::string(ROBUSTMOE_PROGRAM) + " " +
                            small("'" + dir + "'", "--set train.steps=600 --set log.every=5") +
                            " >" + log + " 2>&1 & run=$!; ";
  const std::string wait_for_a_line =
      "for i in $(seq 1000); do grep -q '^step 5/' " + log + " && break; sleep 0.01; done; ";
  const Result stopped = shell(start + wait_for_a_line + "kill -TERM $run; wait $run");
  CHECK(stopped.status == 3);
  const std::string text = content_of(log), says = "continue with: robustmoe ";
  CAPTURE(text);
  const size_t at = text.find(says);
  REQUIRE(at != std::string::npos);
  CHECK_FALSE(contains(text, "step 600/600"));
  const std::string arguments =
      text.substr(at + says.size(), text.find('\n', at) - at - says.size());
  CHECK(arguments == "train --resume --out '" + dir + "'");
  const Result resumed = program(arguments);
  CHECK(resumed.status == 0);
  CHECK(contains(resumed.out, "resuming after step "));
  CHECK(contains(resumed.out, "step 600/600"));
  CHECK(content_of(dir + "/checkpoints/latest") == "step-000000600\n");
}

TEST_CASE("eval: a checkpoint that is cut short or has a flipped bit") {
  const TempFolder folder;
  REQUIRE(program(small(folder / "run")).status == 0);
  const std::string step = folder / "run/checkpoints/step-000000004";
  const std::string eval = "eval --data shapes:size=16,train=40,test=20 --checkpoint ";
  CHECK(program(eval + step).status == 0);
  for (const char* name : {"model.safetensors", "state.safetensors", "run.json"}) {
    const std::string file = step + "/" + name, whole = content_of(file);
    put(file, whole.substr(0, whole.size() / 2));
    check_fails(eval + step, 1, {file});
    check_fails(eval + (folder / "run"), 1, {file});
    std::string flipped = whole;
    flipped[whole.size() / 2] = static_cast<char>(flipped[whole.size() / 2] ^ 4);
    put(file, flipped);
    check_fails(eval + step, 1, {file, "checksum"});
    check_fails("train --resume --out " + (folder / "run"), 1, {file});
    put(file, whole);
  }
  std::filesystem::remove(step + "/manifest.json");
  check_fails(eval + step, 1, {"manifest.json"});
  const std::string weights = step + "/model.safetensors", whole = content_of(weights);
  put(weights, whole.substr(0, whole.size() - 4));
  check_fails(eval + weights, 1, {weights});
}

TEST_CASE("train: in bf16, with what the machine has and without") {
  const TempFolder folder;
  const auto run = [&](const std::string& isa, const std::string& out) {
    return shell("ROBUSTMOE_ISA=" + isa + " " + std::string(ROBUSTMOE_PROGRAM) + " " +
                 small(folder / out, "--precision bf16") + " 2>&1");
  };
  CHECK(run("amx", "best").status == 0);
  CHECK(run("base", "base").status == 0);
  const std::string log = content_of(folder / "base/log.txt");
  CHECK(contains(log, "bf16 by products of rounded f32, without AMX"));
  CHECK(contains(content_of(folder / "base/config.toml"), "precision = \"bf16\""));
  CHECK(
      contains(content_of(folder / "best/log.txt"), "products of layers, routers excepted: bf16"));

  const Result wrong = run("avx", "none");
  CHECK(wrong.status == 1);
  CHECK(tools::test::one_line(wrong.out));
  CHECK(contains(wrong.out, "ROBUSTMOE_ISA is \"avx\", expected base, avx512 or amx"));
  // Another precision is another run.
  check_fails(small(folder / "best", "--resume --precision f32"), 1, {"train.precision"});
}
