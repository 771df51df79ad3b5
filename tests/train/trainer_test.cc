#include "train/trainer.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "tests/support/bits.h"
#include "tests/support/sanitized.h"
#include "tests/train/small_run.h"
#include "tests/train/temp_folder.h"
#include "train/checkpoint_json.h"
#include "train/file_io.h"

using engine::ErrorKind;
using nlohmann::json;
using train::Outcome;
using train::test::contains;
using train::test::content_of;
using train::test::error_of;
using train::test::file_of_step;
using train::test::names_in;
using train::test::put;
using train::test::run;
using train::test::Settings;
using train::test::TempFolder;
using train::test::tensors;

namespace {

std::vector<json> lines_of(const std::string& path, const std::string& kind) {
  std::vector<json> lines;
  std::istringstream text(content_of(path));
  for (std::string line; std::getline(text, line);) {
    const json parsed = json::parse(line);
    if (parsed["kind"] == kind) lines.push_back(parsed);
  }
  return lines;
}

}  // namespace

TEST_CASE("trainer: what a run leaves behind") {
  const TempFolder folder;
  const std::string dir = folder / "deep/run";
  CHECK(run(dir, {"eval.every=6"}) == Outcome::kDone);
  CHECK(names_in(dir) ==
        Settings{"checkpoints", "config.toml", "log.txt", "metrics.jsonl", "summary.csv"});
  CHECK(names_in(dir + "/checkpoints").back() == "step-000000012");
  CHECK(content_of(dir + "/checkpoints/latest") == "step-000000012\n");
  const train::Config config = train::load_config(dir + "/config.toml");
  CHECK(config.train.steps == 12);
  CHECK(config.model.classes == 10);
  CHECK(config.train.micro_batch == 8);

  const auto steps = lines_of(dir + "/metrics.jsonl", "train");
  REQUIRE(steps.size() == 12);
  CHECK(steps[0]["learning_rate"] == 0);
  CHECK(steps[4]["learning_rate"] == 0.01);
  CHECK(steps[4]["epoch"] == 2.0);
  CHECK(steps[0]["accuracy_n"] == 16);
  CHECK(steps[11]["block_1_load"].size() == 4);
  const auto evals = lines_of(dir + "/metrics.jsonl", "eval");
  REQUIRE(evals.size() == 2);
  CHECK(evals[0]["step"] == 6);
  CHECK(evals[1]["n"] == 20);
  CHECK(contains(content_of(dir + "/summary.csv"), "step,12\n"));
  const std::string log = content_of(dir + "/log.txt");
  for (const char* part :
       {"parameters: ", "memory plan: ", "per micro-batch of 8 views", "step 12/12", "done in "}) {
    CHECK_MESSAGE(contains(log, part), part);
  }
}

TEST_CASE("trainer: S of every layer, so many times a run, from the step's own pairs") {
  const TempFolder folder;
  const Settings prc = {"data.two_view=true",  "prc.form=paper",          "prc.lambda_diag=0.1",
                        "prc.lambda_off=0.1",  "moe.importance_weight=0", "moe.load_weight=0",
                        "train.micro_batch=0", "log.s_matrices=4"};
  run(folder / "run", prc);
  const auto steps = lines_of(folder / "run/metrics.jsonl", "train");
  const auto frames = lines_of(folder / "run/metrics.jsonl", "s");
  REQUIRE(frames.size() == 4);
  for (size_t i = 0; i < 4; ++i) {
    const int64_t step = frames[i]["step"];
    CHECK(step == static_cast<int64_t>(3 * (i + 1)));
    // The terms that the loss of this step logged, means over the layers.
    double diagonal = 0, off = 0;
    for (const char* key : {"block_0_s", "block_1_s"}) {
      const auto s = frames[i][key].get<std::vector<double>>();
      REQUIRE(s.size() == 16);
      for (size_t k = 0; k < 16; ++k) {
        if (k % 5 == 0) {
          diagonal += (1 - s[k]) * (1 - s[k]) / 4 / 2;
        } else {
          off += s[k] * s[k] / 12 / 2;
        }
      }
    }
    const json& line = steps[static_cast<size_t>(step - 1)];
    CHECK(diagonal == doctest::Approx(line["prc_diagonal"].get<double>()).epsilon(1e-5));
    CHECK(off == doctest::Approx(line["prc_off_diagonal"].get<double>()).epsilon(1e-5));
    CHECK(frames[i]["block_1_pairs"] == line["prc_pairs"]);
  }
  // Looking changes nothing; without two views there is nothing to look at.
  Settings none = prc;
  none.back() = "log.s_matrices=0";
  run(folder / "none", none);
  CHECK(lines_of(folder / "none/metrics.jsonl", "s").empty());
  CHECK(tensors(file_of_step(folder / "none", 12, "model.safetensors")) ==
        tensors(file_of_step(folder / "run", 12, "model.safetensors")));
  run(folder / "single");
  CHECK(lines_of(folder / "single/metrics.jsonl", "s").empty());
}

