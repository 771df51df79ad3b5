#include "tools/commands/bench_experts.h"

#include <algorithm>
#include <iomanip>
#include <iostream>
#include <sstream>
#include <vector>

#include "engine/core/buffer.h"
#include "engine/core/op_times.h"
#include "engine/core/parallel.h"
#include "engine/core/rng.h"
#include "tools/commands/bench_config.h"
#include "tools/commands/checkpoint_input.h"
#include "tools/commands/session.h"
#include "train/attacks/ordered_network.h"
#include "train/evaluate.h"
#include "train/file_io.h"
#include "train/metrics.h"
#include "train/model.h"

namespace tools {
namespace {

using engine::Tensor;

constexpr int64_t kPairs = 20;

// Which expert takes image i of n: all the same number of images; the first 97 % of them and the
// others the rest; or what routers say.
enum class Load : uint8_t { kEven, kUneven, kRouted };

const char* name_of(Load load) {
  return load == Load::kEven ? "even" : load == Load::kUneven ? "97_%" : "routed";
}

int32_t expert_of(Load load, int64_t i, int64_t n, int64_t experts) {
  if (load == Load::kEven) return static_cast<int32_t>(i % experts);
  const int64_t first = std::max<int64_t>(1, n * 97 / 100);
  return static_cast<int32_t>(i < first ? 0 : 1 + (i - first) % (experts - 1));
}

// What all layers are to do; the arrays live here.
struct Choices {
  Choices(const train::Config& config, Load load, int64_t images)
      : expert(static_cast<size_t>(images * config.image_moe.grid * config.image_moe.grid)),
        weight(expert.size(), 1.0f) {
    if (load == Load::kRouted) return;
    const auto rows = static_cast<int64_t>(expert.size());
    for (int64_t i = 0; i < rows; ++i) {
      expert[static_cast<size_t>(i)] = expert_of(load, i, rows, config.moe.experts);
    }
    for (const int64_t layer : train::moe_layer_indices(config)) {
      orders.push_back(
          {.layer = layer,
           .chosen = Tensor(expert.data(), {rows, 1}, engine::Dtype::kI32, engine::Device::kCpu),
           .weight = Tensor(weight.data(), {rows, 1}, engine::Dtype::kF32, engine::Device::kCpu)});
    }
  }
  std::vector<int32_t> expert;
  std::vector<float> weight;
  std::vector<moe::LayerOrder> orders;
};

struct Times {
  double mixed_ms, plain_ms, ratio;
};

Times measure(train::OrderedNetwork& mixed, const train::Network& plain,
              const train::Config& config, Load load, int64_t images) {
  const Choices choices(config, load, images);
  mixed.orders() = choices.orders;
  const int64_t size = config.model.image_size;
  engine::Buffer pixels({images, config.model.channels, size, size}, engine::Dtype::kF32);
  const engine::RngKey key(4, engine::Purpose::kTest);
  for (int64_t i = 0; i < pixels.tensor().numel(); ++i) {
    pixels.data<float>()[i] = static_cast<float>(key.normal(static_cast<uint64_t>(i)));
  }
  train::Inference with(mixed), without(plain);
  std::vector<double> with_ms, without_ms, ratios;
  const auto once = [&](train::Inference& inference) {
    const double begin = engine::OpTimes::now_s();
    inference.run(pixels.tensor());
    return 1e3 * (engine::OpTimes::now_s() - begin);
  };
  for (int64_t i = -2; i < kPairs; ++i) {
    // Each goes first every other time; the first two only take their memory.
    const bool turned = i % 2 != 0;
    const double first = once(turned ? without : with), second = once(turned ? with : without);
    if (i < 0) continue;
    with_ms.push_back(turned ? second : first);
    without_ms.push_back(turned ? first : second);
    ratios.push_back(with_ms.back() / without_ms.back());
  }
  return {median(with_ms), median(without_ms), median(ratios)};
}

}  // namespace

int bench_experts(const Options& options) {
  const std::string json = options.get("json");
  if (!json.empty() && json != "-") check_writable(json);
  train::Config config = bench_config(options);
  set_train_value(config, options, "threads");
  use_threads(config.train.threads);
  engine::check(
      !train::is_vit(config) && !train::moe_layer_indices(config).empty() && config.moe.top_k == 1,
      engine::ErrorKind::kValue,
      "bench experts is for residual networks with mixtures "
      "of which an image takes one (moe.top_k = 1), such as quick-blockmoe; bench train "
      "measures any recipe");
  const train::Model model(config, false);
  train::Config plain_config = config;
  train::set_value(plain_config, "moe.layers=none");
  const train::Model plain(plain_config, false);
  train::OrderedNetwork ordered(*model.network);
  std::ostringstream text;
  text << config.recipe << ", " << config.moe.layers << ", " << config.moe.experts
       << " experts: forward pass in ms, medians of " << kPairs << " pairs, "
       << engine::num_threads() << " threads\n"
       << "even: all experts the same number; 97_%: so many to one\n"
       << "  images  load          mixtures     plain   ratio\n"
       << std::fixed;
  train::Fields fields{{"recipe", config.recipe},
                       {"experts", config.moe.experts},
                       {"pairs", kPairs},
                       {"threads", static_cast<int64_t>(engine::num_threads())}};
  std::vector<int64_t> batches = {config.train.batch};
  if (config.train.batch > 1) batches.push_back(1);
  for (const int64_t images : batches) {
    for (const Load load : {Load::kEven, Load::kUneven, Load::kRouted}) {
      const Times t = measure(ordered, *plain.network, config, load, images);
      text << std::setw(8) << images << "  " << std::left << std::setw(10) << name_of(load)
           << std::right << std::setprecision(3) << std::setw(12) << t.mixed_ms << std::setw(10)
           << t.plain_ms << std::setw(8) << t.ratio << "\n";
      const std::string at = "batch_" + std::to_string(images) + "_" + name_of(load) + "_";
      fields.emplace_back(at + "ms", t.mixed_ms);
      fields.emplace_back(at + "plain_ms", t.plain_ms);
      fields.emplace_back(at + "ratio", t.ratio);
    }
  }
  (json == "-" ? std::cerr : std::cout) << text.str();
  if (json == "-") {
    std::cout << train::json_line(fields) << "\n";
  } else if (!json.empty()) {
    train::write_file(json, train::json_line(fields) + "\n");
  }
  return 0;
}

}  // namespace tools
