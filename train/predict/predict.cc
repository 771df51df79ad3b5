#include "train/predict/predict.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace train {

using engine::check;
using engine::ErrorKind;

std::vector<double> probabilities_of(const float* logits, int64_t classes, const Config& config) {
  std::vector<double> p(logits, logits + classes);
  if (classification_loss(config) == engine::CrossEntropy::kSigmoid) {
    for (double& x : p) x = 1 / (1 + std::exp(-x));
    return p;
  }
  const double largest = *std::ranges::max_element(p);
  double sum = 0;
  for (double& x : p) sum += x = std::exp(x - largest);
  for (double& x : p) x /= sum;
  return p;
}

namespace {

TokenRoute route_of(const moe::Routing& r, int64_t token) {
  TokenRoute route;
  const int32_t* expert = r.expert.data<const int32_t>() + token * r.top_k;
  const float* weight = r.weight.data<const float>() + token * r.top_k;
  for (int64_t j = 0; j < r.top_k; ++j) {
    if (expert[j] < 0) continue;
    route.experts.push_back(expert[j]);
    route.weights.push_back(weight[j]);
  }
  return route;
}

}  // namespace

Prediction predict(Inference& inference, const Config& config, const engine::Tensor& image) {
  const moe::ModelOutput& output = inference.run(image);
  const int64_t classes = output.logits.shape()[1];
  const float* logits = output.logits.data<const float>();
  check(std::all_of(logits, logits + classes, [](float x) { return std::isfinite(x); }),
        ErrorKind::kValue, "the model's output is not finite");
  Prediction out{probabilities_of(logits, classes, config), {}};
  for (const moe::Routing& r : output.routings) {
    LayerRoutes layer{r.layer, r.experts, {}, {}};
    const int64_t first = r.class_token ? 1 : 0;
    if (r.class_token) layer.class_token = route_of(r, 0);
    for (int64_t t = first; t < r.tokens; ++t) layer.patches.push_back(route_of(r, t));
    out.layers.push_back(std::move(layer));
  }
  return out;
}

std::vector<int64_t> best_classes(const Prediction& prediction, int64_t most) {
  const std::vector<double>& p = prediction.probabilities;
  std::vector<int64_t> order(p.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, [&](int64_t a, int64_t b) {
    return p[static_cast<size_t>(a)] > p[static_cast<size_t>(b)];
  });
  order.resize(std::min(order.size(), static_cast<size_t>(most)));
  return order;
}

}  // namespace train
