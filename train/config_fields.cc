#include "train/config_fields.h"

#include <limits>
#include <utility>

namespace train {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr Range kAnyCount{0, 9007199254740991.0};  // 2^53 - 1: exact as a double, and in JSON
constexpr Range kFraction{0, 1};
constexpr Range kBelowOne{0, 1, false, true};
constexpr Range kNotNegative{0, kInf, false, true};
constexpr Range kPositive{0, kInf, true, true};
constexpr Range kFinite{-kInf, kInf, true, true};
constexpr Range kPixelValue{-1e6, 1e6};
constexpr Range kLargeFactor{0, 1e6};

// May this key differ when a run is resumed?
enum class Resume : uint8_t { kMustMatch, kMayDiffer };

class Listing {
 public:
  void group(const std::string& name) { prefix_ = name + "."; }
  void integer(const char* name, int64_t& value, Range range, const char* doc,
               Resume resume = Resume::kMustMatch) {
    add({prefix_ + name, &value, range, {}, doc}, resume);
  }
  void real(const char* name, double& value, Range range, const char* doc) {
    add({prefix_ + name, &value, range, {}, doc}, Resume::kMustMatch);
  }
  void flag(const char* name, bool& value, const char* doc) {
    add({prefix_ + name, &value, {}, {}, doc}, Resume::kMustMatch);
  }
  void text(const char* name, std::string& value, const char* doc,
            Resume resume = Resume::kMustMatch) {
    add({prefix_ + name, &value, {}, {}, doc}, resume);
  }
  void choice(const char* name, std::string& value, std::vector<std::string> choices,
              const char* doc, Resume resume = Resume::kMustMatch) {
    add({prefix_ + name, &value, {}, std::move(choices), doc}, resume);
  }
  void list(const char* name, std::vector<double>& value, Range range, const char* doc) {
    add({prefix_ + name, &value, range, {}, doc}, Resume::kMustMatch);
  }
  std::vector<Field> take() { return std::move(fields_); }