TEST_CASE("trainer: metrics name what happened: resumed runs, warnings") {
  const TempFolder folder;
  const std::string dir = folder / "run";
  const Settings many = {"moe.top_k=1", "moe.experts=64"};  // most of which starve
  CHECK(run(dir, many, {.stop = true}) == Outcome::kStopped);
  CHECK(run(dir, many, {.resume = true}) == Outcome::kDone);
  int64_t resumes = 0, warnings = 0;
  for (const json& event : lines_of(dir + "/metrics.jsonl", "event")) {
    if (event["event"] == "resume") {
      ++resumes;
      CHECK(event["step"] == 1);
      continue;
    }
    CHECK(event["event"] == "warning");
    ++warnings;
    const std::string logged = "step " + std::to_string(event["step"].get<int64_t>()) +
                               " warning: " + event["text"].get<std::string>();
    CHECK_MESSAGE(contains(content_of(dir + "/log.txt"), logged), logged);
  }
  CHECK(resumes == 1);
  CHECK(warnings > 0);
}

TEST_CASE("trainer: a log line sums up its interval") {
  const TempFolder folder;
  run(folder / "each");
  run(folder / "some", {"log.every=5"});
  const auto each = lines_of(folder / "each/metrics.jsonl", "train");
  const auto some = lines_of(folder / "some/metrics.jsonl", "train");
  REQUIRE(each.size() == 12);
  REQUIRE(some.size() == 3);
  for (size_t i = 0; i < 3; ++i) {
    const size_t end = std::min<size_t>(5 * i + 5, 12);
    CHECK(some[i]["step"] == end);
    double loss = 0;
    for (size_t s = 5 * i; s < end; ++s) loss += each[s]["loss"].get<double>();
    CHECK(some[i]["loss"].get<double>() ==
          doctest::Approx(loss / static_cast<double>(end - 5 * i)));
    CHECK(some[i]["learning_rate"] == each[end - 1]["learning_rate"]);
  }
}

TEST_CASE("trainer: TRADES' divergence is a number of its own") {
  const TempFolder folder;
  run(folder / "run", {"adversarial.kind=trades", "adversarial.steps=2", "train.steps=6"});
  const auto lines = lines_of(folder / "run/metrics.jsonl", "train");
  REQUIRE(lines.size() == 6);
  for (const json& line : lines) {
    double sum = 0;
    for (const char* term : {"cross_entropy", "importance", "load", "divergence"}) {
      sum += line[term].get<double>();
    }
    CHECK(line["loss"].get<double>() == doctest::Approx(sum).epsilon(1e-6));
  }
  CHECK(lines.back()["divergence"].get<double>() > 0);
  run(folder / "plain", {"train.steps=4"});
  CHECK(lines_of(folder / "plain/metrics.jsonl", "train").back()["divergence"] == 0);
}

