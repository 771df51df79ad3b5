#include "train/attacks/apgd.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "engine/core/error.h"
#include "engine/core/parallel.h"
#include "train/attacks/pgd.h"
#include "train/evaluate.h"

namespace train {

using engine::check;
using engine::ErrorKind;

ApgdWindow::ApgdWindow(int64_t steps)
    : length(std::max<int64_t>(22 * steps / 100, 1)),
      shorter(std::max<int64_t>(3 * steps / 100, 1)),
      least(std::max<int64_t>(6 * steps / 100, 1)) {}

void ApgdWindow::next() { length = std::max(length - shorter, least); }

namespace {

// What is remembered of one victim, beside its images (Active).
struct Track {
  std::vector<double> losses;  // after each step; [0] is 0, as published
  double best_loss = 0, best_at_check = 0, step = 0;
  bool halved = true;  // at the last check
  int32_t target = 0;
};

class Run {
 public:
  Run(AttackedModel& model, const ApgdOptions& options, Victims& victims, int64_t restart,
      const std::vector<int32_t>& targets)
      : model_(model),
        o_(options),
        active_(victims, model.device(), 5),
        victims_(victims),
        restart_(restart) {
    tracks_.resize(static_cast<size_t>(victims.size()));
    for (size_t i = 0; i < targets.size(); ++i) tracks_[i].target = targets[i];
  }

  void go() {
    const bool given = restart_ == 0 && !o_.starts.empty();
    for (int64_t k = 0; given && k < active_.size(); ++k) {
      take_start(o_.starts, victims_, active_.index[static_cast<size_t>(k)], o_.ball,
                 active_.start(k));
    }
    if (!given) {
      engine::parallel_for(active_.size(), 1, [this](int64_t begin, int64_t end) {
        for (int64_t k = begin; k < end; ++k) start(k);
      });
    }
    active_.begin();
    active_.copy_all(Active::kX, Active::kBefore);
    look();
    for (int64_t k = 0; k < active_.size(); ++k) {
      Track& t = track(k);
      t.best_loss = t.best_at_check = losses_[static_cast<size_t>(k)];
      t.losses = {0};
      t.step = 2 * o_.ball.reach(static_cast<size_t>(victims_.pixels()));
    }
    active_.copy_all(Active::kX, Active::kBest);
    active_.copy_all(Active::kGradient, Active::kBestGradient);
    ApgdWindow window(o_.steps);
    for (int64_t i = 0, since = 0; i < o_.steps && !active_.empty(); ++i) {
      move(i == 0);
      look();
      note();
      if (++since < window.length) continue;
      check_progress(window.length);
      since = 0;
      window.next();
    }
    active_.copy_all(Active::kBest, Active::kX);
    active_.keep_images();
  }

 private:
  Track& track(int64_t k) {
    return tracks_[static_cast<size_t>(active_.index[static_cast<size_t>(k)])];
  }

  // At distance eps in a random direction, then into [0, 1].
  void start(int64_t k) {
    const int64_t i = active_.index[static_cast<size_t>(k)];
    const engine::RngKey key =
        engine::RngKey(o_.seed, engine::Purpose::kAttack)
            .with(static_cast<uint64_t>(victims_.samples[static_cast<size_t>(i)]))
            .with(static_cast<uint64_t>(restart_));
    const std::span<float> x = active_.start(k);
    const bool linf = o_.ball.norm == Norm::kLinf;
    std::vector<double> direction(x.size());
    double size = 0;
    for (size_t p = 0; p < x.size(); ++p) {
      direction[p] = linf ? 2 * key.uniform(p) - 1 : key.normal(p);
      size = linf ? std::max(size, std::abs(direction[p])) : size + direction[p] * direction[p];
    }
    if (!linf) size = std::sqrt(size);
    for (size_t p = 0; p < x.size(); ++p) {
      x[p] = static_cast<float>(double{x[p]} + o_.ball.reach(x.size()) * direction[p] / size);
    }
    o_.ball.project(victims_.clean_of(i), x);
  }

