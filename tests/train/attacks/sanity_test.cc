#include "train/attacks/sanity.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "tests/train/guessed.h"
#include "tests/train/small_model.h"
#include "tests/train/temp_folder.h"

using nlohmann::json;
using train::AttackFigures;
using train::AttackPlan;
using train::AttackResult;
using train::Norm;
using train::PgdOptions;
using train::Victims;
using train::test::contains;
using train::test::Guessed;
using train::test::SmallModel;

namespace {

constexpr const char* kData = "shapes:size=16,train=20,test=40";

// The network, and then numbers on its logits that are others in each pass.
class Shaky final : public train::Network {
 public:
  Shaky(const train::Network& steady, float size) : steady_(steady), size_(size) {}
  void forward(nn::Forward& f, const engine::Tensor& images, moe::ModelOutput& out) const override {
    steady_.forward(f, images, out);
    const engine::RngKey key(++passes_, engine::Purpose::kTest);
    float* logits = out.logits.data<float>();
    for (int64_t i = 0; i < out.logits.numel(); ++i) {
      logits[i] += size_ * static_cast<float>(key.normal(static_cast<uint64_t>(i)));
    }
  }
  void visit(nn::ParamVisitor& /*v*/) override {}
  engine::Precision precision() const override { return steady_.precision(); }
  bool has_experts() const override { return steady_.has_experts(); }
  int64_t dependent_images() const override { return steady_.dependent_images(); }
  nn::Cost cost_per_image() const override { return steady_.cost_per_image(); }
  bool chooses_experts() const override { return steady_.chooses_experts(); }
  std::vector<std::string> moe_layer_names() const override { return steady_.moe_layer_names(); }

 private:
  const train::Network& steady_;
  float size_;
  mutable uint64_t passes_ = 0;
};

PgdOptions options(double eps, double step, int64_t steps) {
  PgdOptions o;
  o.ball = {Norm::kLinf, eps};
  o.step = step;
  o.steps = steps;
  o.random_start = false;
  return o;
}

AttackPlan plan(const std::string& name, const PgdOptions& options, double sigma = 0.1) {
  return train::plan_attack(name, options, sigma);
}

// The labels are the guesses of `guesser`.
AttackResult attacked(const train::Network& network, const train::Network& guesser,
                      const SmallModel& small, const std::vector<AttackPlan>& plans) {
  const Guessed set(*small.test, train::test::guesses(guesser, small.config, *small.test));
  return attack_model(network, small.config, set, plans);
}

AttackResult attacked(const SmallModel& small, const std::vector<AttackPlan>& plans) {
  return attacked(*small.model.network, *small.model.network, small, plans);
}

std::vector<std::string> flags_of(const AttackResult& result) {
  std::vector<std::string> names;
  const std::string text = train::attack_text(result);
  for (const train::AttackFlag& flag : train::attack_flags(result)) {
    names.push_back(flag.name);
    CHECK(contains(text, "flag " + flag.name + ": " + flag.text + "\n"));
  }
  const json parsed = json::parse(train::attack_json(result, {}));
  CHECK(parsed["flags"].get<std::vector<std::string>>() == names);
  return names;
}

using Names = std::vector<std::string>;

// Logits so far apart that the softmax is one of f32's zeros and ones.
void saturate(SmallModel& small) {
  const auto& params = small.model.params;
  const auto head = params.view(params.find("head.output.weight"), engine::Slab::kValue);
  for (int64_t i = 0; i < head.numel(); ++i) head.data<float>()[i] *= 1e4f;
}

}  // namespace