TEST_CASE("trainer: a schedule per epoch changes the rate between epochs alone") {
  const TempFolder folder;
  run(folder / "run", {"schedule.kind=rsm-polynomial", "schedule.warmup_steps=0", "train.steps=0",
                       "train.epochs=3"});
  const auto lines = lines_of(folder / "run/metrics.jsonl", "train");
  REQUIRE(lines.size() == 8);  // 3 * 40 images in steps of 16
  const double shares[] = {0.01, std::pow(2.0 / 3, 0.9), std::pow(1.0 / 3, 0.9)};
  for (size_t step = 0; step < 8; ++step) {
    CHECK(lines[step]["learning_rate"].get<double>() ==
          doctest::Approx(0.01 * shares[step * 3 / 8]).epsilon(1e-12));
  }
}

TEST_CASE("trainer: a stop saves, and metrics go on from there") {
  const TempFolder folder;
  const std::string dir = folder / "run";
  CHECK(run(dir, {}, {.stop = true}) == Outcome::kStopped);
  CHECK(names_in(dir + "/checkpoints") == Settings{"latest", "step-000000001"});
  CHECK(contains(content_of(dir + "/log.txt"), "continue with: the command to go on"));
  CHECK(run(dir, {}, {.resume = true, .stop = true}) == Outcome::kStopped);
  CHECK(content_of(dir + "/checkpoints/latest") == "step-000000002\n");
  // A kill later than the last checkpoint leaves lines of steps that will be done again.
  train::test::put(dir + "/metrics.jsonl", content_of(dir + "/metrics.jsonl") +
                                               R"({"kind": "train", "step": 3})" + "\n" +
                                               R"({"kind": "tr)");
  CHECK(run(dir, {}, {.resume = true}) == Outcome::kDone);
  CHECK(contains(content_of(dir + "/log.txt"), "resuming after step 2"));

  run(folder / "straight");
  const auto resumed = lines_of(dir + "/metrics.jsonl", "train");
  const auto straight = lines_of(folder / "straight/metrics.jsonl", "train");
  REQUIRE(resumed.size() == 12);
  REQUIRE(straight.size() == 12);
  for (size_t i = 0; i < 12; ++i) {
    for (const char* key : {"step", "epoch", "loss", "cross_entropy", "importance", "load",
                            "accuracy", "gradient_norm", "learning_rate", "block_0_load"}) {
      CAPTURE(i);
      CHECK_MESSAGE(resumed[i][key] == straight[i][key], key);
    }
  }
}

TEST_CASE("trainer: a stop breaks an evaluation off, and the resumed run makes up for it") {
  const TempFolder folder;
  const Settings often = {"eval.every=1", "train.steps=3", "schedule.warmup_steps=1"};
  run(folder / "straight", often);
  const std::string dir = folder / "run";
  for (int stops = 0; stops < 4; ++stops) {
    CAPTURE(stops);
    CHECK(run(dir, often, {.resume = stops > 0, .stop = true}) == Outcome::kStopped);
    // The first stop comes in the first evaluation; a resumed run begins with that evaluation.
    CHECK(lines_of(dir + "/metrics.jsonl", "train").size() == 1);
    CHECK(lines_of(dir + "/metrics.jsonl", "eval").empty());
  }
  CHECK(run(dir, often, {.resume = true}) == Outcome::kDone);
  CHECK(lines_of(dir + "/metrics.jsonl", "eval") ==
        lines_of(folder / "straight/metrics.jsonl", "eval"));
  CHECK(content_of(dir + "/summary.csv") == content_of(folder / "straight/summary.csv"));
  for (const char* file : {"model.safetensors", "state.safetensors", "run.json"})
    CHECK_MESSAGE(file_of_step(dir, 3, file) == file_of_step(folder / "straight", 3, file), file);

  // Inside the last evaluation: the training is saved, only the figures are missing.
  const Settings one = {"train.steps=1", "schedule.warmup_steps=0"};
  CHECK(run(folder / "one", one, {.stop = true}) == Outcome::kStopped);
  CHECK_FALSE(std::filesystem::exists(folder / "one/summary.csv"));
  CHECK(run(folder / "one", one, {.resume = true}) == Outcome::kDone);
  CHECK(contains(content_of(folder / "one/summary.csv"), "step,1\n"));
}

