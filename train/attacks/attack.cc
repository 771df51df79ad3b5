#include "train/attacks/attack.h"

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <map>
#include <optional>
#include <sstream>
#include <utility>

#include "data/loader.h"
#include "engine/core/error.h"
#include "train/attacks/progress.h"
#include "train/attacks/sanity.h"
#include "train/evaluate.h"
#include "train/model.h"

namespace train {

using engine::check;
using engine::ErrorKind;

namespace {

constexpr std::pair<AttackPlan::Kind, const char*> kNames[] = {
    {AttackPlan::Kind::kNoise, "noise"},      {AttackPlan::Kind::kFgsm, "fgsm"},
    {AttackPlan::Kind::kPgd, "pgd"},          {AttackPlan::Kind::kApgd, "apgd"},
    {AttackPlan::Kind::kApgdDlr, "apgd-dlr"}, {AttackPlan::Kind::kApgdTargeted, "apgd-t"}};

AttackLoss loss_of(AttackPlan::Kind kind) {
  if (kind == AttackPlan::Kind::kApgdDlr) return AttackLoss::kDlr;
  if (kind == AttackPlan::Kind::kApgdTargeted) return AttackLoss::kTargetedDlr;
  return AttackLoss::kClassification;
}

}  // namespace

std::string AttackPlan::name() const {
  for (const auto& [known, name] : kNames) {
    if (known == kind) return name;
  }
  return "";
}

AttackPlan plan_attack(const std::string& name, const PgdOptions& options, double sigma) {
  const auto* found =
      std::ranges::find_if(kNames, [&](const auto& known) { return name == known.second; });
  check(found != std::end(kNames), ErrorKind::kValue, "attack \"", name,
        "\": expected noise, fgsm, pgd, apgd, apgd-dlr or apgd-t");
  AttackPlan plan{found->first, options, sigma};
  if (plan.kind == AttackPlan::Kind::kNoise) {
    // Noise knows no bound but that of pixels, in any norm.
    plan.pgd.ball = {Norm::kLinf, 1};
  } else if (plan.kind == AttackPlan::Kind::kFgsm) {
    plan.pgd.steps = 1;
    plan.pgd.step = options.ball.eps;
    plan.pgd.random_start = false;
    plan.pgd.restarts = 1;
  }
  return plan;
}

namespace {

// The loader of evaluations, with pixels in [0, 1] instead of normalised ones.
data::LoaderOptions plain_pixels(const Config& config) {
  data::LoaderOptions options = evaluation_loader(config);
  options.low = 0;
  options.high = 1;
  options.mean.clear();
  options.stddev.clear();
  return options;
}

// logits_changed: gets how many a second pass gives other logits.
Victims victims_of(AttackedModel& model, const data::Batch& batch, int64_t& logits_changed) {
  Victims v;
  v.clean = batch.pixels;
  v.clean.resize(static_cast<size_t>(batch.views * model.pixels_per_image()));
  v.adversarial = v.clean;
  v.labels = batch.labels;
  v.samples = batch.samples;
  v.broken.resize(v.labels.size());
  const std::span<const float> kept = model.logits(v.clean);
  const std::vector<float> first(kept.begin(), kept.end());
  const std::span<const float> second = model.logits(v.clean);
  logits_changed = 0;
  for (int64_t i = 0; i < v.size(); ++i) {
    const float* row = first.data() + i * model.classes();
    const float* again = second.data() + i * model.classes();
    v.broken[i] = predicted_class(row, model.classes()) != v.labels[i] ? 1 : 0;
    logits_changed += std::equal(row, row + model.classes(), again) ? 0 : 1;
  }
  return v;
}

void run(AttackedModel& model, const AttackPlan& plan, Victims& victims) {
  if (plan.kind == AttackPlan::Kind::kNoise) {
    attack_noise(model, plan.sigma, plan.pgd.restarts, plan.pgd.seed, victims);
  } else if (plan.kind == AttackPlan::Kind::kFgsm || plan.kind == AttackPlan::Kind::kPgd) {
    PgdOptions options = plan.pgd;
    if (plan.kind == AttackPlan::Kind::kFgsm) options.starts = {};  // FGSM starts at the image
    attack_pgd(model, options, victims);
  } else {
    ApgdOptions options{.ball = plan.pgd.ball,
                        .steps = plan.pgd.steps,
                        .loss = loss_of(plan.kind),
                        .restarts = plan.pgd.restarts,
                        .seed = plan.pgd.seed,
                        .starts = plan.pgd.starts};
    attack_apgd(model, options, victims);
  }
}

// steady: a second pass says the same, so that a claim can be checked.
void verify(AttackedModel& model, const AttackPlan& plan, const Victims& victims, bool steady) {
  const std::span<const float> logits = model.logits(victims.adversarial);
  for (int64_t i = 0; i < victims.size(); ++i) {
    const float* row = logits.data() + i * model.classes();
    const bool wrong = predicted_class(row, model.classes()) != victims.labels[i];
    check(plan.pgd.ball.holds(victims.clean_of(i), victims.adversarial_of(i)), ErrorKind::kInternal,
          plan.name(), ": image ", victims.samples[i], " left its ball or the pixel range");
    check(!steady || wrong == (victims.broken[i] != 0), ErrorKind::kInternal, plan.name(),
          ": image ", victims.samples[i], " was said to be ",
          victims.broken[i] != 0 ? "broken" : "right", " and is not");
  }
}

void count(const Victims& clean, const Victims& attacked, AttackFigures& figures) {
  const Ball linf{Norm::kLinf, 1}, l2{Norm::kL2, 1};
  for (int64_t i = 0; i < attacked.size(); ++i) {
    if (clean.broken[i] != 0) continue;
    figures.robust += attacked.broken[i] == 0 ? 1 : 0;
    const double a = linf.distance(attacked.clean_of(i), attacked.adversarial_of(i));
    const double b = l2.distance(attacked.clean_of(i), attacked.adversarial_of(i));
    figures.linf_mean += a;
    figures.l2_mean += b;
    figures.linf_largest = std::max(figures.linf_largest, a);
    figures.l2_largest = std::max(figures.l2_largest, b);
  }
}

template <class T>
void append(std::vector<T>& to, const std::vector<T>& from) {
  to.insert(to.end(), from.begin(), from.end());
}

// Adds to zero_gradients of each attack; attacks of one loss share a pass.
void add_zero_gradients(AttackedModel& model, const std::vector<AttackPlan>& plans,
                        const Victims& clean, AttackResult& result) {
  std::map<AttackLoss, int64_t> counts;
  for (size_t a = 0; a < plans.size(); ++a) {
    if (plans[a].kind == AttackPlan::Kind::kNoise) continue;
    const AttackLoss loss = loss_of(plans[a].kind);
    const auto [at, fresh] = counts.try_emplace(loss, 0);
    if (fresh) at->second = count_zero_gradients(model, clean, loss);
    result.attacks[a].zero_gradients += at->second;
  }
}

// watcher: null for models that choose no experts.
// steady: no prediction depends on the batch.
void attack_batch(AttackedModel& model, RoutingWatcher* watcher, bool steady,
                  const std::vector<AttackPlan>& plans, const data::Batch& batch,
                  AttackResult& result, AttackImages* images) {
  int64_t logits_changed = 0;
  const Victims clean = victims_of(model, batch, logits_changed);
  add_zero_gradients(model, plans, clean, result);
  if (watcher != nullptr) watcher->begin(clean, result.router_gradient_share);
  if (images != nullptr) {
    append(images->clean, clean.clean);
    append(images->labels, clean.labels);
    for (const uint8_t wrong : clean.broken) images->right.push_back(wrong == 0 ? 1 : 0);
  }
  std::vector<uint8_t> broken = clean.broken;
  std::vector<Victims> all(plans.size(), clean);
  for (size_t a = 0; a < plans.size(); ++a) {
    Victims& attacked = all[a];
    run(model, plans[a], attacked);
    verify(model, plans[a], attacked, steady && logits_changed == 0);
    count(clean, attacked, result.attacks[a]);
    if (watcher != nullptr) watcher->add(clean, attacked, result.attacks[a].routing);
    if (images != nullptr) {
      append(images->attacks[a].adversarial, attacked.adversarial);
      append(images->attacks[a].broken, attacked.broken);
    }
    for (size_t i = 0; i < broken.size(); ++i) broken[i] |= attacked.broken[i];
  }
  count_missed(clean, all, plans, result.attacks);
  result.logits_changed += logits_changed;
  result.n += clean.size();
  result.right += std::ranges::count(clean.broken, 0);
  result.worst_case += std::ranges::count(broken, 0);
}

double share(int64_t count, int64_t n) {
  return n > 0 ? static_cast<double>(count) / static_cast<double>(n) : 0;
}

std::string percent(int64_t count, int64_t n) {
  std::ostringstream text;
  const double p = share(count, n);
  text << std::fixed << std::setprecision(2) << 100 * p << " ± " << 100 * share_error(p, n) << " %";
  return text.str();
}

}  // namespace

AttackResult attack_model(const Network& network, const Config& config,
                          const data::Dataset& dataset, const std::vector<AttackPlan>& plans,
                          const AttackOptions& options) {
  check(!plans.empty(), ErrorKind::kValue, "attack: no attack was named");
  AttackResult result;
  for (const AttackPlan& plan : plans) result.attacks.emplace_back().name = plan.name();
  if (options.images != nullptr) options.images->attacks.resize(plans.size());
  AttackedModel model(network, config);
  std::optional<RoutingWatcher> watcher;
  if (network.chooses_experts()) {
    watcher.emplace(network, config);
    result.moe_layers = network.moe_layer_names();
  }
  const int64_t n =
      config.eval.limit > 0 ? std::min(config.eval.limit, dataset.size()) : dataset.size();
  for (const AttackPlan& plan : plans) {
    const int64_t rows = static_cast<int64_t>(plan.pgd.starts.size()) / model.pixels_per_image();
    check(plan.pgd.starts.empty() || rows >= n, ErrorKind::kValue, "attack: ", rows,
          " starts are given for ", n, " images");
  }
  if (options.progress != nullptr) options.progress->restore(result, options.images);
  const int64_t batch_size = config.eval.batch;
  data::Loader loader(dataset, plain_pixels(config), (result.n + batch_size - 1) / batch_size,
                      data::Stream::kEvaluation);
  while (const data::Batch* batch = loader.next()) {
    attack_batch(model, watcher ? &*watcher : nullptr, !depends_on_neighbours(config), plans,
                 *batch, result, options.images);
    if (options.progress != nullptr) options.progress->save(result, options.images);
    result.stopped = options.stop != nullptr && *options.stop != 0 && result.n < n;
    if (result.stopped) break;
  }
  for (AttackFigures& figures : result.attacks) {
    figures.linf_mean /= std::max(1.0, static_cast<double>(result.right));
    figures.l2_mean /= std::max(1.0, static_cast<double>(result.right));
  }
  return result;
}

namespace {

double router_share(const AttackResult& r) {
  return r.router_gradient_share / std::max(1.0, static_cast<double>(r.right));
}

double mean(double sum, int64_t tokens) {
  return sum / static_cast<double>(std::max<int64_t>(1, tokens));
}

// One attack's object, with what it did to the routing.
std::string attack_line(const AttackResult& r, const AttackFigures& f, Fields fields) {
  if (r.moe_layers.empty()) return json_line(fields);
  const double p = share(f.routing.frozen_right, r.n);
  fields.emplace_back("frozen_routing_accuracy", p);
  fields.emplace_back("frozen_routing_accuracy_se", share_error(p, r.n));
  std::string text = json_line(fields);
  text.pop_back();
  text += ", \"routing\": [";
  for (size_t l = 0; l < f.routing.layers.size(); ++l) {
    const RoutingChanges::Layer& layer = f.routing.layers[l];
    text += (l > 0 ? ", " : "") +
            json_line({{"layer", r.moe_layers[l]},
                       {"change", mean(layer.change, layer.tokens)},
                       {"flips", mean(static_cast<double>(layer.flips), layer.tokens)}});
  }
  return text + "]}";
}

// What attacks did to the routing, for a person.
void routing_text(const AttackResult& r, std::ostream& text) {
  if (r.moe_layers.empty()) return;
  text << "routing: " << std::setprecision(2) << 100 * router_share(r)
       << " % of the gradient at the images goes by way of routers\n";
  for (const AttackFigures& f : r.attacks) {
    text << "  " << std::left << std::setw(14) << f.name << "   with the clean images' routing "
         << percent(f.routing.frozen_right, r.n);
    for (size_t l = 0; l < f.routing.layers.size(); ++l) {
      const RoutingChanges::Layer& layer = f.routing.layers[l];
      text << "; " << r.moe_layers[l] << ": 1 - IoU " << std::setprecision(3)
           << mean(layer.change, layer.tokens) << ", flips " << std::setprecision(2)
           << 100 * mean(static_cast<double>(layer.flips), layer.tokens) << " %";
    }
    text << "\n";
  }
}

}  // namespace

std::string attack_json(const AttackResult& r, const Fields& head) {
  Fields fields = head;
  const double clean = share(r.right, r.n), robust = share(r.worst_case, r.n);
  fields.emplace_back("n", r.n);
  fields.emplace_back("clean_accuracy", clean);
  fields.emplace_back("clean_accuracy_se", share_error(clean, r.n));
  fields.emplace_back("robust_accuracy", robust);
  fields.emplace_back("robust_accuracy_se", share_error(robust, r.n));
  fields.emplace_back("logits_changed", r.logits_changed);
  if (!r.moe_layers.empty()) {
    fields.emplace_back("router_gradient_share", router_share(r));
  }
  std::string text = json_line(fields);
  text.pop_back();
  text += ", \"flags\": [";
  const std::vector<AttackFlag> flags = attack_flags(r);
  for (size_t i = 0; i < flags.size(); ++i) {
    text += (i > 0 ? ", \"" : "\"") + flags[i].name + "\"";
  }
  text += "], \"per_attack\": [";
  for (size_t a = 0; a < r.attacks.size(); ++a) {
    const AttackFigures& f = r.attacks[a];
    const double p = share(f.robust, r.n);
    const Value zero_gradients = f.name == "noise" ? Value(std::nan("")) : Value(f.zero_gradients);
    Fields own{{"name", f.name},
               {"robust_accuracy", p},
               {"robust_accuracy_se", share_error(p, r.n)},
               {"linf_mean", f.linf_mean},
               {"linf_largest", f.linf_largest},
               {"l2_mean", f.l2_mean},
               {"l2_largest", f.l2_largest},
               {"zero_gradients", zero_gradients},
               {"missed", f.missed},
               {"missed_by_weaker", f.missed_by_weaker}};
    text += (a > 0 ? ", " : "") + attack_line(r, f, own);
  }
  return text + "]}";
}

std::string attack_text(const AttackResult& r) {
  std::ostringstream text;
  text << "n " << r.n << "\n  without attack   " << percent(r.right, r.n) << "\n";
  text << std::fixed << std::setprecision(4);
  for (const AttackFigures& f : r.attacks) {
    text << "  " << std::left << std::setw(14) << f.name << "   " << percent(f.robust, r.n)
         << "   |change| of a pixel " << f.linf_mean << ", at most " << f.linf_largest
         << "; of an image (l2) " << f.l2_mean << ", at most " << f.l2_largest << "\n";
  }
  text << "  worst case       " << percent(r.worst_case, r.n) << "\n";
  routing_text(r, text);
  for (const AttackFlag& flag : attack_flags(r)) {
    text << "  flag " << flag.name << ": " << flag.text << "\n";
  }
  return text.str();
}

}  // namespace train
