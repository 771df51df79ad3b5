#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/tools/program.h"
#include "tests/train/temp_folder.h"

using tools::test::check_fails;
using tools::test::Result;
using tools::test::run;
using train::test::contains;
using train::test::put;
using train::test::TempFolder;

namespace {

std::string layer(const std::string& load, const std::string& information) {
  return R"({"layer": 3, "match_top1": 0.5, "match_top1_chance": 0.25, "mutual_information": )" +
         information + R"(,
      "effective_experts_all_tokens": 3.5, "confidence_first": 0.75, "margin_mean": 0.5,
      "load_all_tokens": [)" +
         load + "]}";
}

// What eval and audit leave in a run's folder.
std::string put_run(const TempFolder& folder, const std::string& name, double accuracy,
                    const std::string& load, const std::string& information = "0.125") {
  const std::string dir = folder / name;
  std::filesystem::create_directory(dir);
  put(dir + "/eval.json",
      "{\"accuracy\": " + std::to_string(accuracy) + ", \"accuracy_se\": 0.0031}");
  put(dir + "/audit.json", "{\"layers\": [" + layer(load, information) + "]}");
  return dir;
}

}  // namespace

TEST_CASE("compare: one table, and every bar that a run misses") {
  const TempFolder folder;
  const std::string good = put_run(folder, "good", 0.9, "0.25, 0.25, 0.25, 0.25"),
                    weak = put_run(folder, "weak", 0.8199, "0.5, 0.25, 0.2, 0.05"),
                    dead = put_run(folder, "dead", 0.82, "0.5, 0.5, 0, 0");
  const std::string bars = " --min-accuracy 0.82 --no-dead-experts";
  const Result fine = run("compare " + good + "/ " + good + bars);
  CHECK(fine.status == 0);
  for (const char* part : {"block 3", "90.00 +- 0.31", "50.00", "25.00", "0.1250", "3.50", "1.000"})
    CHECK_MESSAGE(contains(fine.out, part), part);
  CHECK_FALSE(contains(fine.out, "missed"));

  const Result missed = run("compare " + good + " " + weak + " " + dead + bars);
  CHECK(missed.status == 1);
  CHECK(contains(missed.out, "missed: " + weak + ": accuracy 81.99 % is below 82.00 %\n"));
  CHECK(contains(missed.out, "missed: " + dead + ": a dead expert in block 3\n"));
  CHECK_FALSE(contains(missed.out, "missed: " + good));
  CHECK_FALSE(contains(missed.out, dead + ": accuracy"));
  CHECK(run("compare " + weak + " " + dead).status == 0);  // no bar, nothing to miss
}

TEST_CASE("compare: the first run against the others") {
  const TempFolder folder;
  const std::string even = "0.25, 0.25, 0.25, 0.25";
  const std::string high = put_run(folder, "high", 0.9, even, "0.3"),
                    low = put_run(folder, "low", 0.9, even, "0.2"),
                    equal = put_run(folder, "equal", 0.9, even, "0.3");
  const std::string bar = " --first-highest mutual_information";
  CHECK(run("compare " + high + " " + low + bar).status == 0);
  const Result lower = run("compare " + low + " " + high + bar);
  CHECK(lower.status == 1);
  CHECK(contains(lower.out, "missed: " + low +
                                ": mutual_information 0.2000 in block 3 is not "
                                "above 0.3000 of " +
                                high + "\n"));
  CHECK(run("compare " + high + " " + low + " " + equal + bar).status == 1);
  CHECK(run("compare " + high + " --min-effective-experts 3.5").status == 0);
  const Result few = run("compare " + high + " --min-effective-experts 3.51");
  CHECK(few.status == 1);
  CHECK(contains(few.out, "3.50 effective experts in block 3, fewer than 3.51"));
  check_fails("compare " + high + " --min-effective-experts all", 2, {"is all"});
  // One line, and so no table before it.
  check_fails("compare " + high + " " + low + " --first-highest mutual", 2,
              {"--first-highest is mutual", "mutual_information", "margin_mean"});
}