TEST_CASE("trainer: a folder that another run holds") {
  const TempFolder folder;
  const std::string dir = folder / "run";
  CHECK(run(dir, {}, {.stop = true}) == Outcome::kStopped);
  train::test::put(dir + "/.writing-summary.csv-99", "half");
  {
    const train::FolderLock other(dir);
    const auto names = names_in(dir);
    for (const bool resume : {true, false}) {
      const std::string message =
          error_of(ErrorKind::kIo, [&] { run(dir, {}, {.resume = resume}); });
      CHECK(contains(message, dir + ": another run is writing here"));
    }
    CHECK(names_in(dir) == names);
  }
  CHECK(run(dir, {}, {.resume = true}) == Outcome::kDone);
  // What a killed run had not finished writing is gone.
  CHECK(names_in(dir) ==
        Settings{"checkpoints", "config.toml", "log.txt", "metrics.jsonl", "summary.csv"});
}

TEST_CASE("trainer: resumed runs have the same bits, whatever the workers and threads") {
  const TempFolder folder;
  run(folder / "straight");
  const std::string weights = tensors(file_of_step(folder / "straight", 12, "model.safetensors"));
  const std::string state = file_of_step(folder / "straight", 12, "state.safetensors");
  CHECK(contains(state, "ema/head.output.weight"));
  for (const int workers : {0, 1, 4}) {
    const Settings settings = {"data.workers=" + std::to_string(workers)};
    const std::string same = folder / ("straight-" + std::to_string(workers));
    run(same, settings);
    for (const int threads : {1, 2, 5}) {
      CAPTURE(workers);
      CAPTURE(threads);
      const std::string dir = folder / (std::to_string(workers) + "-" + std::to_string(threads));
      // Stopped in the warm-up, after steps 1 to 3, the last of which crosses an epoch's end.
      for (int stops = 0; stops < 3; ++stops) {
        CHECK(run(dir, settings, {.resume = stops > 0, .stop = true, .threads = threads}) ==
              Outcome::kStopped);
      }
      CHECK(run(dir, settings, {.resume = true, .threads = threads}) == Outcome::kDone);
      const std::string model = file_of_step(dir, 12, "model.safetensors");
      CHECK(model == file_of_step(same, 12, "model.safetensors"));
      CHECK(tensors(model) == weights);
      CHECK(file_of_step(dir, 12, "state.safetensors") == state);
    }
  }
  run(folder / "other", {"train.seed=1"});
  CHECK(tensors(file_of_step(folder / "other", 12, "model.safetensors")) != weights);
}

TEST_CASE("trainer: the run's position counts epochs") {
  const TempFolder folder;
  run(folder / "run", {"checkpoint.keep=9"});
  for (const auto& [step, epoch, position] :
       {std::tuple{5, 2, 0}, std::tuple{10, 4, 0}, std::tuple{12, 4, 32}}) {
    const json state = json::parse(file_of_step(folder / "run", step, "run.json"));
    CHECK(state["step"] == step);
    CHECK(state["epoch"] == epoch);
    CHECK(state["position"] == position);
  }
}

