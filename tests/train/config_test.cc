#include "train/config.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include "engine/core/error.h"
#include "train/config_fields.h"

using train::Config;
using train::Origin;

namespace {

Config parse(const std::string& text) {
  return train::parse_config(text, "my.toml", Origin::kFile);
}

// The message of the Error that `body` throws; "" where it throws none.
template <class Body>
std::string message_of(Body body) {
  try {
    body();
  } catch (const engine::Error& error) {
    return error.message();
  }
  return "";
}

std::string parse_error(const std::string& text) {
  return message_of([&] { parse(text); });
}

std::string set_error(const std::string& assignment) {
  return message_of([&] {
    Config config;
    train::set_value(config, assignment);
  });
}

// A config that validate() accepts, after these --set.
Config valid_with(const std::vector<std::string>& assignments) {
  Config config = parse("[train]\nsteps = 100\n[moe]\nlayers = \"last 2\"\n");
  for (const std::string& assignment : assignments) train::set_value(config, assignment);
  return config;
}

std::string validate_error(const std::vector<std::string>& assignments) {
  return message_of([&] { train::validate(valid_with(assignments)); });
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

std::vector<int64_t> blocks(const std::string& placement, int64_t layers) {
  Config config;
  config.moe.layers = placement;
  config.model.layers = layers;
  return train::moe_layer_indices(config);
}

}  // namespace

TEST_CASE("config: a file changes what it names and nothing else") {
  const Config config = parse(
      "recipe = \"mine\"\n[model]\nwidth = 64  # a note\n[optimizer]\nclip = 1\n"
      "[augment]\nmean = [0, 0.5, 1e-3]\nflip = false\n[moe]\nlayers = \"5,7\"\n");
  CHECK(config.recipe == "mine");
  CHECK(config.model.width == 64);
  CHECK(config.optimizer.clip == 1.0);  // an integer where a float is wanted
  CHECK(config.augment.mean == std::vector<double>{0, 0.5, 1e-3});
  CHECK_FALSE(config.augment.flip);
  CHECK(config.moe.layers == "5,7");
  CHECK(config.model.mlp == Config().model.mlp);
  CHECK(config.by_hand("model.width"));
  CHECK_FALSE(config.by_hand("model.mlp"));
  CHECK(config.sources.at("model.width").note == "a note");
}

TEST_CASE("config: every key once, with a doc, in groups that are not split") {
  Config config;
  std::set<std::string> keys, groups;
  std::string group;
  train::visit(config, [&](const train::Field& field) {
    CAPTURE(field.key);
    CHECK(keys.insert(field.key).second);
    if (field.group() != group) CHECK(groups.insert(field.group()).second);
    group = field.group();
    CHECK(field.doc.back() == '.');
    // The default lies in its own range.
    CHECK(parse_error("[" + group + "]\n" + field.name() + " = " + train::toml_value(field)) == "");
  });
  CHECK(groups.size() == 14);
  CHECK(keys.size() > 60);
}

TEST_CASE("config: wrong keys name file, line and the nearest valid key") {
  CHECK(parse_error("[moe]\n\nexprts = 4\n") ==
        "my.toml:3: there is no key moe.exprts; the nearest valid one is moe.experts");
  CHECK(contains(parse_error("[moe]\nclip = 1\n"), "the nearest valid one is optimizer.clip"));
  CHECK(contains(parse_error("[train]\nbatchsize = 1\n"), "nearest valid one is train.batch"));
  CHECK(contains(parse_error("width = 3\n"), "my.toml:1: there is no key width; the nearest"));
  CHECK(contains(parse_error("width = 3\n"), "model.width"));
  CHECK(contains(parse_error("moe = 3\n"), "my.toml:1: moe is a group of keys"));
  CHECK(contains(parse_error("[mo]\nexperts = 3\n"), "my.toml:2: there is no key mo.experts"));
  CHECK(contains(parse_error("[nonsense]\n"), "my.toml:1: there is no key nonsense"));
  CHECK(contains(parse_error("[moe.experts]\nx = 1\n"), "expected an integer from 1 to 4096"));
}

TEST_CASE("config: wrong types, ranges and choices say what is valid") {
  CHECK(parse_error("[moe]\nexperts = 3.5\n") ==
        "my.toml:2: moe.experts is 3.5, expected an integer from 1 to 4096");
  CHECK(parse_error("[moe]\nexperts = 0\n") ==
        "my.toml:2: moe.experts is 0, expected an integer from 1 to 4096");
  CHECK(parse_error("[prc]\nform = \"papper\"\n") ==
        "my.toml:2: prc.form is \"papper\", expected one of none, paper, fork, l2, jsd; the "
        "nearest is paper");
  CHECK(contains(parse_error("[train]\nseed = -1\n"),
                 "expected an integer from 0 to 9007199254740991"));
  CHECK(contains(parse_error("[train]\nema = 1\n"), "a number of at least 0 and below 1"));
  for (const char* peak : {"0", "nan", "inf", "-1"}) {
    CHECK(contains(parse_error("[schedule]\npeak = " + std::string(peak) + "\n"),
                   "expected a finite number above 0"));
  }
  CHECK(contains(parse_error("[optimizer]\nclip = inf\n"), "a finite number of at least 0"));
  CHECK(contains(parse_error("[augment]\nlow = inf\n"), "a number from -1000000 to 1000000"));
  CHECK(contains(parse_error("[augment]\nflip = 1\n"), "expected true or false"));
  CHECK(contains(parse_error("[augment]\nstddev = [1, 0]\n"), "a list of finite numbers above 0"));
  CHECK(contains(parse_error("[augment]\nmean = [\"a\"]\n"), "a list of finite numbers"));
  CHECK(contains(parse_error("[moe]\nexperts = [1,\n2]\n"), "[ 1, 2 ], expected an integer"));
  CHECK_FALSE(contains(parse_error("[moe]\nexperts = {a = 1, b = \"x\"}\n"), "\n"));
  CHECK(
      contains(parse_error("[augment]\nmean = [9007199254740993]\n"), "a list of finite numbers"));
  CHECK(contains(parse_error("[moe]\nlayers = [5, 7]\n"), "expected a string"));
  CHECK(contains(parse_error("[model]\nwidth = 99999999999999999999\n"), "my.toml:2"));
  CHECK(contains(parse_error("[model]\nwidth = \n"), "my.toml:2: "));
  CHECK(contains(parse_error("[model]\nwidth = 1\nwidth = 2\n"), "my.toml:3: "));
  CHECK(contains(parse_error("recipe = 3\n"), "my.toml:1: recipe must be"));
  std::string dots = "\na";
  for (int i = 0; i < 100000; ++i) dots += ".a";
  CHECK(contains(parse_error(dots + " = 1\n"), "my.toml:2: a line of 200005 bytes"));
}

TEST_CASE("config: --set") {
  Config config;
  for (const char* assignment :
       {"moe.experts=4", "schedule.peak = 5e-4", "optimizer.clip=2", "moe.layers=5,7",
        "augment.flip=false", "augment.mean=0.1,0.2, 0.3", "augment.stddev=[1,2]",
        "data.source=idx:/a=b,c"}) {
    train::set_value(config, assignment);
  }
  CHECK(config.moe.experts == 4);
  CHECK(config.schedule.peak == 5e-4);
  CHECK(config.optimizer.clip == 2.0);
  CHECK(config.moe.layers == "5,7");
  CHECK_FALSE(config.augment.flip);
  CHECK(config.augment.mean == std::vector<double>{0.1, 0.2, 0.3});
  CHECK(config.augment.stddev == std::vector<double>{1, 2});
  CHECK(config.data.source == "idx:/a=b,c");
  CHECK(config.by_hand("moe.experts"));
  train::set_value(config, "augment.mean=");
  CHECK(config.augment.mean.empty());

  CHECK(set_error("moe.expert=4") ==
        "--set moe.expert=4: there is no key moe.expert; the nearest valid one is moe.experts");
  CHECK(contains(set_error("moe.experts=4.0"), "expected an integer from 1 to 4096"));
  CHECK(contains(set_error("moe.experts=4x"), "is 4x, expected"));
  CHECK(contains(set_error("moe.experts="), "is empty, expected"));
  CHECK(contains(set_error("moe.experts=5000"), "expected an integer from 1 to 4096"));
  CHECK(contains(set_error("augment.flip=yes"), "expected true or false"));
  CHECK(contains(set_error("augment.mean=1,,2"), "expected a list of finite numbers"));
  CHECK(contains(set_error("augment.mean=1,"), "expected a list of finite numbers"));
  CHECK(contains(set_error("augment.crop=inceptoin"), "the nearest is inception"));
  CHECK(contains(set_error("moe.experts"), "expected group.key=value"));
}

TEST_CASE("config: a named size gives way to what is set as well") {
  const auto width_and_layers = [](const Config& config) {
    return std::vector<int64_t>{config.model.width, config.model.layers, config.model.mlp,
                                config.model.heads};
  };
  using Numbers = std::vector<int64_t>;
  CHECK(width_and_layers(parse("[model]\nsize = \"T\"")) == Numbers{384, 8, 1024, 4});
  CHECK(width_and_layers(parse("[model]\nsize = \"S\"")) == Numbers{512, 8, 2048, 8});
  CHECK(width_and_layers(parse("[model]\nsize = \"B\"")) == Numbers{768, 12, 3072, 12});
  CHECK(width_and_layers(parse("[model]\nsize = \"L\"")) == Numbers{1024, 24, 4096, 16});
  CHECK(width_and_layers(parse("[model]\nsize = \"H\"")) == Numbers{1280, 32, 5120, 16});

  // In the same file, in any order.
  Config config = parse("[model]\nwidth = 64\nsize = \"S\"\n");
  CHECK(width_and_layers(config) == Numbers{64, 8, 2048, 8});
  // A --set of the size is later than the file; a --set of a width stays, in any order.
  train::set_value(config, "model.heads=4");
  train::set_value(config, "model.size=B");
  CHECK(width_and_layers(config) == Numbers{768, 12, 3072, 4});
  train::set_value(config, "model.size=L");
  CHECK(width_and_layers(config) == Numbers{1024, 24, 4096, 4});
  train::set_value(config, "model.width=100");
  CHECK(config.model.width == 100);
}

TEST_CASE("config: a named strength sets RandAugment and mixup") {
  const auto numbers = [](const Config& config) {
    return std::vector<double>{static_cast<double>(config.augment.randaugment_layers),
                               config.augment.randaugment_magnitude, config.augment.mixup};
  };
  using Numbers = std::vector<double>;
  const auto named = [&](const std::string& name) {
    const Config config = parse("[augment]\nstrength = \"" + name + "\"");
    CHECK(config.augment.randaugment == "vmoe");
    return numbers(config);
  };
  CHECK(named("light0") == Numbers{2, 0, 0});
  CHECK(named("light1") == Numbers{2, 10, 0.2});
  CHECK(named("medium1") == Numbers{2, 15, 0.2});
  CHECK(named("medium2") == Numbers{2, 15, 0.5});
  CHECK(named("strong1") == Numbers{2, 20, 0.5});
  CHECK(named("strong2") == Numbers{2, 20, 0.8});
  CHECK(named("extreme1") == Numbers{4, 15, 0.5});
  CHECK(named("extreme2") == Numbers{4, 20, 0.8});
  Config config = parse("[augment]\nmixup = 0\nstrength = \"light1\"\nrandaugment = \"prc\"\n");
  CHECK(numbers(config) == Numbers{2, 10, 0});
  CHECK(config.augment.randaugment == "prc");
  train::set_value(config, "augment.randaugment_layers=3");
  train::set_value(config, "augment.strength=extreme2");
  CHECK(numbers(config) == Numbers{3, 20, 0.8});
  CHECK(config.augment.randaugment == "vmoe");
}

TEST_CASE("config: which blocks have experts") {
  using Blocks = std::vector<int64_t>;
  CHECK(blocks("none", 8) == Blocks{});
  CHECK(blocks("last 2", 8) == Blocks{5, 7});
  CHECK(blocks("last 2", 7) == Blocks{3, 5});
  CHECK(blocks("last-odd 2", 8) == Blocks{4, 6});
  CHECK(blocks("every 2", 8) == Blocks{1, 3, 5, 7});
  CHECK(blocks("every 3", 8) == Blocks{2, 5});
  CHECK(blocks("every 1", 2) == Blocks{0, 1});
  CHECK(blocks("5,7", 8) == Blocks{5, 7});
  CHECK(blocks(" 0 , 7 ", 8) == Blocks{0, 7});
  for (const char* wrong :
       {"", "some", "last", "last 0", "last x", "last 5", "every 9", "every -1", "last-odd 5",
        "7,5", "5,5", "8", "-1", "5,", ",5", "5;7", "last 2 3", "5 7", "99999999999999999999"}) {
    CAPTURE(wrong);
    CHECK(contains(message_of([&] { blocks(wrong, 8); }), "moe.layers is \""));
  }
  CHECK(contains(message_of([] { blocks("5,8", 8); }), "blocks go from 0 to 7"));
}

TEST_CASE("config: what concerns several keys") {
  CHECK(validate_error({}) == "");
  CHECK(validate_error({"model.patch=5"}) ==
        "model.image_size = 32 is not a multiple of model.patch = 5: change one of them");
  struct Case {
    std::vector<std::string> set;
    const char* expected;
  };
  const Case cases[] = {
      {{"model.heads=5"}, "model.width = 192 is not a multiple of model.heads = 5"},
      {{"moe.top_k=9"}, "moe.top_k = 9 is more than moe.experts = 8"},
      {{"moe.layers=5,9"}, "moe.layers is \"5,9\""},
      {{"moe.noise_std=0"}, "moe.load_weight = 0.005 needs router noise"},
      {{"prc.form=paper"}, "data.two_view is false"},
      {{"prc.form=paper", "data.two_view=true", "moe.layers=none"}, "moe.layers is none"},
      {{"prc.form=fork", "data.two_view=true", "moe.experts=1", "moe.top_k=1"}, "moe.experts is 1"},
      {{"moe.dispatch=capacity", "train.batch=100"},
       "train.batch = 100 is not a multiple of moe.g"},
      {{"moe.dispatch=capacity", "train.micro_batch=4"}, "train.micro_batch = 4 is not a multiple"},
      {{"moe.dispatch=capacity", "moe.eval_capacity_factor=4", "eval.batch=100"},
       "eval.batch = 100 is not a multiple of moe.g"},
      {{"train.batch=100"}, "train.batch = 100 is not a multiple of moe.group_images = 8"},
      {{"train.micro_batch=24"}, "train.batch = 128 is not a multiple of train.micro_batch = 24"},
      {{"data.two_view=true", "moe.group_images=1", "train.batch=7"}, "train.batch = 7 is odd"},
      {{"data.two_view=true", "moe.group_images=1", "train.batch=6", "train.micro_batch=3"},
       "train.micro_batch = 3 is odd"},
      {{"train.steps=0"}, "train.steps and train.epochs are both 0"},
      {{"schedule.warmup_steps=101"}, "schedule.warmup_steps = 101 is more than train.steps = 100"},
      {{"schedule.end=1"}, "schedule.end = 1 is above schedule.peak = 0.001"},
      {{"schedule.kind=step"},
       "schedule.kind = \"step\" changes the rate once an epoch, but "
       "train.epochs is 0: set it"},
      {{"schedule.kind=rsm-polynomial"}, "\"rsm-polynomial\" changes the rate once an epoch"},
      {{"schedule.kind=rsm-cosine", "train.epochs=9", "schedule.warmup_steps=5"},
       "schedule.warmup_steps = 5 is not for schedule.kind = \"rsm-cosine\""},
      {{"schedule.kind=rsm-polynomial", "train.epochs=9", "schedule.warmup_epochs=2"},
       "schedule.warmup_epochs = 2 is for rsm-cosine, but schedule.kind is rsm-polynomial"},
      {{"schedule.kind=rsm-cosine", "train.epochs=9", "schedule.warmup_epochs=9"},
       "schedule.warmup_epochs = 9 leaves none of train.epochs = 9 for the cosine"},
      {{"schedule.kind=rsm-cosine", "train.epochs=9", "schedule.end=1"},
       "schedule.end = 1 is above"},
      {{"augment.area_min=0.5", "augment.area_max=0.4"}, "augment.area_min = 0.5 is above"},
      {{"augment.area_min=0.5", "augment.area_max_b=0.4"}, "augment.area_min_b = 0.5 is above"},
      {{"augment.aspect_min=2"}, "augment.aspect_min = 2 is above"},
      {{"augment.low=1"}, "augment.low = 1 is not below"},
      {{"augment.mean=1,2,3"}, "augment.mean has 3 numbers and augment.stddev 0"},
      {{"augment.mean=1,2", "augment.stddev=1,2", "model.channels=3"}, "model.channels is 3"},
      {{"augment.mixup=0.2", "prc.form=paper", "data.two_view=true"},
       "prc.form = \"paper\" compares what patches show, but augment.mixup mixes images: set it to "
       "0, or prc.form=none"},
      {{"augment.cutmix=1e-310"}, "augment.cutmix = 1e-310 is too small to draw with: 0 for off"},
      {{"augment.cutmix=1", "augment.mix_images=96"},
       "augment.mix_images = 96 is not a divisor of train.batch = 128: change one of them"},
      {{"augment.cutmix=1", "augment.mix_images=1"},
       "augment.mix_images = 1 leaves augment.cutmix no whole images to mix: raise it"},
      {{"augment.mixup=1", "augment.mix_images=2", "data.two_view=true"},
       "no whole images to mix (data.two_view: two views of each)"},
      {{"data.train_split=train[:x]"},
       "data.train_split: \"train[:x]\" is no split, expected train"},
      {{"data.test_split=val"}, "data.test_split: \"val\" is no split"},
      {{"data.source=cifar10"}, "data.source = \"cifar10\" has no kind"},
      {{"data.source=:x"}, "has no kind"},
      {{"model.classes=1"}, "model.classes = 1"},
      {{"eval.shorter=31"}, "eval.shorter = 31 leaves no centre of model.image_size = 32"},
      {{"moe.chooser=soft"},
       "nothing to balance, to drop or to compare: set moe.importance_weight=0"},
      {{"moe.chooser=soft", "moe.importance_weight=0"}, "set moe.load_weight=0"},
      {{"moe.chooser=soft", "moe.importance_weight=0", "moe.load_weight=0", "moe.entropy_weight=1"},
       "set moe.entropy_weight=0"},
      {{"moe.chooser=soft", "moe.importance_weight=0", "moe.load_weight=0", "data.two_view=true",
        "prc.form=paper"},
       "set prc.form=none"},
      {{"moe.chooser=soft", "moe.importance_weight=0", "moe.load_weight=0",
        "moe.dispatch=capacity"},
       "set moe.dispatch=dropless"},
  };
  for (const Case& c : cases) {
    CAPTURE(c.expected);
    const std::string message = validate_error(c.set);
    CAPTURE(message);
    CHECK(contains(message, c.expected));
    CHECK_FALSE(contains(message, "\n"));
  }
  // Fine, though close to the above.
  CHECK(validate_error({"schedule.kind=step", "train.epochs=2", "schedule.warmup_steps=9"}) == "");
  CHECK(validate_error(
            {"schedule.kind=rsm-cosine", "train.epochs=9", "schedule.warmup_epochs=8"}) == "");
  CHECK(validate_error({"moe.noise_std=0", "moe.load_weight=0"}) == "");
  CHECK(validate_error({"train.steps=0", "train.epochs=2", "schedule.warmup_steps=500"}) == "");
  CHECK(validate_error({"moe.dispatch=capacity", "train.micro_batch=8"}) == "");
  CHECK(validate_error({"moe.eval_capacity_factor=4", "eval.batch=100"}) == "");  // dropless
  CHECK(validate_error({"moe.importance_weight=0", "moe.load_weight=0", "train.batch=100"}) == "");
  CHECK(validate_error({"data.two_view=true", "prc.form=fork"}) == "");
  CHECK(validate_error({"moe.chooser=soft", "moe.importance_weight=0", "moe.load_weight=0",
                        "train.batch=100"}) == "");
  CHECK(validate_error({"augment.mean=0.5", "augment.stddev=0.5", "model.channels=3"}) == "");
}

TEST_CASE("config: what is written reads back to the same bits") {
  const double inexact = 0.1 + 0.2, tiny = std::numeric_limits<double>::denorm_min();
  for (const bool with_docs : {false, true}) {
    Config config;
    config.recipe = "a \"b\" \\ c";
    config.data.source = "idx:/tmp/\xc3\xa4 # \"x\"\t\n\x7f";
    config.schedule.peak = inexact;
    config.schedule.end = tiny;
    config.optimizer.eps = 1.7976931348623157e308;
    config.optimizer.weight_decay = 1e15;
    config.augment.mean = {inexact, -0.0, 1.0 / 3};
    config.augment.low = -5;
    config.train.seed = 9007199254740991;
    const std::string text = train::to_toml(config, with_docs);
    const Config read = parse(text);
    CHECK(read.recipe == config.recipe);
    CHECK(read.data.source == config.data.source);
    CHECK(read.schedule.peak == inexact);
    CHECK(read.schedule.end == tiny);
    CHECK(read.optimizer.eps == config.optimizer.eps);
    CHECK(read.train.seed == config.train.seed);
    CHECK(std::memcmp(read.augment.mean.data(), config.augment.mean.data(), 24) == 0);
    CHECK(train::config_hash(read) == train::config_hash(config));
    // Sources are kept as notes, so a second writing changes nothing.
    const bool same = train::to_toml(read, with_docs) == text;
    CHECK(same);
  }
}

TEST_CASE("config: random floats survive") {
  Config config;
  uint64_t state = 1;
  while (config.augment.mean.size() < 2000) {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    double value = 0;
    std::memcpy(&value, &state, sizeof value);
    if (std::isfinite(value)) config.augment.mean.push_back(value);
  }
  const Config read = parse(train::to_toml(config, false));
  REQUIRE(read.augment.mean.size() == 2000);
  CHECK(std::memcmp(read.augment.mean.data(), config.augment.mean.data(), 2000 * 8) == 0);
}

TEST_CASE("config: the hash sees what a resumed run must not change") {
  const Config config = valid_with({"data.source=idx:/a"});
  const std::string hash = train::config_hash(config);
  CHECK(hash.size() == 16);
  for (const char* same : {"train.threads=3", "data.workers=4", "data.prefetch=9", "log.every=1",
                           "eval.every=7", "eval.batch=8", "checkpoint.every=3",
                           "checkpoint.keep=1", "data.source=idx:/b", "moe.experts=8"}) {
    CAPTURE(same);
    Config other = config;
    train::set_value(other, same);
    CHECK(train::config_hash(other) == hash);
  }
  for (const char* different :
       {"train.seed=1", "train.micro_batch=64", "train.steps=101", "moe.experts=4",
        "schedule.peak=0.0010000000000000002", "data.source=cifar10:/a", "augment.mean=1",
        "model.gelu=erf", "prc.class_token=false"}) {
    CAPTURE(different);
    Config other = config;
    train::set_value(other, different);
    CHECK(train::config_hash(other) != hash);
  }
}

TEST_CASE("config: what a resumed run must not change is named with both values") {
  const Config was = valid_with({"data.source=idx:/a"});
  Config now = was;
  for (const char* assignment : {"train.threads=3", "log.every=1", "data.source=idx:/b"}) {
    train::set_value(now, assignment);
  }
  CHECK(train::changed_values(was, now).empty());
  for (const char* assignment : {"schedule.peak=0.02", "moe.experts=4", "data.source=cifar10:/a"}) {
    train::set_value(now, assignment);
  }
  CHECK(train::changed_values(was, now) ==
        "moe.experts was 8, now 4; data.source was \"idx\", now \"cifar10\"; schedule.peak was "
        "0.001, now 0.02");
}

TEST_CASE("config: files with and without a base") {
  const std::string path = "config_test_" + std::to_string(getpid()) + ".toml";
  const auto write = [&](const std::string& text) { std::ofstream(path) << text; };
  write("base = \"quick-prc\"\n[model]\nwidth = 32\n");
  Config config = train::load_config(path);
  CHECK(config.model.width == 32);
  CHECK(config.model.layers == 4);
  CHECK(config.prc.form == "paper");
  CHECK(config.recipe + ".toml" == path);
  CHECK(config.by_hand("model.width"));
  CHECK_FALSE(config.by_hand("model.layers"));
  CHECK(config.sources.at("prc.form").origin == Origin::kRecipe);
  CHECK(train::load_config("./" + path).recipe == config.recipe);

  write("\nbase = \"quick-pcr\"\n");
  const std::string message = message_of([&] { train::load_config(path); });
  CHECK(contains(message,
                 path + ":2: base: there is no recipe \"quick-pcr\"; the nearest is quick-"));
  for (const char* base : {"./other.toml", "other.toml", "/etc/other"}) {
    write("base = \"" + std::string(base) + "\"\n");
    CHECK(contains(message_of([&] { train::load_config(path); }),
                   path + ":1: base is \"" + base + "\", expected the name of a recipe"));
  }
  std::remove(path.c_str());
  CHECK(contains(message_of([&] { train::load_config(path); }), path + ": "));
  CHECK(contains(message_of([&] { train::load_config("/tmp/"); }), "/tmp/"));
}