TEST_CASE("compare: paired by seed, arms told apart by their settings") {
  const TempFolder folder;
  const auto arm = [&](const std::string& name, int seed, double accuracy, const char* information,
                       const std::string& settings) {
    const std::string dir = put_run(folder, name + "-seed" + std::to_string(seed), accuracy,
                                    "0.25, 0.25, 0.25, 0.25", information);
    put(dir + "/config.toml",
        "base = \"quick-vmoe\"\n[train]\nseed = " + std::to_string(seed) + "\n" + settings);
    return dir + " ";
  };
  const std::string prc = "[prc]\nform = \"paper\"\n[data]\ntwo_view = true\n";
  const std::string base = arm("base", 0, 0.5, "0.1", "") + arm("base", 1, 0.6, "0.2", "") +
                           arm("base", 2, 0.7, "0.3", "");
  const std::string other = arm("prc", 1, 0.63, "0.3", prc) + arm("prc", 2, 0.72, "0.5", prc);
  const Result table = run("compare --paired " + base + other);
  CHECK(table.status == 0);
  for (const char* part : {"base (n 3)", "prc (n 2)", "60.00 +- 5.77", "67.50 +- 4.50",
                           "minus base", "+2.50 p 0.063", "+0.1500 p 0.102"}) {
    CHECK_MESSAGE(contains(table.out, part), part);
  }
  const nlohmann::json json =
      nlohmann::json::parse(run("compare --paired --json - " + base + other).out);
  const nlohmann::json& accuracy = json["figures"][0];
  CHECK(accuracy["figure"] == "accuracy");
  CHECK(accuracy["arms"][1]["difference"]["n"] == 2);
  CHECK(accuracy["arms"][1]["difference"]["mean"].get<double>() == doctest::Approx(2.5));
  CHECK(accuracy["arms"][1]["difference"]["p_above_0"].get<double>() ==
        doctest::Approx(0.0628).epsilon(0.01));
  CHECK_FALSE(accuracy["arms"][0].contains("difference"));
  // One seed: a difference, but no error and no test.
  const Result single =
      run("compare --paired " + arm("a", 5, 0.5, "0.1", "") + arm("b", 5, 0.6, "0.2", prc));
  CHECK(contains(single.out, "50.00 +- ?"));
  CHECK(contains(single.out, "+10.00\n"));
  check_fails("compare --paired " + base + arm("again", 0, 0.5, "0.1", ""), 1,
              {"again-seed0", "base-seed0", "the same seed 0"});
  check_fails("compare --paired " + base + arm("far", 9, 0.5, "0.1", prc), 1,
              {"no seed of far is one of base"});
  check_fails("compare " + base + "--json x", 2, {"--json goes with --paired"});
}

TEST_CASE("compare: what cannot be compared") {
  const TempFolder folder;
  const std::string good = put_run(folder, "good", 0.9, "0.5, 0.5");
  check_fails("compare", 2, {"needs run directories"});
  check_fails("compare " + good + " --min-accuracy much", 2, {"--min-accuracy is much"});
  check_fails("compare " + good + " --min-accuracy 82", 2, {"--min-accuracy is 82", "0 to 1"});
  check_fails("compare " + (folder / "none"), 1, {"none/eval.json", "robustmoe eval"});
  put(good + "/eval.json", "{\"accuracy\": 1");
  check_fails("compare " + good, 1, {"eval.json", "not JSON"});
  put(good + "/eval.json", "{\"accuracy\": 1}");
  check_fails("compare " + good, 1, {"eval.json", "no number accuracy_se"});
  put(good + "/eval.json", "{\"accuracy\": 1, \"accuracy_se\": 0}");
  put(good + "/audit.json", "{\"layers\": []}");
  check_fails("compare " + good, 1, {"audit.json", "no layers"});

  // Figures of different things.
  const auto with = [&](const std::string& name, const std::string& eval,
                        const std::string& audit) {
    const std::string dir = put_run(folder, name, 0.9, "0.5, 0.5");
    put(dir + "/eval.json", "{\"accuracy\": 1, \"accuracy_se\": 0" + eval + "}");
    put(dir + "/audit.json", "{" + audit + "\"layers\": [" + layer("0.5, 0.5", "0.1") + "]}");
    return dir;
  };
  const std::string one = with("one", ", \"n\": 100, \"split\": \"test\"", "");
  CHECK(contains(run("compare " + one).out, "test accuracy, %"));
  check_fails("compare " + one + " " + with("few", ", \"n\": 1, \"split\": \"test\"", ""), 1,
              {"few/eval.json: n is 1, but 100 in"});
  check_fails("compare " + one + " " + with("seen", ", \"n\": 100, \"split\": \"train\"", ""), 1,
              {"split is \"train\""});
  check_fails("compare " + with("old", ", \"step\": 5", "\"step\": 4, "), 1,
              {"eval.json is of step 5 and audit.json of step 4"});
  const std::string moved = with("moved", ", \"n\": 100, \"split\": \"test\"", "");
  std::string other = layer("0.5, 0.5", "0.1");
  other.replace(other.find("\"layer\": 3"), 10, "\"layer\": 1");
  put(moved + "/audit.json", "{\"layers\": [" + other + "]}");
  check_fails("compare " + one + " " + moved, 1, {"moved has experts in block 1", "in block 3"});
  put(moved + "/audit.json", "{\"layers\": [" + other + ", " + other + "]}");
  check_fails("compare " + one + " " + moved, 1, {"moved has 2 MoE layers"});
  put(moved + "/audit.json", "{\"layers\": [1]}");
  check_fails("compare " + moved, 1, {"audit.json: a layer without the number"});
  put(moved + "/audit.json", "{\"layers\": [" + layer("0.5, null", "0.1") + "]}");
  check_fails("compare " + moved, 1, {"load_all_tokens holds null"});
}
