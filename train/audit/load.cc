#include "train/audit/load.h"

namespace train {

int64_t LoadCounter::count_token(const moe::Routing& routing, int64_t token) {
  const int64_t k = routing.top_k;
  const int32_t* chosen = routing.chosen.data<const int32_t>() + token * k;
  const int32_t* given = routing.expert.data<const int32_t>() + token * k;
  int64_t dropped = 0;
  for (int64_t j = 0; j < k; ++j) {
    if (!routing.expert_choice || given[j] >= 0) ++counts_[chosen[j]];
    dropped += given[j] < 0 ? 1 : 0;
  }
  if (routing.expert_choice) return dropped == k ? 1 : 0;
  return dropped;
}

void LoadCounter::add_pairs(const moe::Routing& routing, std::span<const AuditPair> pairs) {
  for (size_t begin = 0, end = 0; begin < pairs.size(); begin = end) {
    int64_t dropped = 0;
    for (; end < pairs.size() && pairs[end].source == pairs[begin].source; ++end) {
      dropped += count_token(routing, pairs[end].left) + count_token(routing, pairs[end].right);
    }
    dropped_.add(dropped, static_cast<int64_t>(end - begin) * 2 * routing.choices_per_token());
  }
}

void LoadCounter::add_all(const moe::Routing& routing, int64_t sources) {
  const int64_t tokens = 2 * routing.tokens;
  for (int64_t i = 0; i < sources; ++i) {
    int64_t dropped = 0;
    for (int64_t t = 0; t < tokens; ++t) dropped += count_token(routing, i * tokens + t);
    dropped_.add(dropped, tokens * routing.choices_per_token());
  }
}

std::vector<double> LoadCounter::load() const {
  int64_t total = 0;
  for (const int64_t count : counts_) total += count;
  std::vector<double> shares;
  for (const int64_t count : counts_) {
    shares.push_back(total > 0 ? static_cast<double>(count) / static_cast<double>(total) : 0);
  }
  return shares;
}

}  // namespace train
