#include "train/report/noise_routes.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "data/codec/encode_image.h"
#include "engine/core/rng.h"
#include "train/audit/noise_direction.h"
#include "train/audit/top_two.h"
#include "train/model.h"
#include "train/predict/predict.h"
#include "train/predict/seen_picture.h"
#include "train/report/base64.h"
#include "train/report/chosen_images.h"

namespace train {

using engine::check;
using engine::ErrorKind;
using engine::Tensor;

std::vector<int64_t> spread_images(int64_t size, int64_t count) {
  std::vector<int64_t> chosen;
  const int64_t n = std::min(size, count);
  for (int64_t k = 0; k < n; ++k) chosen.push_back(k * size / n);
  return chosen;
}

std::string data_uri(const data::ImageU8& picture) {
  const bool small = picture.width <= 64 && picture.height <= 64;
  return (small ? "data:image/png;base64," + base64(data::encode_png(picture))
                : "data:image/jpeg;base64," + base64(data::encode_jpeg(picture, 90)));
}

namespace {

class Follower {
 public:
  Follower(NoiseRoutes& routes, const Config& config, int64_t images)
      : routes_(routes), config_(config), images_(images) {}

  // What the model made of `count` levels of image k, from level `first` on.
  void take(int64_t k, int64_t first, int64_t count, const moe::ModelOutput& out) {
    if (routes_.layers.empty()) begin(out);
    for (int64_t i = 0; i < count; ++i) take_level(k, first + i, i, out);
  }

 private:
  void begin(const moe::ModelOutput& out) {
    const auto levels = static_cast<int64_t>(routes_.sigmas.size());
    const moe::Routing& any = out.routings.at(0);
    routes_.class_token = any.class_token;
    routes_.images = images_;
    routes_.patches = any.tokens - (any.class_token ? 1 : 0);
    routes_.classes = out.logits.shape()[1];
    const auto cells = static_cast<size_t>(levels * images_ * routes_.patches);
    for (const moe::Routing& r : out.routings) {
      NoiseRoutesLayer& layer = routes_.layers.emplace_back();
      layer.layer = r.layer, layer.experts = r.experts, layer.top_k = r.top_k;
      layer.capacity = r.capacity, layer.expert_choice = r.expert_choice;
      layer.experts_of.resize(2 * cells);
      layer.gates.resize(2 * cells);
      layer.dropped.resize(cells);
      layer.logits.resize(static_cast<size_t>(images_ * r.tokens * r.experts));
    }
    routes_.probabilities.resize(static_cast<size_t>(levels * images_ * routes_.classes));
    routes_.logit_steps.resize(static_cast<size_t>((levels - 1) * images_));
  }

  // Image `row` of the batch is level `level` of image k.
  void take_level(int64_t k, int64_t level, int64_t row, const moe::ModelOutput& out) {
    const int64_t classes = routes_.classes;
    const float* logits = out.logits.data<const float>() + row * classes;
    const std::vector<double> p = probabilities_of(logits, classes, config_);
    std::ranges::copy(p, routes_.probabilities.begin() + (level * images_ + k) * classes);
    if (level > 0) {
      double square = 0;
      for (int64_t c = 0; c < classes; ++c) {
        const double step = double{logits[c]} - double{before_[static_cast<size_t>(c)]};
        square += step * step;
      }
      routes_.logit_steps[(level - 1) * images_ + k] = std::sqrt(square);
    }
    before_.assign(logits, logits + classes);
    for (size_t l = 0; l < out.routings.size(); ++l) {
      take_layer(k, level, row, out.routings[l], routes_.layers[l]);
    }
  }

