#include <algorithm>
#include <cmath>
#include <iomanip>
#include <numeric>
#include <sstream>

#include "train/predict/predict.h"

namespace train {
namespace {

using engine::check;
using engine::ErrorKind;

const moe::Routing& routing_of(const moe::ModelOutput& output, int64_t layer) {
  std::string blocks;
  for (const moe::Routing& r : output.routings) {
    if (r.layer == layer) return r;
    blocks += (blocks.empty() ? "" : ", ") + std::to_string(r.layer);
  }
  engine::fail(ErrorKind::kValue, "block ", layer,
               " has no experts; blocks with experts: ", blocks.empty() ? "none" : blocks);
}

double norm(const float* x, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  return std::sqrt(sum);
}

// What the expert in place j of a token's choices adds to it.
std::string contribution(const moe::Routing& r, int64_t token, int64_t j) {
  const int32_t slot = r.slot_of.data<const int32_t>()[token * r.top_k + j];
  if (slot < 0) return "chosen, but dropped: no slot was left";
  const int64_t width = r.outputs.shape()[1];
  const double weight = static_cast<double>(r.weight.data<const float>()[token * r.top_k + j]);
  const double length = norm(r.outputs.data<const float>() + slot * width, width);
  std::ostringstream text;
  text << std::fixed << std::setprecision(4) << "chosen: weight " << weight << " x |output| "
       << length << " adds " << weight * length;
  return text.str();
}

}  // namespace

std::string trace_token(const moe::ModelOutput& output, int64_t layer, int64_t patch) {
  const moe::Routing& r = routing_of(output, layer);
  const int64_t first = r.class_token ? 1 : 0, patches = r.tokens - first;
  check(patch >= -first && patch < patches, ErrorKind::kValue, "patch ", patch, ": the model has ",
        patches, ", counted from 0", first == 1 ? ", and a class token" : "");
  const int64_t token = first + patch, e = r.experts, k = r.top_k;
  const float* logits = r.noisy_logits.data<const float>() + token * e;
  const float* gates = r.gates.data<const float>() + token * e;
  std::vector<int64_t> order(static_cast<size_t>(e));
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, [gates](int64_t a, int64_t b) { return gates[a] > gates[b]; });

  std::ostringstream text;
  text << "block " << layer << ", "
       << (patch < 0 ? "class token" : "patch " + std::to_string(patch)) << " (token " << token
       << ")\n  rank  expert     logit   softmax\n";
  text << std::fixed << std::setprecision(4);
  const bool by_choice = !r.expert_choice && !r.soft;
  for (size_t rank = 0; rank < order.size(); ++rank) {
    const int64_t expert = order[rank];
    text << std::setw(6) << rank + 1 << std::setw(8) << expert << std::setw(10) << logits[expert]
         << std::setw(10) << gates[expert];
    for (int64_t j = 0; j < k; ++j) {
      if (r.chosen.data<const int32_t>()[token * k + j] == expert && by_choice) {
        text << "  " << contribution(r, token, j);
      }
    }
    text << "\n";
  }
  if (r.expert_choice) return text.str() + "  experts chose their tokens here\n";
  if (r.soft) {
    return text.str() +
           "  soft: softmax is each expert's part of the token's output, logit its "
           "logarithm; nothing is chosen, nothing can flip\n";
  }
  if (k == e) return text.str() + "  every expert is chosen, nothing can flip\n";
  const int64_t last = order[static_cast<size_t>(k) - 1], next = order[static_cast<size_t>(k)];
  text << "  margin to the next flip: " << logits[last] - logits[next] << " in logits, "
       << gates[last] - gates[next] << " in gates: expert " << next << " takes the place of expert "
       << last << " where its logit rises by more than that against the other's\n";
  return text.str();
}

}  // namespace train
