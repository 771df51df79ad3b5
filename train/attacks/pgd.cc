#include "train/attacks/pgd.h"

#include <algorithm>
#include <cmath>

#include "engine/core/error.h"

namespace train {

using engine::check;
using engine::ErrorKind;

namespace {

engine::RngKey key_of(uint64_t seed, const Victims& victims, int64_t i, int64_t restart) {
  return engine::RngKey(seed, engine::Purpose::kAttack)
      .with(static_cast<uint64_t>(victims.samples[static_cast<size_t>(i)]))
      .with(static_cast<uint64_t>(restart));
}

}  // namespace

void take_start(std::span<const float> starts, const Victims& victims, int64_t i, const Ball& ball,
                std::span<float> x) {
  const auto row = static_cast<size_t>(victims.samples[static_cast<size_t>(i)]) * x.size();
  check(row + x.size() <= starts.size(), ErrorKind::kInternal, "attack: image ",
        victims.samples[static_cast<size_t>(i)], " has no start");
  std::ranges::copy(starts.subspan(row, x.size()), x.begin());
  ball.project(victims.clean_of(i), x);
}

void attack_pgd(AttackedModel& model, const PgdOptions& o, Victims& victims) {
  check(o.ball.eps >= 0 && std::isfinite(o.ball.eps) && o.step >= 0 && std::isfinite(o.step) &&
            o.steps >= 1 && o.restarts >= 1,
        ErrorKind::kValue, "attack: eps ", o.ball.eps, ", step ", o.step, ", ", o.steps,
        " steps and ", o.restarts,
        " restarts: expected sizes of 0 or more and at least one step and start");
  for (int64_t restart = 0; restart < o.restarts; ++restart) {
    Active active(victims, model.device());
    if (active.empty()) return;
    const bool given = restart == 0 && !o.starts.empty();
    for (int64_t k = 0; k < active.size() && (given || o.random_start); ++k) {
      const int64_t i = active.index[static_cast<size_t>(k)];
      if (given) {
        take_start(o.starts, victims, i, o.ball, active.start(k));
        continue;
      }
      o.ball.draw(victims.clean_of(i), key_of(o.seed, victims, i, restart), active.start(k));
    }
    active.begin();
    const std::vector<double> lengths(static_cast<size_t>(active.size()), o.step);
    for (int64_t t = 0; t < o.steps && !active.empty(); ++t) {
      model.logits_and_gradient(active.array(Active::kX), active.labels,
                                active.array(Active::kGradient));
      active.drop_broken(model.fetch());
      active.ascend(o.ball, std::span(lengths).first(active.index.size()));
    }
    if (!active.empty()) {
      model.logits(active.array(Active::kX));
      active.drop_broken(model.fetch());
    }
    active.keep_images();
  }
}

void attack_noise(AttackedModel& model, double sigma, int64_t restarts, uint64_t seed,
                  Victims& victims) {
  check(sigma >= 0 && std::isfinite(sigma) && restarts >= 1, ErrorKind::kValue,
        "attack: noise of deviation ", sigma, ", ", restarts,
        " times: expected 0 or more, once or ", "more");
  for (int64_t restart = 0; restart < restarts; ++restart) {
    Active active(victims, model.device(), 1);
    if (active.empty()) return;
    for (int64_t k = 0; k < active.size(); ++k) {
      const engine::RngKey key =
          key_of(seed, victims, active.index[static_cast<size_t>(k)], restart);
      const std::span<float> x = active.start(k);
      for (size_t i = 0; i < x.size(); ++i) {
        x[i] = std::clamp(static_cast<float>(double{x[i]} + sigma * key.normal(i)), 0.0f, 1.0f);
      }
    }
    active.begin();
    model.logits(active.array(Active::kX));
    active.drop_broken(model.fetch());
    active.keep_images();
  }
}

}  // namespace train