TEST_CASE("attack sanity: an attack that sees all raises no flag") {
  for (const std::vector<std::string>& settings :
       {std::vector<std::string>{},
        {"train.precision=bf16"},
        {"moe.chooser=soft"},
        {"model.kind=resnet18", "model.first_width=4"}}) {
    const SmallModel small(kData, settings);
    // Fresh weights: the larger ones of SmallModel saturate through eighteen layers.
    const train::Model fresh(small.config, false);
    const train::Network& network = settings.size() > 1 ? *fresh.network : *small.model.network;
    const PgdOptions o = options(0.02, 0.005, 8);
    const AttackResult r =
        attacked(network, network, small, {plan("noise", o), plan("fgsm", o), plan("pgd", o)});
    CAPTURE(train::attack_text(r));
    CHECK(flags_of(r).empty());
    CHECK(r.logits_changed == 0);
    for (const AttackFigures& f : r.attacks) CHECK(f.zero_gradients == 0);
    // What the worst case adds to an attack is what it missed: all balls here lie in noise's.
    CHECK(r.attacks[0].missed == r.attacks[0].robust - r.worst_case);
    const json parsed = json::parse(train::attack_json(r, {}));
    CHECK(parsed["per_attack"][0]["zero_gradients"].is_null());
    CHECK(parsed["per_attack"][2]["zero_gradients"] == 0);
    CHECK(parsed["per_attack"][0]["missed"] == r.attacks[0].missed);
    CHECK(parsed["logits_changed"] == 0);
  }
}

TEST_CASE("attack sanity: a forward pass that draws random numbers") {
  const SmallModel small(kData, {});
  // So small that it changes no verdict, and so large that claims cannot be checked.
  for (const float size : {1e-4f, 10.0f}) {
    const Shaky shaky(*small.model.network, size);
    const AttackResult r =
        attacked(shaky, *small.model.network, small, {plan("pgd", options(0.02, 0.005, 3))});
    CHECK(flags_of(r) == Names{"random_forward"});
    CHECK(r.logits_changed == 40);
    CHECK(json::parse(train::attack_json(r, {}))["logits_changed"] == 40);
    CHECK(contains(train::attack_flags(r)[0].text, "gave 40 of 40 other logits"));
  }
}

TEST_CASE("attack sanity: logits that saturate have gradients of zero, but for losses that scale") {
  SmallModel small(kData, {});
  saturate(small);
  const PgdOptions o = options(0.1, 0.025, 8);
  const AttackResult r =
      attacked(small, {plan("fgsm", o), plan("pgd", o), plan("apgd-dlr", o), plan("apgd-t", o)});
  CAPTURE(train::attack_text(r));
  CHECK(r.right == 40);
  CHECK(r.attacks[0].zero_gradients >= 36);
  CHECK(r.attacks[1].zero_gradients == r.attacks[0].zero_gradients);
  CHECK(r.attacks[2].zero_gradients == 0);
  CHECK(r.attacks[3].zero_gradients == 0);
  // From the clean image a gradient of zero leads nowhere; the other losses see the way.
  CHECK(r.attacks[1].robust > r.attacks[2].robust);
  CHECK(r.attacks[1].missed >= r.attacks[1].robust - r.attacks[2].robust);
  CHECK(r.attacks[1].missed_by_weaker == 0);
  CHECK(flags_of(r) == Names{"zero_gradients"});
  CHECK(contains(train::attack_flags(r)[0].text, "of 40 (fgsm), "));
}

TEST_CASE("attack sanity: a weaker attack that breaks more") {
  const SmallModel small(kData, {});
  // Steps of no length find nothing; a single one of eps does.
  const PgdOptions stuck = options(0.05, 0, 5);
  const AttackResult r = attacked(
      small, {plan("fgsm", stuck), plan("pgd", stuck), plan("pgd", options(0.05, 0.05, 2))});
  CHECK(r.attacks[0].robust < 40);
  CHECK(r.attacks[1].robust == 40);
  CHECK(r.attacks[1].missed == 40 - r.worst_case);
  CHECK(r.attacks[1].missed_by_weaker == r.attacks[1].missed);
  CHECK(flags_of(r) == Names{"weaker_attack_wins"});
  CHECK(contains(train::attack_flags(r)[0].text,
                 std::to_string(r.attacks[1].missed) + " of 40 (pgd)"));
  // Noise counts where it lies in the ball, and not where it is larger than any attack may be.
  const AttackResult within =
      attacked(small, {plan("noise", options(1, 0, 1), 0.3), plan("pgd", options(1, 0, 1))});
  CHECK(within.attacks[0].robust < 40);
  CHECK(within.attacks[1].missed_by_weaker == 40 - within.attacks[0].robust);
  CHECK(flags_of(within) == Names{"weaker_attack_wins"});
  const AttackResult beyond =
      attacked(small, {plan("noise", options(0.05, 0, 1), 0.3), plan("pgd", options(0.05, 0, 1))});
  CHECK(beyond.attacks[0].robust == within.attacks[0].robust);
  CHECK(beyond.attacks[1].missed == 0);
  CHECK(flags_of(beyond).empty());
}