TEST_CASE("trainer: a resume with other settings is refused in one line") {
  const TempFolder folder;
  const std::string dir = folder / "run";
  run(dir, {}, {.stop = true});
  const std::string metrics = content_of(dir + "/metrics.jsonl");
  for (const auto& [setting, change] :
       {std::pair{"schedule.peak=0.02", "schedule.peak was 0.01, now 0.02"},
        {"train.micro_batch=16", "train.micro_batch was 8, now 16"},
        {"train.seed=3", "train.seed was 0, now 3"},
        {"model.width=32", "model.width was 16, now 32"}}) {
    const Settings settings{setting};  // clang 14 cannot capture a binding
    const std::string message =
        error_of(ErrorKind::kValue, [&] { run(dir, settings, {.resume = true}); });
    CHECK(
        contains(message, dir + ": its checkpoint was made with other settings (" + change + ")"));
    CHECK(message.find('\n') == std::string::npos);
  }
  CHECK(content_of(dir + "/metrics.jsonl") == metrics);
  const std::string message = error_of(ErrorKind::kValue, [&] {
    run(dir, {}, {.resume = true, .data = "shapes:size=16,train=41,test=20"});
  });
  CHECK(contains(message, "other training data ({\"images\":40,"));
  CHECK(contains(message, "now {\"images\":41,"));
  CHECK(content_of(dir + "/metrics.jsonl") == metrics);
  CHECK(run(dir, {"log.every=7", "data.workers=0"}, {.resume = true}) == Outcome::kDone);
}

TEST_CASE("trainer: a resume on as many other pictures is refused") {
  const TempFolder folder;
  const std::string cifar = folder / "cifar", dir = folder / "run";
  const std::string data = "cifar10:" + cifar;
  std::filesystem::create_directory(cifar);
  const auto write = [&](char grey) {
    for (int file = 0; file < 6; ++file) {
      const std::string name = file == 5 ? "test_batch" : "data_batch_" + std::to_string(file + 1);
      put(cifar + "/" + name + ".bin",
          std::string("\1") + std::string(3072, grey) + "\2" + std::string(3072, 'x'));
    }
  };
  const Settings settings{"train.batch=8", "train.micro_batch=0"};
  write('a');
  run(dir, settings, {.stop = true, .data = data.c_str()});
  write('b');
  const std::string message = error_of(
      ErrorKind::kValue, [&] { run(dir, settings, {.resume = true, .data = data.c_str()}); });
  CHECK(contains(message, "other training data"));
  write('a');
  CHECK(run(dir, settings, {.resume = true, .data = data.c_str()}) == Outcome::kDone);
}

TEST_CASE(
    "trainer: what is the user's own in the folder stays, and a config of his is not replaced") {
  const TempFolder folder;
  const std::string dir = folder / "run";
  std::filesystem::create_directories(dir + "/.writing-my-thesis");
  put(dir + "/config.toml", "# mine\nbase = \"quick-vmoe\"\n");
  const std::string message = error_of(ErrorKind::kValue, [&] { run(dir); });
  CHECK(contains(message, dir + "/config.toml is there already"));
  CHECK(contains(error_of(ErrorKind::kValue, [&] { run(dir, {}, {.resume = true}); }),
                 "is there already"));
  CHECK(content_of(dir + "/config.toml") == "# mine\nbase = \"quick-vmoe\"\n");
  std::filesystem::remove(dir + "/config.toml");
  run(dir);
  CHECK(std::filesystem::exists(dir + "/.writing-my-thesis"));
  // One that a run wrote before it came to anything is replaced.
  std::filesystem::create_directories(folder / "again");
  put(folder / "again/config.toml", content_of(dir + "/config.toml"));
  CHECK(run(folder / "again", {"log.every=5"}) == Outcome::kDone);
  CHECK(contains(content_of(folder / "again/config.toml"), "every = 5  # --set"));
}

TEST_CASE("trainer: config.toml says what is in force after a resume, too") {
  const TempFolder folder;
  const std::string dir = folder / "run";
  run(dir, {}, {.stop = true});
  CHECK(run(dir, {"log.every=3", "checkpoint.every=4"}, {.resume = true}) == Outcome::kDone);
  const train::Config now = train::load_config(dir + "/config.toml");
  CHECK(now.log.every == 3);
  CHECK(now.checkpoint.every == 4);
  // Without a checkpoint a resume starts over, with the settings that it is given.
  const std::string begun = folder / "begun";
  std::filesystem::create_directories(begun);
  put(begun + "/config.toml", content_of(dir + "/config.toml"));
  run(begun, {"train.seed=5"}, {.resume = true, .stop = true});
  CHECK(train::load_config(begun + "/config.toml").train.seed == 5);
  CHECK(run(begun, {"train.seed=5"}, {.resume = true}) == Outcome::kDone);
}