  // Logits, losses and gradients where everybody is; who is misclassified leaves.
  void look() {
    if (active_.empty()) return;
    targets_.clear();
    for (int64_t k = 0; k < active_.size(); ++k) targets_.push_back(track(k).target);
    model_.logits_and_gradient(active_.array(Active::kX), active_.labels,
                               active_.array(Active::kGradient), o_.loss, targets_);
    const std::span<const float> logits = model_.fetch();
    losses_.clear();
    for (int64_t k = 0; k < active_.size(); ++k) {
      const float* row = logits.data() + k * model_.classes();
      const int32_t label = active_.labels[static_cast<size_t>(k)];
      if (predicted_class(row, model_.classes()) != label) continue;  // leaves
      losses_.push_back(attack_loss(o_.loss, row, model_.classes(), label,
                                    targets_[static_cast<size_t>(k)], model_.loss_kind()));
    }
    active_.drop_broken(logits);
  }

  void move(bool first) {
    lengths_.clear();
    for (int64_t k = 0; k < active_.size(); ++k) lengths_.push_back(track(k).step);
    active_.ascend_with_momentum(o_.ball, lengths_, first ? 1 : 0.75);
  }

  void note() {
    rows_.clear();
    for (int64_t k = 0; k < active_.size(); ++k) {
      Track& t = track(k);
      const double loss = losses_[static_cast<size_t>(k)];
      t.losses.push_back(loss);
      if (loss <= t.best_loss) continue;
      t.best_loss = loss;
      rows_.push_back(k);
    }
    active_.copy(Active::kX, Active::kBest, rows_);
    active_.copy(Active::kGradient, Active::kBestGradient, rows_);
  }

  void check_progress(int64_t window) {
    rows_.clear();
    for (int64_t k = 0; k < active_.size(); ++k) {
      Track& t = track(k);
      int64_t rises = 0;
      for (size_t i = t.losses.size() - static_cast<size_t>(window); i < t.losses.size(); ++i) {
        rises += t.losses[i] > t.losses[i - 1] ? 1 : 0;
      }
      const bool oscillates = static_cast<double>(rises) <= 0.75 * static_cast<double>(window);
      const bool stuck = !t.halved && t.best_at_check >= t.best_loss;
      t.halved = oscillates || stuck;
      t.best_at_check = t.best_loss;
      if (!t.halved) continue;
      t.step /= 2;
      rows_.push_back(k);
    }
    active_.copy(Active::kBest, Active::kX, rows_);
    active_.copy(Active::kBestGradient, Active::kGradient, rows_);
  }

  AttackedModel& model_;
  const ApgdOptions& o_;
  Active active_;
  Victims& victims_;
  int64_t restart_;
  std::vector<Track> tracks_;
  std::vector<int32_t> targets_;
  std::vector<double> losses_, lengths_;
  std::vector<int64_t> rows_;
};

// The class of each image's clean logits that is `rank`-th from the top, 0 being the largest.
std::vector<int32_t> ranked_classes(AttackedModel& model, const Victims& victims, int64_t rank) {
  const std::span<const float> logits = model.logits(victims.clean);
  std::vector<int32_t> out, order(static_cast<size_t>(model.classes()));
  for (int64_t i = 0; i < victims.size(); ++i) {
    const float* row = logits.data() + i * model.classes();
    std::iota(order.begin(), order.end(), 0);
    std::ranges::stable_sort(order, [row](int32_t a, int32_t b) { return row[a] > row[b]; });
    out.push_back(order[static_cast<size_t>(rank)]);
  }
  return out;
}

}  // namespace

void attack_apgd(AttackedModel& model, const ApgdOptions& o, Victims& victims) {
  check(o.ball.eps >= 0 && std::isfinite(o.ball.eps) && o.steps >= 1 && o.restarts >= 1 &&
            o.targets >= 1,
        ErrorKind::kValue, "apgd: eps ", o.ball.eps, ", ", o.steps, " steps, ", o.restarts,
        " restarts and ", o.targets,
        " targets: expected an eps of 0 or more and at least one of the others");
  const bool targeted = o.loss == AttackLoss::kTargetedDlr;
  const int64_t least = targeted ? 4 : 3;
  check(o.loss == AttackLoss::kClassification || model.classes() >= least, ErrorKind::kValue,
        "apgd: its loss compares ", least, " classes, this model has ", model.classes(),
        ": take apgd, with the classification loss");
  const int64_t targets = targeted ? std::min(o.targets, model.classes() - 1) : 1;
  for (int64_t restart = 0; restart < o.restarts; ++restart) {
    for (int64_t target = 1; target <= targets; ++target) {
      if (std::ranges::count(victims.broken, 0) == 0) return;
      const std::vector<int32_t> classes =
          targeted ? ranked_classes(model, victims, target) : std::vector<int32_t>{};
      Run(model, o, victims, restart * targets + target - 1, classes).go();
    }
  }
}

}  // namespace train
