#include "train/memory_plan.h"

#include <algorithm>
#include <fstream>
#include <sstream>

#include "train/model.h"

namespace train {
namespace {

std::string mib(int64_t bytes) {
  std::ostringstream text;
  text.precision(1);
  text << std::fixed << static_cast<double>(bytes) / (1 << 20) << " MiB";
  return text.str();
}

// Elements of one image that backward needs, by part of a block.
struct PerImage {
  double attention, dense, moe, mask, skipped, stem, widest_gradient;
};

// Counts in f64, so that no product of sizes overflows; as a number of bytes at most 1e17, so that
// sums do not, either.
int64_t bytes(double elements) { return static_cast<int64_t>(std::min(4 * elements, 1.0e17)); }

// How activations are kept: on a GPU attention saves a number a row in the place of probabilities;
// in bf16 there, what is no statistic and not the router's takes half the bytes.
struct Storage {
  bool gpu, bf16;
  explicit Storage(const Config& config)
      : gpu(config.train.device.starts_with("cuda")),
        bf16(gpu && config.train.precision == "bf16" && is_vit(config)) {}
  double share() const { return bf16 ? 0.5 : 1; }
};

// In units of an f32.
PerImage elements(const moe::VmoeConfig& c, const Storage& kept) {
  const auto number = [](int64_t x) { return static_cast<double>(x); };
  const double t = number(c.vit.tokens()), d = number(c.vit.width), e = number(c.moe.experts),
               mlp = number(c.vit.mlp), k = number(moe::slots_per_token(c.moe)),
               choices = number(c.moe.choices(/*train=*/true)), side = number(c.vit.image_size);
  const double half = kept.share(), copy = kept.bf16 ? 1 : 0;  // copy: in the other dtype
  PerImage out{};
  // norm1, qkv, probabilities, attention, block input of the second half; two statistics a norm
  out.attention =
      t * (half * (d + 3 * d + d + d) + 2) + number(c.vit.heads) * t * (kept.gpu ? 1 : t);
  out.dense = t * (half * (d + 2 * mlp + d) + 2);  // norm2, z, gelu(z), output
  // norm2, router tensors and index arrays, dispatched tokens, z, gelu(z), expert output, output
  out.moe = t * (half * (d + k * (2 * d + 2 * mlp) + d) + 2 + 5 * e + 6 * choices);
  out.moe += t * copy * d;  // norm2 as the router reads it
  const bool soft = c.moe.chooser == moe::Chooser::kSoft && !c.moe_layers.empty();
  const double slots = soft ? e * number(moe::soft_slots(c.moe, c.vit.tokens())) : 0;
  // unit tokens, logits, noise, both softmaxes and a transposed copy; mixtures in two orders
  if (soft) out.moe += t * (d + 6 * slots) + half * (2 * slots * d + copy * 2 * t * slots);
  if (c.moe.bf16_dispatch && !kept.bf16)
    out.moe += t * k * 2 * d;  // rounded copies of what goes in and out
  out.mask =
      c.moe.expert_dropout > 0 ? (1 + half) * t * k * (mlp + d) : 0;  // f32, and what is left
  out.skipped = c.stochastic_depth > 0 ? half * 2 * t * d : 0;  // the branches, beside their sums
  out.stem = (1 + half * copy) * side * side * number(c.vit.channels) + half * 2 * t * d;
  const double hidden = c.moe_layers.empty() ? mlp : std::max(1.0, k) * mlp;
  out.widest_gradient = half * t * (hidden + 4 * d + k * d);
  if (soft) {  // slots and tokens have gradients of their own, and so have both softmaxes
    const bool dense = std::ssize(c.moe_layers) < c.vit.layers;
    out.widest_gradient =
        half * (t * (9 * d + (dense ? mlp : 0)) + slots * (2 * d + mlp)) + t * slots * (3 + copy);
  }
  return out;
}

// Elements of one image: of MoE layers without masks, of all, and of gradients.
struct Activations {
  double moe, kept, gradients;
};

Activations vit_activations(const moe::VmoeConfig& c, const Storage& storage) {
  const PerImage per = elements(c, storage);
  const auto moe_layers = static_cast<double>(c.moe_layers.size());
  const auto layers = static_cast<double>(c.vit.layers);
  return {moe_layers * per.moe,
          moe_layers * (per.moe + per.mask) + layers * (per.attention + per.skipped) + per.stem +
              (layers - moe_layers) * per.dense,
          per.widest_gradient};
}

Activations resnet_activations(const Config& config) {
  const nn::ResnetConfig c = resnet_config(config);
  const int64_t side = config.model.image_size, pixels = side * side;
  const auto network = build_network(config);
  const int64_t kept = network->cost_per_image().kept;
  const int64_t plain = network->has_experts() ? nn::Resnet(c).cost({side, side}).kept : kept;
  // The first stage is the widest; into and out of a norm, and of a shortcut.
  const int64_t first = c.first_width * (c.bottleneck ? 4 : 1);
  const int64_t stage = c.small_inputs ? pixels : pixels / 16;
  const int64_t pooled = c.small_inputs ? 0 : stage * c.first_width * 5 / 4;
  const int64_t stem = c.small_inputs ? 0 : 2 * c.first_width * pixels / 4;
  return {static_cast<double>(kept - plain),
          static_cast<double>(kept + c.channels * pixels + pooled),
          static_cast<double>(std::max(4 * first * stage, stem))};
}

}  // namespace

MemoryPlan plan_memory(const Config& config, int64_t parameters) {
  const auto images = static_cast<double>(config.train.micro_batch > 0 ? config.train.micro_batch
                                                                       : config.train.batch);
  MemoryPlan plan;
  plan.parameters = parameters;
  plan.weights = plan.gradients = bytes(static_cast<double>(parameters));
  plan.optimizer = plan.weights * (config.optimizer.name == "adam" ? 2 : 1);
  plan.ema = config.train.ema > 0 ? plan.weights : 0;
  const auto side = static_cast<double>(config.model.image_size);
  const double pixels = side * side * static_cast<double>(config.model.channels);
  const bool mixes = config.augment.mixup > 0 || config.augment.cutmix > 0;
  const Storage storage(config);
  const Activations per =
      is_vit(config) ? vit_activations(vmoe_config(config), storage) : resnet_activations(config);
  plan.moe = bytes(images * per.moe);
  // An attack keeps a pass of its own, and its images six times; TRADES learns from two passes.
  const double step = per.kept + per.gradients;
  const bool free = config.adversarial.kind == "free";
  const bool attacks = config.adversarial.kind != "none" && !free;
  const double second = config.adversarial.kind == "trades" ? per.kept : 0;
  plan.activations =
      bytes(images * ((attacks ? 2 * step + second + 6 * pixels : step) + (mixes ? pixels : 0)));
  // Free training: images with their noise four times, and the noise of the whole batch.
  if (free)
    plan.activations += bytes((4 * images + static_cast<double>(config.train.batch)) * pixels);
  plan.evaluation = bytes(static_cast<double>(config.eval.batch) * per.kept);
  if (storage.bf16) {  // weights are rounded once a pass
    plan.activations += plan.weights / 2;
    plan.evaluation += plan.weights / 2;
  }
  plan.batches = bytes(static_cast<double>(config.data.prefetch + 1) *
                       static_cast<double>(config.train.batch) * pixels);
  return plan;
}

std::string MemoryPlan::text() const {
  std::ostringstream out;
  out << "memory plan: " << mib(total()) << " = weights " << mib(weights) << " + gradients "
      << mib(gradients) << " + optimizer " << mib(optimizer);
  if (ema > 0) out << " + averaged weights " << mib(ema);
  out << " + activations " << mib(activations) << " (MoE " << mib(moe) << ") + batches "
      << mib(batches) << " + evaluation " << mib(evaluation);
  return out.str();
}

int64_t available_memory() {
  int64_t available = 0;
  std::ifstream meminfo("/proc/meminfo");
  for (std::string key, rest; meminfo >> key && std::getline(meminfo, rest);) {
    if (key != "MemAvailable:") continue;
    available = std::stoll(rest) * 1024;
    break;
  }
  std::ifstream max_file("/sys/fs/cgroup/memory.max"), used_file("/sys/fs/cgroup/memory.current");
  int64_t most = 0, used = 0;
  if (max_file >> most && used_file >> used) {
    const int64_t left = std::max<int64_t>(1, most - used);
    available = available == 0 ? left : std::min(available, left);
  }
  return available;
}

void check_fits(const MemoryPlan& plan, int64_t available, int64_t fitting) {
  const std::string advice = fitting > 0
                                 ? "train.micro_batch = " + std::to_string(fitting) + " fits"
                                 : "set train.micro_batch (views at a time), eval.batch or a "
                                   "smaller model";
  engine::check(available == 0 || plan.total() <= available, engine::ErrorKind::kValue, plan.text(),
                "; that does not fit into the ", mib(available), " available: ", advice);
}

int64_t fitting_micro_batch(const Config& config, int64_t parameters, int64_t available) {
  const int64_t batch = config.train.batch, unit = config.data.two_view ? 2 : 1;
  const int64_t present = config.train.micro_batch > 0 ? config.train.micro_batch : batch;
  Config other = config;
  for (int64_t parts = 2; parts <= batch / unit; ++parts) {
    other.train.micro_batch = batch / parts;
    if (batch % parts != 0 || other.train.micro_batch % unit != 0) continue;
    if (other.train.micro_batch >= present) continue;
    const int64_t group = config.moe.group_images;
    if (group > 0 && other.train.micro_batch % group != 0) continue;
    if (plan_memory(other, parameters).total() <= available) return other.train.micro_batch;
  }
  return 0;
}

}  // namespace train
