#include <string>
#include <utility>
#include <vector>

#include "data/split.h"
#include "engine/core/error.h"
#include "train/config.h"
#include "train/fraction.h"
#include "train/network.h"
#include "train/schedule.h"

namespace train {
namespace {

template <class... Parts>
void require(bool ok, const Parts&... parts) {
  engine::check(ok, engine::ErrorKind::kValue, parts...);
}

void validate_model(const Config& c) {
  const Config::Model& m = c.model;
  require(m.classes != 1, "model.classes = 1 leaves nothing to learn: 0 takes the data's number");
  if (!is_vit(c)) {
    require(!c.data.two_view, "data.two_view = true is for pairs of patches, but model.kind is ",
            m.kind, ": set data.two_view=false");
    // Batch norm needs two values of each channel; the last stage is the smallest.
    const int64_t shrinks = m.stem == "small" ? 8 : 32;
    const int64_t side = (m.image_size + shrinks - 1) / shrinks;
    const int64_t views = c.train.micro_batch > 0 ? c.train.micro_batch : c.train.batch;
    require(views * side * side >= 2, c.train.micro_batch > 0 ? "train.micro_batch" : "train.batch",
            " = 1 leaves batch norm one pixel of model.image_size = ", m.image_size,
            " in the last stage, which has no variance: take 2 or more");
    return;
  }
  require(m.image_size % m.patch == 0, "model.image_size = ", m.image_size,
          " is not a multiple of model.patch = ", m.patch, ": change one of them");
  require(m.width % m.heads == 0, "model.width = ", m.width,
          " is not a multiple of model.heads = ", m.heads, ": change one of them");
}

// Soft MoE has nothing to balance, to drop or to compare.
void validate_soft(const Config& c) {
  const Config::Moe& m = c.moe;
  for (const auto& [key, set] :
       {std::pair{"moe.importance_weight=0", m.importance_weight > 0},
        std::pair{"moe.load_weight=0", m.load_weight > 0},
        std::pair{"moe.gshard_weight=0", m.gshard_weight > 0},
        std::pair{"moe.entropy_weight=0", m.entropy_weight > 0},
        std::pair{"prc.form=none", c.prc.form != "none"},
        std::pair{"moe.dispatch=dropless", m.dispatch != "dropless"},
        std::pair{"moe.batch_priority=false", m.batch_priority},
        std::pair{"moe.eval_capacity_factor=0", m.eval_capacity_factor > 0}}) {
    require(!set,
            "moe.chooser = \"soft\" chooses no experts, so that there is nothing to balance, "
            "to drop or to compare: set ",
            key);
  }
}

// Mixtures of a residual network.
void validate_image_moe(const Config& c) {
  const Config::ImageMoe& m = c.image_moe;
  require(c.prc.form == "none", "prc.form = \"", c.prc.form,
          "\" compares routers of patches, but model.kind is ", c.model.kind,
          ": set prc.form=none");
  if (image_moe_places(c).unit == moe::ImageMoePlaces::Unit::kNone) return;
  require(m.weight != "straight-through" || c.moe.top_k == 1,
          "image_moe.weight = \"straight-through\" is for moe.top_k = 1, which is ", c.moe.top_k,
          ": set image_moe.weight=normalised");
  require(c.moe.dispatch != "capacity" || m.balance != "entropy",
          "moe.dispatch = \"capacity\" moves images to other experts, but image_moe.balance = "
          "\"entropy\" is about what each would choose: set moe.dispatch=dropless or another "
          "image_moe.balance");
  // Says what is wrong with moe.layers, and whether the mixtures can work on pictures of that size.
  build_resnet(c).cost({c.model.image_size, c.model.image_size});
}

void validate_moe(const Config& c) {
  const Config::Moe& m = c.moe;
  require(m.top_k <= m.experts, "moe.top_k = ", m.top_k, " is more than moe.experts = ", m.experts,
          ": the experts of a token or image are different ones, so lower moe.top_k");
  require(m.eval_top_k <= m.experts, "moe.eval_top_k = ", m.eval_top_k,
          " is more than moe.experts = ", m.experts,
          ": a token goes to different experts, so lower moe.eval_top_k");
  if (!is_vit(c)) return validate_image_moe(c);
  if (moe_layer_indices(c).empty()) {
    require(
        c.prc.form == "none", "prc.form = \"", c.prc.form,
        "\" needs blocks with experts, but moe.layers is none: name some, or set prc.form=none");
    return;
  }
  require(m.load_weight == 0 || m.noise_std > 0, "moe.load_weight = ", m.load_weight,
          " needs router noise, but moe.noise_std is 0: the load loss is defined by that noise, so "
          "set one of them otherwise");
  const bool experts_choose = m.chooser == "experts";
  require(
      !experts_choose || (m.importance_weight == 0 && m.load_weight == 0 && m.gshard_weight == 0),
      "moe.chooser = \"experts\" balances by itself, but moe.importance_weight, moe.load_weight "
      "or moe.gshard_weight is not 0: set them to 0");
  if (m.chooser == "soft") validate_soft(c);
  const bool capacity = m.dispatch == "capacity" || experts_choose;
  if (capacity || m.importance_weight > 0 || m.load_weight > 0 || m.gshard_weight > 0) {
    const bool whole = c.train.micro_batch == 0;
    const int64_t views = whole ? c.train.batch : c.train.micro_batch;
    require(views % m.group_images == 0, whole ? "train.batch = " : "train.micro_batch = ", views,
            " is not a multiple of moe.group_images = ", m.group_images,
            ", the images of a routing group (moe.dispatch=capacity, moe.chooser=experts and the "
            "balance losses work by group): change one of them");
  }
  require(!capacity || m.eval_capacity_factor == 0 || c.eval.batch % m.group_images == 0,
          "eval.batch = ", c.eval.batch,
          " is not a multiple of moe.group_images = ", m.group_images,
          ", which moe.eval_capacity_factor > 0 needs: change one of them");
}

void validate_prc(const Config& c) {
  if (c.prc.form == "none") return;
  require(c.data.two_view, "prc.form = \"", c.prc.form,
          "\" compares two views of an image, but data.two_view is false: set data.two_view=true");
  require(c.moe.experts >= 2, "prc.form = \"", c.prc.form,
          "\" compares experts, but moe.experts is 1: set at least 2");
}

void validate_data(const Config& c) {
  require(c.eval.shorter == 0 || c.eval.shorter >= c.model.image_size,
          "eval.shorter = ", c.eval.shorter,
          " leaves no centre of model.image_size = ", c.model.image_size,
          ": raise it, or 0 for the whole image");
  for (const auto& [key, text] : {std::pair{"data.train_split", &c.data.train_split},
                                  std::pair{"data.test_split", &c.data.test_split}}) {
    try {
      data::parse_split(*text);
    } catch (const engine::Error& error) {
      engine::fail(error.kind(), key, ": ", error.message());
    }
  }
  const Config::Augment& a = c.augment;
  const size_t colon = c.data.source.find(':');
  require(c.data.source.empty() || (colon != std::string::npos && colon > 0), "data.source = \"",
          c.data.source, "\" has no kind: write KIND:PATH, such as cifar10:/path/to/folder");
  require(a.area_min <= a.area_max, "augment.area_min = ", a.area_min,
          " is above augment.area_max = ", a.area_max, ": exchange them");
  const double min_b = a.area_min_b > 0 ? a.area_min_b : a.area_min;
  const double max_b = a.area_max_b > 0 ? a.area_max_b : a.area_max;
  require(min_b <= max_b, "augment.area_min_b = ", min_b, " is above augment.area_max_b = ", max_b,
          " (0 takes the first view's): exchange them");
  require(a.aspect_min <= a.aspect_max, "augment.aspect_min = ", a.aspect_min,
          " is above augment.aspect_max = ", a.aspect_max, ": exchange them");
  require(a.low < a.high, "augment.low = ", a.low, " is not below augment.high = ", a.high,
          ": black must become less than white");
  const size_t n = a.mean.size();
  require(n == a.stddev.size(), "augment.mean has ", n, " numbers and augment.stddev ",
          a.stddev.size(), ": give as many of each");
  const int64_t channels = c.model.channels;
  require(n <= 1 || channels == 0 || static_cast<int64_t>(n) == channels, "augment.mean has ", n,
          " numbers, but model.channels is ", channels, ": give one number, or one a channel");
}

void validate_mixing(const Config& c) {
  const Config::Augment& a = c.augment;
  if (a.mixup == 0 && a.cutmix == 0) return;
  const char* key = a.mixup > 0 ? "augment.mixup" : "augment.cutmix";
  for (const auto& [name, alpha] :
       {std::pair{"augment.mixup", a.mixup}, std::pair{"augment.cutmix", a.cutmix}}) {
    require(alpha == 0 || alpha >= 1e-6, name, " = ", alpha,
            " is too small to draw with: 0 for off, or at least 1e-6");
  }
  require(c.prc.form == "none", "prc.form = \"", c.prc.form, "\" compares what patches show, but ",
          key, " mixes images: set it to 0, or prc.form=none");
  const int64_t part = a.mix_images > 0 ? a.mix_images : c.train.batch;
  require(c.train.batch % part == 0, "augment.mix_images = ", part,
          " is not a divisor of train.batch = ", c.train.batch, ": change one of them");
  const int64_t views = c.data.two_view ? 2 : 1;
  require(part % views == 0 && part > views, "augment.mix_images = ", part, " leaves ", key,
          " no whole images to mix", views == 2 ? " (data.two_view: two views of each)" : "",
          ": raise it");
}

void validate_adversarial(const Config& c) {
  const Config::Adversarial& a = c.adversarial;
  for (const auto& [key, text] :
       {std::pair{"adversarial.eps", &a.eps}, std::pair{"adversarial.step", &a.step}}) {
    require(read_fraction(*text).has_value(), key, " is \"", *text,
            "\", expected a number of 0 or more, or a fraction such as 8/255");
  }
  require(a.kind == "none" || (c.augment.mixup == 0 && c.augment.cutmix == 0),
          "adversarial.kind = \"", a.kind,
          "\" attacks an image's own class, but augment.mixup or augment.cutmix mixes images: set "
          "them to 0, or adversarial.kind=none");
  if (a.kind != "trades") return;
  require(c.prc.form == "none", "adversarial.kind = \"trades\" learns from two passes, but ",
          "prc.form = \"", c.prc.form, "\" compares routers within one: set prc.form=none");
  require(c.train.loss == "softmax", "adversarial.kind = \"trades\" compares softmaxes, but ",
          "train.loss = \"", c.train.loss, "\" has none: set train.loss=softmax");
}

void validate_init(const Config& c) {
  require(
      !c.init.allow_nonfinite || !c.init.from.empty(),
      "init.allow_nonfinite is about the weights of --init, but there is none: give it or leave "
      "that out");
}

void validate_schedule(const Config& c) {
  const Config::Schedule& s = c.schedule;
  const Config::Train& t = c.train;
  require(t.steps == 0 || s.warmup_steps <= t.steps, "schedule.warmup_steps = ", s.warmup_steps,
          " is more than train.steps = ", t.steps, ": shorten the warm-up or train longer");
  const bool falls = s.kind != "constant" && s.kind != "step" && s.kind != "rsm-polynomial";
  require(!falls || s.end <= s.peak, "schedule.end = ", s.end, " is above schedule.peak = ", s.peak,
          ": the rate falls after the warm-up, lower the end");
  require(!per_epoch(s) || t.epochs > 0, "schedule.kind = \"", s.kind,
          "\" changes the rate once an epoch, but train.epochs is 0: set it, beside train.steps or "
          "alone");
  const bool chained = s.kind == "rsm-polynomial" || s.kind == "rsm-cosine";
  require(!chained || s.warmup_steps == 0, "schedule.warmup_steps = ", s.warmup_steps,
          " is not for schedule.kind = \"", s.kind,
          "\", which has a warm-up of its own: set schedule.warmup_steps=0");
  require(s.warmup_epochs == 0 || s.kind == "rsm-cosine",
          "schedule.warmup_epochs = ", s.warmup_epochs, " is for rsm-cosine, but schedule.kind is ",
          s.kind, ": set schedule.warmup_epochs=0");
  require(s.warmup_epochs == 0 || s.warmup_epochs < t.epochs,
          "schedule.warmup_epochs = ", s.warmup_epochs, " leaves none of train.epochs = ", t.epochs,
          " for the cosine: lower it");
}

void validate_training(const Config& c) {
  const Config::Train& t = c.train;
  require(t.steps > 0 || t.epochs > 0,
          "train.steps and train.epochs are both 0: set one of them, such as train.steps=1000");
  if (t.micro_batch > 0)
    require(t.batch % t.micro_batch == 0, "train.batch = ", t.batch,
            " is not a multiple of train.micro_batch = ", t.micro_batch, ": change one of them");
  if (c.data.two_view) {
    require(t.batch % 2 == 0, "train.batch = ", t.batch,
            " is odd, but with data.two_view=true every image brings two views: make it even");
    require(t.micro_batch % 2 == 0, "train.micro_batch = ", t.micro_batch,
            " is odd and would part two views of an image (data.two_view=true): make it even");
  }
}

// A key, and whether its value asks for something: one that is off does what it says.
struct Idle {
  const char* key;
  bool asks = true;
};

// Error where one of these was chosen. `why`: "KEY has no effect: " goes before it.
void refuse_idle(const Config& c, const std::vector<Idle>& idle, const std::string& why) {
  for (const Idle& value : idle) {
    require(!value.asks || !c.chosen(value.key), value.key, " has no effect: ", why);
  }
}

void validate_idle_of_network(const Config& c) {
  const Config::Model& m = c.model;
  const Config::Moe& e = c.moe;
  if (is_vit(c)) {
    refuse_idle(c,
                {{"model.stem"},
                 {"model.first_width"},
                 {"image_moe.router"},
                 {"image_moe.weight"},
                 {"image_moe.balance"},
                 {"image_moe.balance_weight"},
                 {"image_moe.noisy_selection"},
                 {"image_moe.spread_weight", c.image_moe.spread_weight > 0},
                 {"image_moe.grid", c.image_moe.grid > 1}},
                "model.kind is vit, and it is of residual networks: leave it out, or set "
                "model.kind=resnet18");
    return;
  }
  if (e.layers == "none") {
    refuse_idle(c,
                {{"moe.experts"},
                 {"moe.top_k"},
                 {"image_moe.router"},
                 {"image_moe.weight"},
                 {"image_moe.balance"},
                 {"image_moe.balance_weight", c.image_moe.balance_weight > 0},
                 {"image_moe.noisy_selection"},
                 {"image_moe.spread_weight", c.image_moe.spread_weight > 0},
                 {"image_moe.grid", c.image_moe.grid > 1}},
                "moe.layers is none: leave it out, or set moe.layers=blocks layer4");
  }
  refuse_idle(c, {{"moe.capacity_factor", e.dispatch != "capacity"}},
              "moe.dispatch is dropless: leave it out, or set moe.dispatch=capacity");
  refuse_idle(c,
              {{"image_moe.balance_weight",
                c.image_moe.balance == "none" && c.image_moe.balance_weight > 0}},
              "image_moe.balance is none: leave it out, or set image_moe.balance=entropy");
  refuse_idle(c,
              {{"model.size", m.size != "custom"},
               {"model.width"},
               {"model.mlp"},
               {"model.heads"},
               {"model.layers"},
               {"model.patch"},
               {"model.gelu"},
               {"model.pool"},
               {"model.pre_logits", m.pre_logits},
               {"model.stochastic_depth", m.stochastic_depth > 0},
               {"moe.importance_weight", e.importance_weight > 0},
               {"moe.load_weight", e.load_weight > 0},
               {"moe.gshard_weight", e.gshard_weight > 0},
               {"moe.entropy_weight", e.entropy_weight > 0},
               {"moe.chooser"},
               {"moe.noise_std", e.noise_std > 0},
               {"moe.eval_top_k", e.eval_top_k > 0},
               {"moe.eval_capacity_factor", e.eval_capacity_factor > 0},
               {"moe.capacity_multiple_of"},
               {"moe.expert_init"},
               {"moe.expert_dropout", e.expert_dropout > 0},
               {"moe.dropout_mask"},
               {"moe.bf16_dispatch", e.bf16_dispatch},
               {"moe.batch_priority", e.batch_priority},
               {"moe.group_images"},
               {"prc.lambda_diag"},
               {"prc.lambda_off"},
               {"prc.weight"},
               {"prc.class_token"},
               {"prc.router"},
               {"prc.pairs"}},
              "model.kind is " + m.kind +
                  ", and it is of vision transformers: leave it out, or set model.kind=vit");
}

void validate_idle(const Config& c) {
  validate_idle_of_network(c);
  const Config::Adversarial& a = c.adversarial;
  refuse_idle(c, {{"optimizer.nesterov", c.optimizer.nesterov && c.optimizer.name == "adam"}},
              "optimizer.name is adam, and it is of SGD: leave it out, or set optimizer.name=sgd");
  struct Use {
    Idle value;
    const char* kinds;  // that it matters to, between blanks, the most usual one first
  };
  for (const Use& use :
       {Use{{"adversarial.eps"}, " pgd fast free trades "},
        Use{{"adversarial.step"}, " pgd fast free trades "},
        Use{{"adversarial.steps"}, " pgd trades "},
        Use{{"adversarial.attack_mode"}, " pgd fast trades "},
        Use{{"adversarial.drop_start", a.drop_start}, " fast "},
        Use{{"adversarial.beta"}, " trades "}, Use{{"adversarial.replays"}, " free "}}) {
    const std::string kinds = use.kinds;
    if (kinds.find(" " + a.kind + " ") != std::string::npos) continue;
    refuse_idle(
        c, {use.value},
        "adversarial.kind is " + a.kind + ", and it is of" + kinds.substr(0, kinds.size() - 1) +
            ": leave it out, or set adversarial.kind=" + kinds.substr(1, kinds.find(' ', 1) - 1));
  }
}

}  // namespace

void validate(const Config& config) {
  validate_model(config);
  validate_moe(config);
  validate_prc(config);
  validate_adversarial(config);
  validate_init(config);
  validate_data(config);
  validate_mixing(config);
  validate_training(config);
  validate_schedule(config);
  validate_idle(config);
}

}  // namespace train
