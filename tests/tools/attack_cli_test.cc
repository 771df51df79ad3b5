#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "tests/tools/program.h"
#include "tests/train/small_model.h"
#include "tests/train/temp_folder.h"
#include "train/checkpoint.h"

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