  void take_layer(int64_t k, int64_t level, int64_t row, const moe::Routing& r,
                  NoiseRoutesLayer& to) const {
    const float* gates = r.gates.data<const float>();
    const int32_t *chosen = r.chosen.data<const int32_t>(), *got = r.expert.data<const int32_t>();
    const int64_t skip = r.class_token ? 1 : 0;
    for (int64_t p = 0; p < routes_.patches; ++p) {
      const int64_t token = row * r.tokens + skip + p;
      const int64_t cell = (level * images_ + k) * routes_.patches + p;
      const TopTwo top = top_two(gates + token * r.experts, r.experts);
      to.experts_of[2 * cell] = static_cast<int16_t>(top.first);
      to.experts_of[2 * cell + 1] = static_cast<int16_t>(top.second);
      to.gates[2 * cell] = static_cast<float>(top.p_first);
      to.gates[2 * cell + 1] = static_cast<float>(top.p_second);
      for (int64_t j = 0; j < std::min<int64_t>(2, r.top_k); ++j) {
        const int64_t choice = token * r.top_k + j;
        if (chosen[choice] >= 0 && got[choice] < 0) to.dropped[cell] |= uint8_t(1u << j);
      }
    }
    if (level > 0) return;
    const int64_t numbers = r.tokens * r.experts;
    std::copy_n(r.logits.data<const float>() + row * numbers, numbers,
                to.logits.begin() + k * numbers);
  }

  NoiseRoutes& routes_;
  const Config& config_;
  int64_t images_;
  std::vector<float> before_;  // the class logits of the level before
};

}  // namespace

NoiseRoutes follow_noise(Inference& inference, const Config& config, const data::Dataset& dataset,
                         const std::vector<int64_t>& chosen, uint64_t seed, int64_t levels,
                         double sigma) {
  check(levels >= 2 && sigma > 0 && std::isfinite(sigma), ErrorKind::kValue, "noise of ", levels,
        " levels up to ", sigma, ": expected at least 2, up to a deviation above 0");
  check(config.moe.experts <= std::numeric_limits<int16_t>::max(), ErrorKind::kValue,
        "report: ", config.moe.experts, " experts, more than it can show (32767)");
  NoiseRoutes routes;
  for (int64_t i = 0; i < levels; ++i) {
    routes.sigmas.push_back(sigma * static_cast<double>(i) / static_cast<double>(levels - 1));
  }
  const engine::RngKey key(seed, engine::Purpose::kNoiseSweep);
  Follower follower(routes, config, static_cast<int64_t>(chosen.size()));
  // Where a prediction depends on its neighbours an image shall have none.
  const int64_t at_once = depends_on_neighbours(config) ? 1 : levels;
  std::vector<float> directions, noisy, rows;
  for_each_chosen(
      dataset, evaluation_loader(config), chosen, [&](int64_t k, const data::Batch& batch) {
        routes.labels.push_back(batch.labels[0]);
        routes.noise_keys.push_back(key.with(static_cast<uint64_t>(batch.samples[0])).value());
        routes.pictures.push_back(data_uri(seen_picture(batch.pixels.data(), config)));
        draw_directions(config, seed, batch, directions);
        for (int64_t first = 0; first < levels; first += at_once) {
          rows.clear();
          for (int64_t i = first; i < first + at_once; ++i) {
            add_noise(batch.pixels, routes.sigmas[static_cast<size_t>(i)], directions, noisy);
            rows.insert(rows.end(), noisy.begin(), noisy.end());
          }
          const int64_t size = config.model.image_size;
          const moe::ModelOutput& out =
              inference.run(Tensor(rows.data(), {at_once, config.model.channels, size, size},
                                   engine::Dtype::kF32, engine::Device::kCpu));
          for (const moe::Routing& r : out.routings) {
            check(!r.soft, ErrorKind::kValue,
                  "report: a Soft MoE layer chooses no experts, so there is nothing to draw");
          }
          const float* logits = out.logits.data<const float>();
          check(std::all_of(logits, logits + at_once * out.logits.shape()[1],
                            [](float x) { return std::isfinite(x); }),
                ErrorKind::kValue, "report: the model's output for image ", chosen[k],
                " is not finite: its weights have diverged");
          follower.take(k, first, at_once, out);
        }
      });
  return routes;
}

}  // namespace train
