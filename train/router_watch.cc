#include "train/router_watch.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <sstream>

namespace train {

void RouterWatch::add(const StepResult& step) {
  if (seen_.empty())
    seen_ = step.layers;  // the first step of an interval: copies
  else {
    for (size_t l = 0; l < seen_.size(); ++l) {
      for (size_t e = 0; e < seen_[l].tokens.size(); ++e) {
        seen_[l].tokens[e] += step.layers[l].tokens[e];
      }
      seen_[l].choices += step.layers[l].choices;
      seen_[l].dropped += step.layers[l].dropped;
    }
  }
}

std::vector<RouterWatch::Summary> RouterWatch::take() {
  std::vector<Summary> out;
  const double experts = static_cast<double>(experts_);
  for (LayerLoad& layer : seen_) {
    Summary s{layer.layer, layer.name, {}, 0, 0, 0, 0, {}, {}, false};
    const int64_t given = std::accumulate(layer.tokens.begin(), layer.tokens.end(), int64_t{0});
    const double served = static_cast<double>(std::max<int64_t>(1, given));
    double entropy = 0;
    for (size_t e = 0; e < layer.tokens.size(); ++e) {
      const double share = static_cast<double>(layer.tokens[e]) / served;
      s.load.push_back(share);
      if (share > 0) entropy -= share * std::log(share);
      if (layer.tokens[e] == 0)
        s.dead.push_back(static_cast<int64_t>(e));
      else if (share * experts < 0.1)
        s.starved.push_back(static_cast<int64_t>(e));
      layer.tokens[e] = 0;
    }
    s.effective_experts = std::exp(entropy);
    s.busiest = *std::ranges::max_element(s.load) * experts;
    s.emptiest = *std::ranges::min_element(s.load) * experts;
    s.dropped_share = static_cast<double>(layer.dropped) /
                      static_cast<double>(std::max<int64_t>(1, layer.choices));
    s.collapsed = experts_ > top_k_ + 1 && s.effective_experts < static_cast<double>(top_k_) + 0.5;
    layer.choices = layer.dropped = 0;
    out.push_back(s);
  }
  return out;
}

std::vector<std::string> RouterWatch::warnings(const std::vector<Summary>& layers) {
  std::vector<std::string> out;
  const auto list = [](const std::vector<int64_t>& values) {
    std::ostringstream text;
    for (size_t i = 0; i < values.size(); ++i) text << (i > 0 ? ", " : "") << values[i];
    return text.str();
  };
  for (const Summary& s : layers) {
    const std::string where = "router of " + s.name + ": ";
    if (!s.dead.empty()) out.push_back(where + "dead experts " + list(s.dead));
    if (!s.starved.empty()) {
      out.push_back(where + "starved experts " + list(s.starved) + " (below 0.1 of fair share)");
    }
    if (s.collapsed) {
      std::ostringstream text;
      text.precision(3);
      text << where << "collapsed: " << s.effective_experts << " effective experts of "
           << s.load.size();
      out.push_back(text.str());
    }
  }
  return out;
}

}  // namespace train