 private:
  void add(Field field, Resume resume) {
    field.resumable = resume == Resume::kMayDiffer;
    fields_.push_back(std::move(field));
  }
  std::string prefix_;
  std::vector<Field> fields_;
};

void list_model(Listing& to, Config::Model& m) {
  to.group("model");
  to.choice("kind", m.kind, {"vit", "resnet18", "resnet34", "resnet50", "wide-resnet50-2"},
            "A vision transformer, or a residual network, which size, width, mlp, heads, layers, "
            "patch, gelu, pool, pre_logits and stochastic_depth do not concern.");
  to.choice(
      "stem", m.stem, {"small", "imagenet"},
      "Of a residual network: a 3x3 convolution of stride 1, or 7x7 of stride 2 and pooling.");
  to.integer("first_width", m.first_width, {1, 65536},
             "Channels of a residual network's first stage; the published ones have 64.");
  to.choice("size", m.size, {"custom", "T", "S", "B", "L", "H"},
            "A named size sets width, mlp, heads and layers, unless they are given too.");
  to.integer("width", m.width, {1, 65536}, "Numbers in a token.");
  to.integer("mlp", m.mlp, {1, 262144}, "Hidden width of an MLP and of an expert.");
  to.integer("heads", m.heads, {1, 1024}, "Attention heads; width is a multiple of it.");
  to.integer("layers", m.layers, {1, 1024}, "Transformer blocks.");
  to.integer("patch", m.patch, {1, 1024}, "Side of a patch in pixels.");
  to.integer("image_size", m.image_size, {1, 8192},
             "Side of the image the model sees in pixels; a multiple of patch.");
  to.integer("channels", m.channels, {0, 64}, "Channels of the image; 0: as the data.");
  to.integer("classes", m.classes, {0, 1000000}, "Classes; 0: as the data.");
  to.choice("gelu", m.gelu, {"tanh", "erf"}, "GELU by its tanh approximation or exactly.");
  to.choice("pool", m.pool, {"token", "mean"},
            "What is classified: the class token, or the mean of the patches.");
  to.flag("pre_logits", m.pre_logits, "A dense layer and tanh before the head.");
  to.real("stochastic_depth", m.stochastic_depth, kBelowOne,
          "Share of the views that skip a branch of the last block in training; it grows from 0 in "
          "the first.");
}

void list_moe(Listing& to, Config::Moe& m) {
  to.group("moe");
  to.text("layers", m.layers,
          "Blocks with experts: none, \"last N\" (of the odd 0-based blocks), \"every N\" (blocks "
          "N-1, 2N-1, ...), \"last-odd N\" (of the even 0-based blocks, as the PRC fork counts) "
          "or a 0-based list such as \"5,7\". Of a residual network: \"blocks PATH\" or \"convs "
          "PATH\", all whose path contains it, such as \"blocks layer4\".");
  to.integer("experts", m.experts, {1, 4096}, "Experts in such a block.");
  to.integer("top_k", m.top_k, {1, 4096},
             "Experts that a token is sent to; of a residual network, an image.");
  to.integer("eval_top_k", m.eval_top_k, {0, 4096},
             "Experts that a token is sent to at evaluation; 0: as in training.");
  to.choice(
      "chooser", m.chooser, {"tokens", "experts", "soft"},
      "Whether tokens choose top_k experts, experts as many tokens as their capacity, or nobody: "
      "slots of mixed tokens (Soft MoE).");
  to.real("noise_std", m.noise_std, kNotNegative,
          "Noise on the router's logits in training, of standard deviation noise_std / experts.");
  to.choice("dispatch", m.dispatch, {"dropless", "capacity"},
            "Whether experts take all tokens or, in training, only up to a capacity.");
  to.real("capacity_factor", m.capacity_factor, {0, 1e6, true},
          "Capacity in training, as a multiple of an expert's fair share.");
  to.real("eval_capacity_factor", m.eval_capacity_factor, kLargeFactor,
          "The same at evaluation; 0: dropless, no prediction depends on its batch.");
  to.integer("capacity_multiple_of", m.capacity_multiple_of, {1, 4096},
             "A capacity is rounded up to a multiple of this.");
  to.integer("group_images", m.group_images, {1, 1048576},
             "Views whose tokens compete for the same capacity.");
  to.flag("batch_priority", m.batch_priority,
          "Serve tokens with the largest gates first, instead of in their order (capacity).");
  to.flag("bf16_dispatch", m.bf16_dispatch,
          "Round tokens to bf16 on their way into the experts and out of them.");
  to.choice("expert_init", m.expert_init, {"independent", "identical"},
            "Whether the experts of a block start differently or as copies.");
  to.real("expert_dropout", m.expert_dropout, kBelowOne, "Dropout inside the experts.");
  to.choice("dropout_mask", m.dropout_mask, {"token", "slot"},
            "Whether a dropout mask belongs to a token or to a slot, the same for all experts.");
  to.real("importance_weight", m.importance_weight, kNotNegative,
          "Weight of the importance loss, 0: off.");
  to.real("load_weight", m.load_weight, kNotNegative, "Weight of the load loss, 0: off.");
  to.real("gshard_weight", m.gshard_weight, kNotNegative,
          "Weight of GShard's balance loss, 0: off.");
  to.real("entropy_weight", m.entropy_weight, kNotNegative,
          "Weight of the mean entropy of the gates as a penalty, a control for PRC; 0: off.");
}

void list_image_moe(Listing& to, Config::ImageMoe& m) {
  to.group("image_moe");
  to.choice("router", m.router, {"gap-fc", "conv-gap", "two-conv-gap", "random", "first-channels"},
            "What chooses the experts of an image in a residual network: of its mean over pixels a "
            "linear layer, the means of a 3x3 convolution or of two 1x1 ones with batch norm "
            "between them, random vectors that are not trained, or the first channels' means.");
  to.choice("weight", m.weight, {"straight-through", "normalised", "plain"},
            "Of a chosen expert: 1 with the gradient of its score (for moe.top_k = 1), its score "
            "by the sum of the chosen ones, or its score.");
  to.choice("balance", m.balance, {"none", "switch", "entropy", "column-entropy", "variance"},
            "What spreads images over experts.");
  to.real("balance_weight", m.balance_weight, kNotNegative, "Weight of that loss.");
  to.choice("noisy_selection", m.noisy_selection, {"auto", "on", "off"},
            "Whether training chooses by noisy scores; auto: with every balance loss but entropy, "
            "as published.");
  to.real("spread_weight", m.spread_weight, kNotNegative,
          "Weight of a loss that keeps the experts' mean outputs apart (published as "
          "variance_alpha); 0: off.");
  to.integer("grid", m.grid, {1, 64},
             "Patches a side that are routed one by one; 1: images as a whole.");
}

void list_prc(Listing& to, Config::Prc& p) {
  to.group("prc");
  to.choice("form", p.form, {"none", "paper", "fork", "l2", "jsd"},
            "Pairwise router consistency: off, Eq. 4 of the paper, its code's diagonal term, or "
            "in its place a mean distance of the pairs.");
  to.real("lambda_diag", p.lambda_diag, kNotNegative, "Weight of the diagonal term.");
  to.real("lambda_off", p.lambda_off, kNotNegative, "Weight of the off-diagonal term.");
  to.real("weight", p.weight, kNotNegative, "Weight of the distance (l2, jsd).");
  to.choice("router", p.router, {"clean", "noisy"},
            "Whether pairs are compared without or with the router's noise.");
  to.flag("class_token", p.class_token, "Whether the two class tokens are a pair as well.");
  to.choice("pairs", p.pairs, {"matched", "shuffled"},
            "True correspondences, or as a control that must not help shuffled ones.");
}

void list_adversarial(Listing& to, Config::Adversarial& a) {
  to.group("adversarial");
  to.choice("kind", a.kind, {"none", "pgd", "fast", "free", "trades"},
            "Training on adversarial images alone: of projected gradient descent from a random "
            "start, of a single step from there, or under noise that the training's own gradients "
            "move (free); or on images as they are and, so that nothing near them is told "
            "otherwise, on images nearby that are (TRADES).");
  to.text("eps", a.eps, "How far a pixel may be changed, white being 1: a number or a fraction.");
  to.text("step", a.step, "Length of a step of the attack.");
  to.integer("steps", a.steps, {1, 10000}, "Steps of the attack (pgd, trades).");
  to.choice("attack_mode", a.attack_mode, {"eval", "train"},
            "How the network runs while it is attacked (all but free): as in evaluation, or as in "
            "training, where "
            "each pass moves batch norms' running statistics.");
  to.flag("drop_start", a.drop_start,
          "The step is taken from the image, not from its start (fast).");
  to.real(
      "beta", a.beta, kNotNegative,
      "Weight of the divergence between predictions of an image and of its neighbour (trades).");
  to.integer("replays", a.replays, {1, 10000}, "Updates that a batch is used for (free).");
}

void list_init(Listing& to, Config::Init& i) {
  to.group("init");
  to.text("from", i.from,
          "Weights to start from: a run directory, a step directory or a .safetensors file; empty: "
          "the initialisers'.",
          Resume::kMayDiffer);
  to.text("rules", i.rules,
          "How its names become ours, parted by spaces: rename:REGEX=>NAME, tile:REGEX=>NAME into "
          "the experts, zoom:REGEX, drop:REGEX, keep:REGEX.");
  to.real("tile_noise", i.tile_noise, kNotNegative,
          "Noise on tiled experts, in standard deviations of the tensor.");
  to.flag("allow_nonfinite", i.allow_nonfinite,
          "Whether weights that are not finite are read, instead of refused.");
}

void list_data(Listing& to, Config::Data& d) {
  to.group("data");
  to.text("source", d.source, "KIND:PATH of the data set; empty: given by --data.");
  to.text("train_split", d.train_split,
          "What is trained on: train, or a part of it such as train[:99%] or train[:-500].");
  to.text("test_split", d.test_split,
          "What is evaluated on during training: test, or a part of it or of train.",
          Resume::kMayDiffer);
  to.text("multi_labels", d.multi_labels,
          "JSON file of several right classes for each training image; empty: one, the set's own.",
          Resume::kMayDiffer);
  to.choice("jpeg", d.jpeg, {"accurate", "fast"},
            "How JPEG files are decoded: with the accurate transform, as Pillow does, or with the "
            "fast one, as TensorFlow and so the published codes do.");
  to.flag("two_view", d.two_view, "Two augmented views of each image in a batch.");
  to.flag("skip_bad_images", d.skip_bad_images,
          "Leave out, and list, pictures that cannot be read (image-folder).");
  to.integer("workers", d.workers, {0, 1024}, "Loader threads; 0: load in the training thread.",
             Resume::kMayDiffer);
  to.integer("prefetch", d.prefetch, {1, 1024}, "Batches prepared ahead.", Resume::kMayDiffer);
  to.integer("limit", d.limit, kAnyCount, "Use only the first so many training images; 0: all.");
}

void list_augment(Listing& to, Config::Augment& a) {
  to.group("augment");
  to.choice("strength", a.strength,
            {"custom", "light0", "light1", "medium1", "medium2", "strong1", "strong2", "extreme1",
             "extreme2"},
            "A named strength sets randaugment to vmoe, its layers and magnitude, and mixup, "
            "unless they are given too.");
  to.choice("crop", a.crop, {"none", "inception", "pad"},
            "Training crop: none, of random area and aspect, or of an image padded by zeros.");
  to.real("area_min", a.area_min, {0, 1, true}, "Smallest share of the area (inception).");
  to.real("area_max", a.area_max, {0, 1, true}, "Largest share of the area (inception).");
  to.real("area_min_b", a.area_min_b, kFraction, "area_min of the second view; 0: the same.");
  to.real("area_max_b", a.area_max_b, kFraction, "area_max of the second view; 0: the same.");
  to.real("aspect_min", a.aspect_min, kPositive, "Smallest width / height (inception).");
  to.real("aspect_max", a.aspect_max, kPositive, "Largest width / height (inception).");
  to.integer("pad", a.pad, {0, 1024}, "Pixels of padding on each side (pad).");
  to.flag("flip", a.flip, "Mirror half of the training images.");
  to.choice("randaugment", a.randaugment, {"none", "vmoe", "prc", "literal"},
            "RandAugment after the flip: as upstream V-MoE, as the PRC code, or without their "
            "accidents.");
  to.integer("randaugment_layers", a.randaugment_layers, {0, 64}, "Operations on a view.");
  to.real("randaugment_magnitude", a.randaugment_magnitude, {0, 100}, "Their magnitude.");
  to.real("jitter_brightness", a.jitter_brightness, kLargeFactor,
          "Colour jitter after that: brightness by a factor up to 1 +- so much; 0: off.");
  to.real("jitter_contrast", a.jitter_contrast, kLargeFactor, "The same of contrast.");
  to.real("jitter_saturation", a.jitter_saturation, kLargeFactor, "The same of saturation.");
  to.real("jitter_hue", a.jitter_hue, {0, 0.5}, "Hue turned by up to +- so much of the circle.");
  to.real("erasing", a.erasing, kFraction, "Share of views of which a random box is erased.");
  to.integer("repeats", a.repeats, {1, 1024},
             "Neighbouring places of a batch that show the same image, each in a crop of its own.");
  to.real("mixup", a.mixup, kLargeFactor, "Mixup: Dirichlet parameter of its weights; 0: off.");
  to.real("cutmix", a.cutmix, kLargeFactor, "CutMix: beta parameter of its boxes; 0: off.");
  to.real("cutmix_share", a.cutmix_share, kFraction,
          "Share of draws that are CutMix, where mixup is on as well.");
  to.choice("mix_granularity", a.mix_granularity, {"batch", "device", "example"},
            "What shares one draw of mixup or CutMix: the batch, mix_images views, or none.");
  to.integer("mix_images", a.mix_images, {0, 1048576},
             "Views among which images are mixed, a divisor of train.batch, as those of one device "
             "in the publication; 0: the batch.");
  to.real("low", a.low, kPixelValue, "What black becomes.");
  to.real("high", a.high, kPixelValue, "What white becomes.");
  to.list("mean", a.mean, kFinite,
          "Subtracted per channel from pixels in [0, 1], in place of low and high; empty: off.");
  to.list("stddev", a.stddev, kPositive, "Divided by per channel, goes with mean.");
}

void list_optimizer(Listing& to, Config::Optimizer& o) {
  to.group("optimizer");
  to.choice("name", o.name, {"adam", "sgd"}, "Adam, or SGD with momentum.");
  to.real("beta1", o.beta1, kBelowOne, "Decay of the first moment (adam).");
  to.real("beta2", o.beta2, kBelowOne, "Decay of the second moment (adam).");
  to.real("eps", o.eps, kPositive, "Added to the root of the second moment (adam).");
  to.real("momentum", o.momentum, kBelowOne, "Momentum (sgd).");
  to.flag("nesterov", o.nesterov, "Nesterov's momentum: the step looks one momentum ahead (sgd).");
  to.real("weight_decay", o.weight_decay, kNotNegative,
          "Decay of the weights, multiplied by the learning rate.");
  to.choice("decay", o.decay, {"kernels", "all", "none"}, "Which parameters decay.");
  to.choice("decay_form", o.decay_form, {"decoupled", "gradient"},
            "Whether decay shrinks the weights, or is added to the gradient before moments and "
            "momentum see it, as PyTorch's SGD does.");
  to.real("clip", o.clip, kNotNegative, "Largest global norm of the gradient; 0: off.");
}

void list_schedule(Listing& to, Config::Schedule& s) {
  to.group("schedule");
  to.choice("kind", s.kind,
            {"constant", "linear", "cosine", "polynomial", "step", "rsm-polynomial", "rsm-cosine"},
            "Learning rate after the warm-up. The last three change it once an epoch and need "
            "train.epochs; those of Robust Experts, rsm-..., chain their warm-up with the rest as "
            "that code does.");
  to.real("peak", s.peak, kPositive, "Learning rate at the end of the warm-up.");
  to.real("end", s.end, kNotNegative,
          "Learning rate at the last step (linear, cosine, polynomial); the floor of rsm-cosine, "
          "which rises from it again in the last warmup_epochs.");
  to.real("power", s.power, kPositive,
          "Of 1 - t, the share of the way left (polynomial, rsm-polynomial).");
  to.integer("warmup_steps", s.warmup_steps, kAnyCount,
             "Steps of linear warm-up from 0 (all but rsm-...).");
  to.integer("warmup_epochs", s.warmup_epochs, {0, 1000000},
             "Epochs of warm-up from a hundredth of the rate (rsm-cosine).");
  to.integer("step_epochs", s.step_epochs, {1, 1000000},
             "Epochs after which the rate falls to a tenth, each time (step).");
}

void list_train(Listing& to, Config::Train& t) {
  to.group("train");
  to.integer("steps", t.steps, kAnyCount, "Updates; 0: from epochs.");
  to.integer("epochs", t.epochs, {0, 1000000},
             "Passes over the data, used where steps is 0, and by schedules per epoch.");
  to.integer("batch", t.batch, {1, 1048576},
             "Views per update: 128 are 64 pairs where data.two_view is on.");
  to.integer("micro_batch", t.micro_batch, {0, 1048576},
             "Views computed at once, a divisor of batch; 0: the whole batch. Batch statistics "
             "(PRC, importance, load) are then per micro-batch.");
  to.choice("loss", t.loss, {"softmax", "sigmoid"}, "Cross-entropy over classes or per class.");
  to.real("label_smoothing", t.label_smoothing, kBelowOne,
          "Share of a label that is spread evenly over all classes.");
  to.real("ema", t.ema, kBelowOne, "Decay of the averaged weights; 0: off.");
  to.integer("seed", t.seed, kAnyCount, "Seed of every random number.");
  to.integer("threads", t.threads, {0, 4096},
             "Threads; 0: all that this process may use. Changes no result.", Resume::kMayDiffer);
  to.choice("precision", t.precision, {"f32", "tf32", "bf16"},
            "What the operands of products are rounded to, routers and losses excepted; "
            "parameters and sums are f32. On a GPU vision transformers store activations in "
            "bf16, too. tf32 is for GPUs. Holds for evaluation, too.");
  to.text("device", t.device, "Where the model runs: cpu, cuda or cuda:N.", Resume::kMayDiffer);
}

void list_outputs(Listing& to, Config& c) {
  to.group("eval");
  to.integer("batch", c.eval.batch, {1, 1048576}, "Images computed at once.", Resume::kMayDiffer);
  to.integer("every", c.eval.every, kAnyCount, "Steps between evaluations; 0: only at the end.",
             Resume::kMayDiffer);
  to.choice("resize", c.eval.resize, {"tf-bilinear", "tf-area", "pil-bilinear"},
            "How test images get the model's size: TensorFlow's bilinear or area, or Pillow's.");
  to.integer("shorter", c.eval.shorter, {0, 65536},
             "Shorter side of a test image before its centre is cut out; 0: it is resized whole.");
  to.integer("limit", c.eval.limit, kAnyCount, "Use only the first so many test images; 0: all.",
             Resume::kMayDiffer);
  to.group("checkpoint");
  to.integer("every", c.checkpoint.every, kAnyCount,
             "Steps between checkpoints; 0: only at the end.", Resume::kMayDiffer);
  to.integer(
      "keep", c.checkpoint.keep, {1, 1000000},
      "Newest checkpoints kept, beside the best and, until it is proven finite, the one before "
      "the last.",
      Resume::kMayDiffer);
  to.group("log");
  to.integer("every", c.log.every, {1, 9007199254740991.0}, "Steps between lines of the log.",
             Resume::kMayDiffer);
  to.integer(
      "s_matrices", c.log.s_matrices, {0, 100000},
      "How many times in a run, evenly apart, PRC's S of each MoE layer goes to metrics.jsonl; "
      "needs two views.",
      Resume::kMayDiffer);
}

}  // namespace

std::vector<Field> fields(Config& config) {
  Listing to;
  list_model(to, config.model);
  list_moe(to, config.moe);
  list_image_moe(to, config.image_moe);
  list_prc(to, config.prc);
  list_adversarial(to, config.adversarial);
  list_init(to, config.init);
  list_data(to, config.data);
  list_augment(to, config.augment);
  list_optimizer(to, config.optimizer);
  list_schedule(to, config.schedule);
  list_train(to, config.train);
  list_outputs(to, config);
  return to.take();
}

}  // namespace train
