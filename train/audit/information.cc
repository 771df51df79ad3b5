#include "train/audit/information.h"

#include <cmath>
#include <numeric>
#include <vector>

#include "engine/core/error.h"

namespace train {
namespace {

int64_t sum_of(std::span<const int64_t> counts) {
  return std::accumulate(counts.begin(), counts.end(), int64_t{0});
}

struct Marginals {
  std::vector<int64_t> row, column;
  int64_t total = 0;
};

Marginals marginals(std::span<const int64_t> joint, int64_t columns) {
  engine::check(columns > 0 && joint.size() % static_cast<size_t>(columns) == 0,
                engine::ErrorKind::kShape, "joint counts: ", joint.size(), " in rows of ", columns);
  const auto width = static_cast<size_t>(columns);
  Marginals m{std::vector<int64_t>(joint.size() / width), std::vector<int64_t>(width)};
  for (size_t i = 0; i < joint.size(); ++i) {
    m.row[i / width] += joint[i];
    m.column[i % width] += joint[i];
  }
  m.total = sum_of(joint);
  return m;
}

}  // namespace

double entropy(std::span<const int64_t> counts) {
  const auto total = static_cast<double>(sum_of(counts));
  double h = 0;
  for (const int64_t count : counts) {
    if (count == 0) continue;
    const double p = static_cast<double>(count) / total;
    h -= p * std::log(p);
  }
  return h + 0.0;  // no negative zero
}

double effective_number(std::span<const int64_t> counts) { return std::exp(entropy(counts)); }

double mutual_information(std::span<const int64_t> joint, int64_t columns) {
  const Marginals m = marginals(joint, columns);
  const auto width = static_cast<size_t>(columns);
  const auto total = static_cast<double>(m.total);
  double information = 0;
  for (size_t i = 0; i < joint.size(); ++i) {
    if (joint[i] == 0) continue;
    const auto both = static_cast<double>(joint[i]);
    const double independent =
        static_cast<double>(m.row[i / width]) * static_cast<double>(m.column[i % width]);
    information += both / total * std::log(both * total / independent);
  }
  return information;
}

double chance_agreement(std::span<const int64_t> joint, int64_t experts) {
  engine::check(static_cast<int64_t>(joint.size()) == experts * experts, engine::ErrorKind::kShape,
                "joint counts: ", joint.size(), " for ", experts, " experts");
  const Marginals m = marginals(joint, experts);
  if (m.total == 0) return 0;
  const auto total = static_cast<double>(m.total);
  double sum = 0;
  for (size_t i = 0; i < m.row.size(); ++i) {
    sum += static_cast<double>(m.row[i]) / total * (static_cast<double>(m.column[i]) / total);
  }
  return sum;
}

}  // namespace train