TEST_CASE("trainer: the best model has a checkpoint, whatever checkpoint.every says") {
  const TempFolder folder;
  const std::string dir = folder / "run";
  run(dir, {"eval.every=1", "checkpoint.every=0", "checkpoint.keep=1"});
  const json state = json::parse(file_of_step(dir, 12, "run.json"));
  const int best = state["best_step"];
  CHECK(json::parse(file_of_step(dir, best, "run.json"))["step"] == best);
  size_t steps = 0;
  for (const std::string& name : names_in(dir + "/checkpoints")) steps += name.starts_with("step-");
  CHECK(steps == (best == 12 ? 1 : 2));
}

TEST_CASE("trainer: weights that are not finite are never saved") {
  const TempFolder folder;
  const std::string dir = folder / "run";
  const std::string message = error_of(ErrorKind::kFormat, [&] {
    run(dir, {"checkpoint.every=1", "checkpoint.keep=1", "optimizer.eps=1e-320",
              "schedule.warmup_steps=0"});
  });
  CHECK(contains(message, "step 1: "));
  CHECK(contains(message, "not finite"));
  CHECK(contains(message, "last good checkpoint: none"));
  CHECK_FALSE(std::filesystem::exists(dir + "/checkpoints/latest"));
}

TEST_CASE("trainer: a warm-up longer than the epochs is refused") {
  const TempFolder folder;
  const std::string message = error_of(ErrorKind::kValue, [&] {
    run(folder / "run", {"train.steps=0", "train.epochs=1", "schedule.warmup_steps=9"});
  });
  CHECK(contains(message, "schedule.warmup_steps = 9 is more than the run's 3 steps"));
}

TEST_CASE("trainer: a checkpoint altered with its checksums is refused by what it says") {
  const TempFolder folder;
  const std::string dir = folder / "run";
  run(dir, {}, {.stop = true});
  const std::string step = dir + "/checkpoints/" + content_of(dir + "/checkpoints/latest");
  const std::string path = step.substr(0, step.find('\n'));
  const std::string state = content_of(path + "/run.json");
  const std::string model = content_of(path + "/model.safetensors");
  const auto replace = [&](const std::string& file, const std::string& content) {
    put(path + "/" + file, content);
    const std::string manifest = path + "/manifest.json";
    train::Manifest sums = train::parse_manifest(content_of(manifest), manifest);
    sums[file] = train::sum_file(path + "/" + file);
    put(manifest, train::manifest_text(sums));
  };
  const auto forge = [&](const std::string& file, const std::string& content) {
    replace(file, content);
    const std::string message =
        error_of(ErrorKind::kFormat, [&] { run(dir, {}, {.resume = true}); });
    CHECK(contains(message, path));
    CHECK(message.find('\n') == std::string::npos);
    return message;
  };
  const auto with = [&](const char* key, const json& value) {
    json altered = json::parse(state);
    altered[key] = value;
    return forge("run.json", altered.dump());
  };
  CHECK(contains(with("step", -5), "run.json: step is -5, expected at least 0"));
  CHECK(contains(with("step", 13), "run.json: says step 13, but is in " + path));
  CHECK(contains(with("step", 1.5), "step: unexpected value 1.5"));
  CHECK(contains(with("epoch", 7), "run.json contradicts itself"));
  CHECK(contains(with("seed", 99), "seed 99"));
  CHECK(contains(with("best_step", 1000), "best_step is 1000, after the checkpoint's own step"));
  replace("run.json", state);
  CHECK(contains(forge("model.safetensors", model.substr(0, model.size() - 4) + "\xff\xff\xff\xff"),
                 "holds numbers that are not finite"));

  // Another hash and the same settings: of a program that had fewer of them.
  replace("model.safetensors", model);
  json earlier = json::parse(state);
  earlier["config_hash"] = "0123456789abcdef";
  replace("run.json", earlier.dump());
  CHECK(run(dir, {}, {.resume = true}) == Outcome::kDone);
}

