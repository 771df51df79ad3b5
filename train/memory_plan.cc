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
  int64_t attention, dense, moe, stem, widest_gradient;
};

PerImage elements(const moe::VmoeConfig& c) {
  const int64_t t = c.vit.tokens(), d = c.vit.width, e = c.moe.experts;
  const int64_t k = moe::slots_per_token(c.moe), choices = c.moe.choices(/*train=*/true);
  const int64_t patch_values = c.vit.patch * c.vit.patch * c.vit.channels * c.vit.patches();
  PerImage out{};
  // norm1, qkv, probabilities, attention, block input of the second half; two statistics a norm
  out.attention = t * (d + 3 * d + d + d + 2) + c.vit.heads * t * t;
  out.dense = t * (d + 2 + 2 * c.vit.mlp + d);  // norm2, z, gelu(z), output
  // norm2, router tensors and index arrays, dispatched tokens, z, gelu(z), expert output, output
  out.moe = t * (d + 2 + 5 * e + 6 * choices + k * (2 * d + 2 * c.vit.mlp) + d);
  if (c.moe.chooser == moe::Chooser::kSoft && !c.moe_layers.empty()) {
    // unit tokens, logits, noise, both softmaxes and a transposed copy; mixtures in two orders
    const int64_t slots = e * moe::soft_slots(c.moe, t);
    out.moe += t * (d + 6 * slots) + 2 * slots * d;
  }
  if (c.moe.bf16_dispatch) out.moe += t * k * 2 * d;  // rounded copies of what goes in and out
  out.stem = patch_values + 2 * t * d;
  const int64_t hidden = c.moe_layers.empty() ? c.vit.mlp : std::max(c.vit.mlp, k * c.vit.mlp);
  out.widest_gradient = t * (hidden + 4 * d + k * d);
  return out;
}

}  // namespace

MemoryPlan plan_memory(const Config& config, int64_t parameters) {
  const moe::VmoeConfig c = vmoe_config(config);
  const PerImage per = elements(c);
  const int64_t moe_layers = static_cast<int64_t>(c.moe_layers.size());
  const int64_t images =
      config.train.micro_batch > 0 ? config.train.micro_batch : config.train.batch;
  constexpr int64_t kBytes = 4;
  MemoryPlan plan;
  plan.parameters = parameters;
  plan.weights = plan.gradients = parameters * kBytes;
  plan.optimizer = plan.weights * (config.optimizer.name == "adam" ? 2 : 1);
  plan.ema = config.train.ema > 0 ? plan.weights : 0;
  plan.moe = moe_layers * per.moe * images * kBytes;
  const int64_t mask = config.moe.expert_dropout > 0
                           ? moe_layers * c.vit.tokens() * moe::slots_per_token(c.moe) *
                                 (2 * c.vit.mlp + 2 * c.vit.width)
                           : 0;
  plan.activations =
      plan.moe + kBytes * images *
                     (per.stem + c.vit.layers * per.attention +
                      (c.vit.layers - moe_layers) * per.dense + per.widest_gradient + mask);
  const int64_t pixels = c.vit.channels * c.vit.image_size * c.vit.image_size;
  plan.batches = (config.data.prefetch + 1) * config.train.batch * pixels * kBytes;
  return plan;
}

std::string MemoryPlan::text() const {
  std::ostringstream out;
  out << "memory plan: " << mib(total()) << " = weights " << mib(weights) << " + gradients "
      << mib(gradients) << " + optimizer " << mib(optimizer);
  if (ema > 0) out << " + averaged weights " << mib(ema);
  out << " + activations " << mib(activations) << " (MoE " << mib(moe) << ") + batches "
      << mib(batches);
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

void check_fits(const MemoryPlan& plan, int64_t available) {
  engine::check(available == 0 || plan.total() <= available, engine::ErrorKind::kValue, plan.text(),
                "; that does not fit into the ", mib(available),
                " available: set train.micro_batch (views at a time) or a smaller model");
}

}  // namespace train
