// Values that were chosen and have no effect.
#include <doctest/doctest.h>

#include <fstream>
#include <string>
#include <vector>

#include "tests/train/temp_folder.h"
#include "train/config.h"

using train::Config;
using train::test::contains;
using train::test::error_of;
using train::test::put;
using train::test::TempFolder;

namespace {

// A config that validate() accepts, of a residual network or a vision transformer without experts.
Config plain(const std::string& kind) {
  Config config;
  config.model.kind = kind;
  config.train.steps = 1;
  return config;
}

// What validate() says of it after these --set; "no error" where it accepts them.
std::string said(Config config, const std::vector<std::string>& assignments) {
  for (const std::string& assignment : assignments) train::set_value(config, assignment);
  return error_of(engine::ErrorKind::kValue, [&] { train::validate(config); });
}

void check_refused(const std::string& text, const std::string& assignment,
                   const std::string& reason, const std::string& advice) {
  CAPTURE(assignment);
  CHECK(text.starts_with(assignment.substr(0, assignment.find('=')) + " has no effect: " + reason));
  CHECK(text.ends_with(": leave it out, or set " + advice));
}

}  // namespace

TEST_CASE("config: what concerns vision transformers is refused of a residual network") {
  const Config resnet = plain("resnet50");
  CHECK(said(resnet, {}) == "no error");
  for (const char* assignment : {"model.size=S",
                                 "model.width=192",
                                 "model.mlp=9",
                                 "model.heads=3",
                                 "model.layers=8",
                                 "model.patch=8",
                                 "model.gelu=erf",
                                 "model.pool=mean",
                                 "model.pre_logits=true",
                                 "model.stochastic_depth=0.1",
                                 "moe.importance_weight=1",
                                 "moe.load_weight=1",
                                 "moe.gshard_weight=1",
                                 "moe.entropy_weight=1",
                                 "moe.chooser=tokens",
                                 "moe.noise_std=1",
                                 "moe.bf16_dispatch=true",
                                 "moe.batch_priority=true",
                                 "moe.eval_top_k=1",
                                 "moe.eval_capacity_factor=1",
                                 "moe.capacity_multiple_of=2",
                                 "moe.expert_init=identical",
                                 "moe.expert_dropout=0.1",
                                 "moe.dropout_mask=slot",
                                 "moe.group_images=8",
                                 "prc.lambda_diag=1",
                                 "prc.lambda_off=1",
                                 "prc.weight=1",
                                 "prc.class_token=false",
                                 "prc.router=noisy",
                                 "prc.pairs=shuffled"}) {
    check_refused(said(resnet, {assignment}), assignment,
                  "model.kind is resnet50, and it is of vision transformers", "model.kind=vit");
  }
  for (const char* assignment :
       {"moe.experts=4", "moe.top_k=1", "image_moe.router=random", "image_moe.grid=2"}) {
    check_refused(said(resnet, {assignment}), assignment, "moe.layers is none",
                  "moe.layers=blocks layer4");
  }
  const std::vector<std::string> mixed = {"moe.layers=blocks layer4", "moe.top_k=1"};
  const auto also = [&](const std::string& more) {
    std::vector<std::string> all = mixed;
    all.push_back(more);
    if (more.starts_with("image_moe.balance_w")) all.emplace_back("image_moe.balance=none");
    return said(resnet, all);
  };
  CHECK(also("moe.experts=3") == "no error");
  check_refused(also("moe.capacity_factor=2"), "moe.capacity_factor", "moe.dispatch is dropless",
                "moe.dispatch=capacity");
  check_refused(also("image_moe.balance_weight=2"), "image_moe.balance_weight",
                "image_moe.balance is none", "image_moe.balance=entropy");
  // What is off already may be switched off.
  for (const char* assignment :
       {"model.size=custom", "model.pre_logits=false", "model.stochastic_depth=0",
        "moe.importance_weight=0", "moe.load_weight=0", "moe.gshard_weight=0",
        "moe.entropy_weight=0", "moe.noise_std=0", "moe.bf16_dispatch=false",
        "moe.batch_priority=false", "prc.form=none", "moe.layers=none"}) {
    CAPTURE(assignment);
    CHECK(said(resnet, {assignment}) == "no error");
  }
  CHECK(said(plain("vit"), {"model.width=96", "model.gelu=erf", "model.pool=mean"}) == "no error");
}

TEST_CASE("config: what concerns residual networks is refused of a vision transformer") {
  for (const char* assignment :
       {"model.stem=small", "model.first_width=4", "image_moe.router=conv-gap",
        "image_moe.weight=plain", "image_moe.balance=switch", "image_moe.balance_weight=1",
        "image_moe.noisy_selection=on", "image_moe.spread_weight=1", "image_moe.grid=2"}) {
    check_refused(said(plain("vit"), {assignment}), assignment,
                  "model.kind is vit, and it is of residual networks", "model.kind=resnet18");
    CHECK(said(plain("resnet18"), {"moe.layers=blocks layer4", "moe.top_k=1", assignment}) ==
          "no error");
  }
}