TEST_CASE("trainer: a second run into the same folder is refused and changes nothing") {
  const TempFolder folder;
  const std::string dir = folder / "run";
  run(dir);
  const std::string metrics = content_of(dir + "/metrics.jsonl");
  const std::string config = content_of(dir + "/config.toml");
  const std::string message = error_of(ErrorKind::kValue, [&] { run(dir, {"train.seed=4"}); });
  CHECK(contains(message, "--resume"));
  CHECK(message.find('\n') == std::string::npos);
  CHECK(content_of(dir + "/metrics.jsonl") == metrics);
  CHECK(content_of(dir + "/config.toml") == config);
  // A finished run resumes to nothing to do.
  CHECK(run(dir, {}, {.resume = true}) == Outcome::kDone);
  CHECK(content_of(dir + "/metrics.jsonl") == metrics);
}

TEST_CASE("trainer: resuming nothing, and writing where nothing can be written") {
  const TempFolder folder;
  CHECK(contains(error_of(ErrorKind::kIo, [&] { run(folder / "no", {}, {.resume = true}); }),
                 "no usable checkpoint"));
  train::test::put(folder / "file", "");
  CHECK(contains(error_of(ErrorKind::kIo, [&] { run(folder / "file/run"); }), "file"));
}

TEST_CASE("trainer: a loss that is not finite names the last good checkpoint") {
  const TempFolder folder;
  const auto failure = [&](const std::string& name, const Settings& more) {
    Settings settings = {"schedule.peak=1e30", "optimizer.clip=0", "checkpoint.every=1"};
    settings.insert(settings.end(), more.begin(), more.end());
    const std::string message = error_of(ErrorKind::kValue, [&] { run(folder / name, settings); });
    CHECK(contains(message, "is not finite"));
    CHECK(message.find('\n') == std::string::npos);
    return message;
  };
  // The first step of a warm-up changes nothing; the second one's weights are saved, but give no
  // finite loss.
  const std::string good = "last good checkpoint: " + (folder / "run/checkpoints/step-000000001");
  std::string message = failure("run", {});
  CAPTURE(message);
  CHECK(contains(message, "step 3: "));
  CHECK(contains(message, good));
  CHECK(std::filesystem::exists(folder / "run/checkpoints/step-000000002"));
  // A good one is not deleted for a newer one that is not yet proven.
  message = failure("one", {"checkpoint.keep=1"});
  CHECK(contains(message, "last good checkpoint: " + (folder / "one/checkpoints/step-000000001")));
  // Where there never was one.
  message = failure("none", {"schedule.warmup_steps=0"});
  CHECK(contains(message, "step 2: "));
  CHECK(contains(message, "last good checkpoint: none"));
  // Found by an evaluation.
  message = failure("evaluated", {"eval.every=1"});
  CHECK(contains(message, "step 2: evaluation: "));
  CHECK(contains(message,
                 "last good checkpoint: " + (folder / "evaluated/checkpoints/step-000000001")));
}

TEST_CASE("trainer: 32 images are learnt by heart" * doctest::skip(engine::test::kSanitized)) {
  const TempFolder folder;
  CHECK(run(folder / "run",
            {"train.steps=150", "train.batch=32", "train.micro_batch=0", "model.width=32",
             "model.mlp=64", "augment.crop=none", "augment.flip=false", "log.every=10",
             "schedule.peak=0.01", "checkpoint.every=0"},
            {.data = "shapes:size=16,train=32,test=10"}) == Outcome::kDone);
  const auto lines = lines_of(folder / "run/metrics.jsonl", "train");
  CHECK(lines.front()["loss"].get<double>() > 1.5);
  CHECK(lines.back()["loss"].get<double>() < 0.1);
  CHECK(lines.back()["accuracy"] == 1.0);
}