TEST_CASE("attack sanity: who is weaker than whom") {
  const AttackPlan noise = plan("noise", options(1, 1, 9)), fgsm = plan("fgsm", options(1, 1, 9)),
                   pgd = plan("pgd", options(1, 1, 9)), apgd = plan("apgd", options(1, 1, 20)),
                   few = plan("pgd", options(1, 1, 8));
  AttackPlan again = few;
  again.pgd.restarts = 2;
  for (const AttackPlan* one : {&noise, &fgsm}) {
    for (const AttackPlan* many : {&pgd, &apgd, &few}) {
      CHECK(train::weaker(*one, *many));
      CHECK_FALSE(train::weaker(*many, *one));
    }
  }
  CHECK(train::weaker(few, pgd));
  CHECK(train::weaker(pgd, again));  // 9 steps, and 16
  for (const auto& [a, b] : {std::pair{&pgd, &few},
                             {&pgd, &pgd},
                             {&pgd, &apgd},
                             {&apgd, &pgd},
                             {&noise, &fgsm},
                             {&fgsm, &noise}}) {
    CHECK_FALSE(train::weaker(*a, *b));
  }
}

TEST_CASE("attack sanity: what was missed, image by image") {
  // Five images of one pixel; the last was wrong anyway. FGSM breaks the first three, one of them
  // beyond the ball of PGD, which breaks the third; noise breaks the fourth.
  Victims clean;
  clean.clean = clean.adversarial = {0.5f, 0.5f, 0.5f, 0.5f, 0.5f};
  clean.labels = {0, 0, 0, 0, 0};
  clean.samples = {0, 1, 2, 3, 4};
  clean.broken = {0, 0, 0, 0, 1};
  std::vector<Victims> all(3, clean);
  all[0].broken = {1, 1, 1, 0, 1};
  all[0].adversarial = {0.55f, 0.7f, 0.55f, 0.5f, 0.5f};
  all[1].broken = {0, 0, 1, 0, 1};
  all[2].broken = {0, 0, 0, 1, 1};
  all[2].adversarial[3] = 0.45f;
  const std::vector<AttackPlan> plans = {plan("fgsm", options(0.2, 1, 1)),
                                         plan("pgd", options(0.1, 1, 3)),
                                         plan("noise", options(0.1, 1, 3))};
  std::vector<AttackFigures> figures(3);
  train::count_missed(clean, all, plans, figures);
  CHECK(figures[0].missed == 1);  // noise's
  CHECK(figures[0].missed_by_weaker == 0);
  CHECK(figures[1].missed == 2);  // FGSM's first, and noise's
  CHECK(figures[1].missed_by_weaker == 2);
  CHECK(figures[2].missed == 3);
  CHECK(figures[2].missed_by_weaker == 0);
}

TEST_CASE("attack sanity: a flag needs more than one image in a hundred") {
  AttackResult r;
  r.n = 300;
  r.right = 200;
  r.attacks.resize(2);
  r.attacks[0].name = "pgd";
  r.attacks[1].name = "apgd";
  CHECK(train::attack_flags(r).empty());
  r.attacks[1].zero_gradients = 2;
  r.attacks[0].missed_by_weaker = 2;
  r.attacks[0].missed = 200;
  CHECK(train::attack_flags(r).empty());
  r.attacks[1].zero_gradients = 3;
  CHECK(flags_of(r) == Names{"zero_gradients"});
  CHECK(contains(train::attack_flags(r)[0].text, "in 3 of 200 (apgd): "));
  r.attacks[0].missed_by_weaker = 3;
  r.logits_changed = 1;
  CHECK(flags_of(r) == Names{"random_forward", "zero_gradients", "weaker_attack_wins"});
}