TEST_CASE("config: what an attack or an optimizer does not take is refused") {
  const Config resnet = plain("resnet18");
  check_refused(said(resnet, {"optimizer.name=adam", "optimizer.nesterov=true"}),
                "optimizer.nesterov", "optimizer.name is adam", "optimizer.name=sgd");
  CHECK(said(resnet, {"optimizer.name=sgd", "optimizer.nesterov=true"}) == "no error");
  CHECK(said(resnet, {"optimizer.name=adam", "optimizer.nesterov=false"}) == "no error");
  for (const char* assignment :
       {"adversarial.eps=8/255", "adversarial.step=2/255", "adversarial.steps=7",
        "adversarial.attack_mode=eval", "adversarial.drop_start=true"}) {
    const bool of_fast = std::string(assignment).starts_with("adversarial.drop_start");
    const std::string advice = of_fast ? "adversarial.kind=fast" : "adversarial.kind=pgd";
    check_refused(said(resnet, {assignment}), assignment, "adversarial.kind is none", advice);
    check_refused(said(resnet, {"adversarial.kind=none", assignment}), assignment,
                  "adversarial.kind is none", advice);
  }
  check_refused(said(resnet, {"adversarial.kind=fast", "adversarial.steps=7"}), "adversarial.steps",
                "adversarial.kind is fast", "adversarial.kind=pgd");
  check_refused(said(resnet, {"adversarial.kind=pgd", "adversarial.drop_start=true"}),
                "adversarial.drop_start", "adversarial.kind is pgd", "adversarial.kind=fast");
  for (const char* kind : {"pgd", "fast", "free"}) {
    const std::string set = std::string("adversarial.kind=") + kind;
    check_refused(said(resnet, {set, "adversarial.beta=6"}), "adversarial.beta",
                  std::string("adversarial.kind is ") + kind, "adversarial.kind=trades");
  }
  for (const char* assignment : {"adversarial.steps=7", "adversarial.attack_mode=eval"}) {
    check_refused(said(resnet, {"adversarial.kind=free", assignment}), assignment,
                  "adversarial.kind is free", "adversarial.kind=pgd");
  }
  check_refused(said(resnet, {"adversarial.kind=trades", "adversarial.replays=4"}),
                "adversarial.replays", "adversarial.kind is trades", "adversarial.kind=free");
  CHECK(said(resnet, {"adversarial.kind=free", "adversarial.replays=4"}) == "no error");
  CHECK(said(resnet, {"adversarial.kind=trades", "adversarial.beta=6", "adversarial.steps=2"}) ==
        "no error");
  CHECK(said(resnet, {"adversarial.drop_start=false"}) == "no error");
  CHECK(said(resnet, {"adversarial.kind=pgd", "adversarial.drop_start=false", "adversarial.steps=3",
                      "adversarial.attack_mode=train"}) == "no error");
  CHECK(said(resnet, {"adversarial.kind=fast", "adversarial.drop_start=true",
                      "adversarial.eps=4/255", "adversarial.step=5/255"}) == "no error");
}

TEST_CASE(
    "config: who set a value decides: a recipe's is no choice, a file's is, a run's own is not") {
  const TempFolder folder;
  const auto file = [&](const std::string& text) {
    put(folder / "mine.toml", text);
    return train::load_config(folder / "mine.toml");
  };
  // The recipe's own nesterov and warm-up stay where Adam takes over.
  const Config recipe = train::load_config("quick-resnet");
  CHECK(recipe.optimizer.nesterov);
  CHECK(said(recipe, {"optimizer.name=adam"}) == "no error");
  const std::string base = "base = \"quick-resnet\"\n[optimizer]\nname = \"adam\"\n";
  CHECK(said(file(base), {}) == "no error");
  CHECK(contains(said(file(base + "nesterov = true\n"), {}), "optimizer.nesterov has no effect"));
  CHECK(contains(said(recipe, {"optimizer.name=adam", "optimizer.nesterov=true"}),
                 "optimizer.nesterov has no effect"));
  // A run's config.toml, and what `robustmoe recipes` prints, list every key.
  Config run = recipe;
  train::set_value(run, "optimizer.name=adam");
  for (const bool with_docs : {false, true}) {
    const Config again = file(train::to_toml(run, with_docs));
    CHECK(again.written_out);
    CHECK(again.by_hand("optimizer.nesterov"));
    CHECK_FALSE(again.chosen("optimizer.nesterov"));
    CHECK(said(again, {}) == "no error");
    CHECK(contains(said(again, {"model.width=96"}), "model.width has no effect"));
  }
}
