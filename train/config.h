#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace train {

// Who set a value. kFile and kSet are by hand.
enum class Origin : uint8_t { kDefault, kRecipe, kFile, kSet };

struct Source {
  Origin origin = Origin::kDefault;
  std::string note;  // the comment that stood behind the value, e.g. "paper Table 1"
};

// What every value means, what it may be and where 0 stands for "off" or "from elsewhere" is
// said once, in config_fields.cc. `robustmoe recipes NAME` prints it beside the values.
struct Config {
  struct Model {
    std::string kind = "vit", stem = "small";
    int64_t first_width = 64;
    std::string size = "custom";
    int64_t width = 192, mlp = 768, heads = 3, layers = 8;
    int64_t patch = 4, image_size = 32, channels = 0, classes = 0;
    std::string gelu = "tanh";
    std::string pool = "token";
    bool pre_logits = false;
    double stochastic_depth = 0;
  };
  struct Moe {
    std::string layers = "none";
    int64_t experts = 8, top_k = 2, eval_top_k = 0;
    std::string chooser = "tokens";
    double noise_std = 1.0;
    std::string dispatch = "dropless";
    double capacity_factor = 1.05, eval_capacity_factor = 0;
    int64_t capacity_multiple_of = 4, group_images = 8;
    bool batch_priority = false, bf16_dispatch = false;
    std::string expert_init = "independent";
    double expert_dropout = 0;
    std::string dropout_mask = "token";
    double importance_weight = 0.005, load_weight = 0.005, gshard_weight = 0, entropy_weight = 0;
  };
  struct ImageMoe {
    std::string router = "gap-fc", weight = "straight-through";
    std::string balance = "entropy", noisy_selection = "auto";
    double balance_weight = 0.5, spread_weight = 0;
    int64_t grid = 1;
  };
  struct Prc {
    std::string form = "none";
    double lambda_diag = 5e-3, lambda_off = 5e-2, weight = 1;
    bool class_token = true;
    std::string router = "clean", pairs = "matched";
  };
  struct Adversarial {
    std::string kind = "none";
    std::string eps = "8/255", step = "2/255";
    int64_t steps = 7;
    std::string attack_mode = "eval";
    bool drop_start = false;
    double beta = 6;
    int64_t replays = 4;
  };
  struct Init {
    std::string from, rules;
    double tile_noise = 0;
    bool allow_nonfinite = false;
  };
  struct Data {
    std::string source, train_split = "train", test_split = "test";
    std::string jpeg = "accurate", multi_labels;
    bool two_view = false, skip_bad_images = false;
    int64_t workers = 1, prefetch = 3, limit = 0;
  };
  struct Augment {
    std::string strength = "custom";
    std::string crop = "inception";
    double area_min = 0.05, area_max = 1;
    double area_min_b = 0, area_max_b = 0;
    double aspect_min = 0.75, aspect_max = 1.33;
    int64_t pad = 4;
    bool flip = true;
    std::string randaugment = "none";
    int64_t randaugment_layers = 2;
    double randaugment_magnitude = 10;
    double jitter_brightness = 0, jitter_contrast = 0, jitter_saturation = 0, jitter_hue = 0;
    double erasing = 0;
    int64_t repeats = 1;
    double mixup = 0, cutmix = 0, cutmix_share = 0.5;
    std::string mix_granularity = "batch";
    int64_t mix_images = 0;
    double low = -1, high = 1;
    std::vector<double> mean, stddev;
  };
  struct Optimizer {
    std::string name = "adam";
    double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, momentum = 0.9;
    double weight_decay = 0;
    std::string decay = "kernels", decay_form = "decoupled";
    bool nesterov = false;
    double clip = 0;
  };
  struct Schedule {
    std::string kind = "cosine";
    double peak = 1e-3, end = 0, power = 0.9;
    int64_t warmup_steps = 0, warmup_epochs = 0, step_epochs = 30;
  };
  struct Train {
    int64_t steps = 0, epochs = 0, batch = 128, micro_batch = 0;
    std::string loss = "softmax";
    double label_smoothing = 0;
    double ema = 0;
    int64_t seed = 0, threads = 0;
    std::string precision = "f32", device = "cpu";
  };
  struct Eval {
    int64_t batch = 256, every = 0, limit = 0;
    std::string resize = "tf-bilinear";
    int64_t shorter = 0;
  };
  struct Checkpoint {
    int64_t every = 0, keep = 2;
  };
  struct Log {
    int64_t every = 50;
    int64_t s_matrices = 64;
  };

  Model model;
  Moe moe;
  ImageMoe image_moe;
  Prc prc;
  Adversarial adversarial;
  Init init;
  Data data;
  Augment augment;
  Optimizer optimizer;
  Schedule schedule;
  Train train;
  Eval eval;
  Checkpoint checkpoint;
  Log log;
  std::string recipe;                     // what was loaded
  std::map<std::string, Source> sources;  // by key, "moe.experts"; no entry: the default
  // From a file that to_toml() wrote, which names its recipe: it has every value there is, and so
  // says nothing of who chose it.
  bool written_out = false;

  // Was this key given in the user's own file or by --set?
  bool by_hand(const std::string& key) const {
    const auto found = sources.find(key);
    return found != sources.end() && found->second.origin >= Origin::kFile;
  }
  // The same, but for files that were written out by a run or by `robustmoe recipes`.
  bool chosen(const std::string& key) const {
    const auto found = sources.find(key);
    return found != sources.end() &&
           found->second.origin >= (written_out ? Origin::kSet : Origin::kFile);
  }
};

// Reads a recipe by its name, or a file (a name with a '/' or ending in ".toml"). A file may
// begin with base = "NAME" and then holds only what differs from that recipe. Throws Error
// with file, line, key, what was given and what is valid. Does not validate().
Config load_config(const std::string& name_or_path);

// As load_config, from text; `origin_name` stands in messages for the file. `origin` is what
// the keys are marked with: kRecipe or kFile.
Config parse_config(const std::string& text, const std::string& origin_name, Origin origin);

// Sets one value from "group.key=value". A list is written 0.5,0.5,0.5. Messages begin with
// `said`, what the user wrote; empty: --set and the assignment.
void set_value(Config& config, const std::string& assignment, const std::string& said = "");

// Checks what concerns several keys at once; the ranges of single ones hold since reading. A value
// that was chosen and has no effect beside the others is an error, too, unless it switches off what
// is off anyway.
void validate(const Config& config);

// Every effective value as a TOML file that loads to the same values, floats to the last bit.
// With docs each line has what it means above it and where it comes from behind it.
std::string to_toml(const Config& config, bool with_docs);

// The blocks (0-based, ascending) whose MLP is replaced by experts; of a residual network its
// mixtures, counted from 0. Throws Error where moe.layers cannot be read or names what the model
// does not have.
std::vector<int64_t> moe_layer_indices(const Config& config);

// 16 hex digits over all values that must not change when a run is resumed. Paths, threads,
// loader settings, device, and what only concerns logs, evaluation and checkpoints do not count.
std::string config_hash(const Config& config);
// What differs between two configs of different hash: "moe.experts was 8, now 4", several with
// "; " between them.
std::string changed_values(const Config& was, const Config& now);

}  // namespace train
