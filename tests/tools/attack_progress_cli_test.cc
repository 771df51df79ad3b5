#include <doctest/doctest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "tests/support/tensors.h"
#include "tests/tools/program.h"
#include "tests/train/small_model.h"
#include "tests/train/temp_folder.h"
#include "train/checkpoint.h"
#include "train/safetensors.h"

using tools::test::check_fails;
using tools::test::Result;
using tools::test::run;
using tools::test::shell;
using train::test::contains;
using train::test::content_of;
using train::test::put;
using train::test::SmallModel;
using train::test::TempFolder;

namespace {

// A model and an attack on it that takes a second or more, in batches of a few milliseconds.
struct Case {
  Case() : small("shapes:size=16,train=30,test=400", {}) {
    train::CheckpointState state;
    state.step = 12;
    train::save_checkpoint(folder / "run", small.model.params, state,
                           {{"config", train::to_toml(small.config, false)}}, 1);
  }
  std::string attack(const std::string& name, const std::string& more) const {
    return "attack --checkpoint " + (folder / "run") +
           " --data shapes:size=16,train=30,test=400 --batch 2 --attack fgsm,apgd,pgd --eps 0.001"
           " --steps 40 --restarts 2 --json '" +
           (folder / name) + "' " + more;
  }
  // Starts it, sends a signal when a batch or more has been done, and returns how it ended.
  Result interrupted(const std::string& arguments, const std::string& signal) const {
    const std::string p = folder / "p";
    put(p + ".before", content_of(p));
    return shell(std::string(ROBUSTMOE_PROGRAM) + " " + arguments + " >" + (folder / "log") +
                 " 2>&1 & run=$!; for i in $(seq 2000); do [ -s " + p + " ] && ! cmp -s " + p +
                 " " + p + ".before && break; sleep 0.005; done; kill -" + signal +
                 " $run; wait $run");
  }

  TempFolder folder;
  SmallModel small;
};

}  // namespace

TEST_CASE("attack: interrupted by SIGTERM or killed, it goes on and ends with the same bytes") {
  const Case c;
  const TempFolder& folder = c.folder;
  const std::string p = " --progress " + (folder / "p");
  REQUIRE(run(c.attack("straight", "--save " + (folder / "straight.images"))).status == 0);
  const std::string expected = content_of(folder / "straight");
  REQUIRE(contains(expected, "per_attack"));

  const std::string arguments =
      c.attack("after it.json", "--threads 1 --save " + (folder / "images") + p);
  for (const char* signal : {"TERM", "INT"}) {
    const Result stopped = c.interrupted(arguments, signal);
    const std::string log = content_of(folder / "log"), says = "continue with: ";
    CAPTURE(log);
    CHECK(stopped.status == 3);
    CHECK(contains(log, "stopped by a signal after "));
    CHECK_FALSE(std::filesystem::exists(folder / "after it.json"));
    const size_t at = log.find(says);
    REQUIRE(at != std::string::npos);
    CHECK(log.substr(at + says.size()) == "robustmoe " + arguments + "\n");
  }
  // With other threads.
  const Result killed = c.interrupted(
      c.attack("after it.json", "--threads 2 --save " + (folder / "images") + p), "KILL");
  CHECK(killed.status == 128 + 9);
  const Result last = run(arguments + " 2>&1");
  CAPTURE(last.out);
  CHECK(last.status == 0);
  CHECK(contains(last.out, "going on after "));
  CHECK(content_of(folder / "after it.json") == expected);
  CHECK(content_of(folder / "images") == content_of(folder / "straight.images"));
  // Nothing is left to do: it says the same again.
  const Result again = run(arguments + " 2>&1");
  CHECK(contains(again.out, "going on after 400 images"));
  CHECK(content_of(folder / "after it.json") == expected);
}

TEST_CASE("attack: progress of other settings, or what is none, is one line") {
  const Case c;
  const TempFolder& folder = c.folder;
  const std::string p = folder / "p";
  const auto attack = [&](const std::string& more) {
    return "attack --checkpoint " + (folder / "run") +
           " --data shapes:size=16,train=30,test=120 --attack pgd --steps 1 --limit 4 --progress " +
           p + " " + more;
  };
  REQUIRE(run(attack("")).status == 0);
  REQUIRE(run(attack("--threads 1 --eps 0.03137254901960784314 --json -")).status == 0);
  const std::string starts = folder / "starts.safetensors", good = content_of(p);
  std::vector<float> grey(size_t{4} * 768, 0.5f);
  train::write_safetensors(starts, std::vector<train::NamedTensor>{
                                       {"starts", engine::test::view(grey, {4, 3, 16, 16})}});
  for (const auto& [more, part] :
       {std::pair{"--eps 4/255", "--eps was 0.03137254901960784, now 0.01568627450980392"},
        {"--steps 2", "--steps was 1, now 2"},
        {"--step 0.5", "--step was "},
        {"--seed 1", "--seed was 0, now 1"},
        {"--attack fgsm", R"(--attack was "pgd", now "fgsm")"},
        {"--norm l2", R"(--norm was "linf", now "l2")"},
        {"--restarts 2", "--restarts was 1, now 2"},
        {"--sigma 1", "--sigma was 0.2, now 1.0"},
        {"--from-clean", "random start was 1, now 0"},
        {"--split train", R"(--split was "test", now "train")"},
        {"--limit 5", "--limit was 4, now 5"},
        {"--batch 3", "--batch was 16, now 3"},
        {"--data shapes:size=16,train=30,test=110", "--data was "},
        {"--save s", R"(--save was "not given", now "given")"},
        {"--starts s", R"(--starts was "none", now "12288 bytes, crc32 )"}}) {
    std::string argument = more;
    if (argument.ends_with(" s")) argument.replace(argument.size() - 1, 1, starts);
    check_fails(attack(argument), 1, {p, part, "attack as then, or choose another file"});
    CHECK(content_of(p) == good);
  }
  SmallModel other("shapes:size=16,train=30,test=30", {"moe.top_k=1"});
  train::CheckpointState later;
  later.step = 13;
  train::save_checkpoint(folder / "run", other.model.params, later,
                         {{"config", train::to_toml(other.config, false)}}, 1);
  check_fails(attack(""), 1, {"--checkpoint was ", "bytes, crc32 "});

  put(p, "{\"format\": 1}");
  check_fails(attack(""), 1, {p, "no progress of robustmoe attack", "delete it to begin anew"});
  check_fails(attack("--json " + p), 1, {"same file"});
  check_fails(attack("--save " + p + ".images"), 1, {"same file"});
  check_fails(attack("--progress " + (folder / "no/such/file")), 1, {"cannot write"});
  check_fails(attack("--progress " + (folder / "run/checkpoints/x")), 1, {"checkpoint"});
  CHECK(content_of(p) == "{\"format\": 1}");
}
