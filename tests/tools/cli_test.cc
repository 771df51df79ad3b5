#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "engine/core/error.h"
#include "tests/tools/program.h"
#include "tests/train/temp_folder.h"
#include "tools/commands/command.h"
#include "tools/commands/options.h"
#include "train/recipe.h"

using tools::test::one_line;
using tools::test::Result;
using tools::test::run;
using train::test::contains;

namespace {

tools::Options parsed(std::vector<const char*> arguments) {
  tools::Options options("verb", "does something");
  options.add_flag("quiet", "say less");
  options.add_value("steps", "how many", "7", "N");
  options.add_value("set", "change a value");
  options.add_value("json", "where to", "", "FILE");
  options.add_positional("IMAGE...", "what to look at", 2);
  arguments.insert(arguments.begin(), "verb");
  const bool goes_on = options.parse(static_cast<int>(arguments.size()), arguments.data());
  CHECK(goes_on);
  return options;
}

std::string usage_error(std::vector<const char*> arguments) {
  try {
    const tools::Options options = parsed(std::move(arguments));
    options.integer("steps");
    options.required("json");
  } catch (const tools::UsageError& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("options: values, defaults, repetition") {
  const tools::Options options =
      parsed({"--set", "moe.layers=5,7", "a,b.png", "--quiet", "--set=x.y=-1", "--json", "-", "c"});
  CHECK(options.has("quiet"));
  CHECK(options.get("steps") == "7");
  CHECK(options.integer("steps") == 7);
  CHECK_FALSE(options.has("steps"));
  CHECK(options.all("set") == std::vector<std::string>{"moe.layers=5,7", "x.y=-1"});
  CHECK(options.get("set") == "x.y=-1");
  CHECK(options.get("json") == "-");
  CHECK(options.positional() == std::vector<std::string>{"a,b.png", "c"});
  CHECK_FALSE(parsed({}).has("quiet"));
  CHECK(parsed({"--steps", "-3"}).integer("steps") == -3);
}

TEST_CASE("options: wrong usage") {
  CHECK(usage_error({"--json", "x"}) == "");
  CHECK(usage_error({}) == "verb: --json is required");
  CHECK(usage_error({"--stesp", "3"}) ==
        "verb: there is no option --stesp; the nearest is --steps");
  CHECK(contains(usage_error({"--jsn=x"}), "there is no option --jsn; the nearest is --json"));
  CHECK(contains(usage_error({"-x"}), "there is no option -x"));
  CHECK(usage_error({"a", "b", "c"}) == "verb: unexpected argument c");
  CHECK(usage_error({"--steps", "3.5"}) == "verb: --steps is 3.5, expected an integer");
  CHECK(contains(usage_error({"--steps"}), "verb: "));
}

TEST_CASE("program: help, version and no verb") {
  const Result help = run("--help");
  CHECK(help.status == 0);
  for (const tools::Command& command : tools::commands()) {
    CHECK(contains(help.out, command.name));
    CHECK(contains(help.out, command.summary));
    const Result of_verb = run(std::string(command.name) + " --help");
    CHECK(of_verb.status == 0);
    CHECK(contains(of_verb.out, std::string("robustmoe ") + command.name));
  }
  CHECK(run("-h").out == help.out);
  const Result version = run("--version");
  CHECK(version.status == 0);
  CHECK(version.out ==
        std::string("robustmoe ") + tools::program_version() + "\n" + tools::build_facts());
  for (const char* fact : {"compiler", "-march=", "Eigen 3.", "zlib 1.", "devices       cpu"}) {
    CHECK_MESSAGE(contains(version.out, fact), fact);
  }
  CHECK(run("2>/dev/null").status == 2);
}

TEST_CASE("program: wrong usage is one line and exit code 2") {
  for (const char* arguments : {"recipe", "recipes --sett x", "recipes a b", "recipes --set",
                                "recipes --set a=b", "--foo"}) {
    CAPTURE(arguments);
    const Result both = run(std::string(arguments) + " 2>&1");
    CHECK(both.status == 2);
    CHECK(one_line(both.out));
    CHECK(contains(both.out, "robustmoe: "));
    CHECK(contains(both.out, "--help"));
    CHECK(run(std::string(arguments) + " 2>/dev/null").out == "");
  }
  CHECK(contains(run("recipe 2>&1").out, "the nearest is recipes"));
}

TEST_CASE("program: failed work is one line and exit code 1") {
  for (const char* arguments :
       {"recipes quick-vmeo", "recipes no/such.toml", "recipes quick-vmoe --set moe.expert=3",
        "recipes quick-vmoe --set moe.experts=0", "recipes quick-vmoe --set model.patch=5"}) {
    CAPTURE(arguments);
    const Result both = run(std::string(arguments) + " 2>&1");
    CHECK(both.status == 1);
    CHECK(one_line(both.out));
    CHECK(contains(both.out, "robustmoe: "));
    CHECK_FALSE(contains(both.out, ".cc:"));
  }
  CHECK(run("recipes >/dev/full 2>/dev/null").status == 1);
}

TEST_CASE("program: a message is one line of bounded length") {
  const std::string long_key(100000, 'a');
  const Result both = run("recipes quick-vmoe --set " + long_key + "=1 2>&1");
  CHECK(both.status == 1);
  CHECK(both.out.size() < 21000);
  CHECK(contains(both.out, " [...] "));
  CHECK(tools::test::one_line(both.out));
}

TEST_CASE("recipes: the list and one recipe") {
  const Result list = run("recipes");
  CHECK(list.status == 0);
  for (const std::string& name : train::recipe_names()) {
    CHECK(contains(list.out, name + " "));
    const Result one = run("recipes " + name);
    CHECK(one.status == 0);
    // What is printed is itself a config.
    const train::Config read = train::parse_config(one.out, name, train::Origin::kFile);
    CHECK(train::config_hash(read) == train::config_hash(train::load_config(name)));
  }
  CHECK(contains(list.out, "| `schedule.peak` | 5e-4 | 0.00075 | 0.001 |"));
  const Result changed = run("recipes quick-prc --set moe.layers=1,2 --set train.seed=5");
  CHECK(contains(changed.out, "layers = \"1,2\"  # --set\n"));
  CHECK(contains(changed.out, "seed = 5  # --set\n"));
  CHECK(contains(changed.out, "lambda_off = 0.05  # paper Table 1\n"));
  CHECK(contains(run("recipes prc-s32-imagenet").out, "--data imagenet:PATH"));
}
