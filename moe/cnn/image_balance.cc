#include "moe/cnn/image_balance.h"

#include <algorithm>
#include <cmath>

#include "engine/core/backend.h"

namespace moe {

using engine::check;
using engine::Cpu;
using engine::Dtype;
using engine::ErrorKind;
using engine::Tape;
using engine::Tensor;

namespace {

double log_of(double p) { return p > 0 ? std::log(p) : std::log(1e-5); }

// Sums over the images of one column.
struct Column {
  double first = 0;  // f_e
  double mean = 0, deviation = 0;
};

template <class T>
Column column_of(const T* s, int64_t images, int64_t experts, int64_t e) {
  Column c;
  const auto n = static_cast<double>(images);
  for (int64_t t = 0; t < images; ++t) {
    const T* row = s + t * experts;
    c.first += std::max_element(row, row + experts) - row == e ? 1 / n : 0;
    c.mean += static_cast<double>(row[e]) / n;
  }
  for (int64_t t = 0; t < images && images > 1; ++t) {
    const double d = static_cast<double>(s[t * experts + e]) - c.mean;
    c.deviation += d * d / (n - 1);
  }
  c.deviation = std::sqrt(c.deviation);
  return c;
}

// The column's part of the loss; d loss / d s_te into slope (T) where that is not null.
template <class T>
double column_loss(const T* s, int64_t images, int64_t experts, int64_t e, ImageBalance kind,
                   double* slope) {
  const Column c = column_of(s, images, experts, e);
  const auto t_count = static_cast<double>(images), n = static_cast<double>(experts);
  const auto put = [&](auto&& f) {
    for (int64_t t = 0; slope != nullptr && t < images; ++t) {
      slope[t] = f(static_cast<double>(s[t * experts + e]));
    }
  };
  // d(p ln p) / dp, as p ln p is computed.
  const auto log_slope = [](double p) { return log_of(p) + (p > 0 ? 1 : 0); };
  if (kind == ImageBalance::kColumnEntropy) {
    put([&](double) { return log_slope(c.mean) / t_count; });
    return c.mean * log_of(c.mean);
  }
  if (kind == ImageBalance::kEntropy) {
    double own = 0;
    for (int64_t t = 0; t < images; ++t) {
      const auto p = static_cast<double>(s[t * experts + e]);
      own -= p * log_of(p) / t_count;
    }
    put([&](double p) { return (log_slope(c.mean) - log_slope(p)) / t_count; });
    return own + c.mean * log_of(c.mean);
  }
  const bool variance = kind == ImageBalance::kVariance;
  put([&](double p) {
    const double spread =
        variance && c.deviation > 0 ? (p - c.mean) / ((t_count - 1) * c.deviation * n) : 0;
    return n * c.first / t_count - spread;
  });
  return n * c.first * c.mean - (variance ? c.deviation / n : 0);
}

}  // namespace

Tensor image_balance_loss(const Tensor& scores, ImageBalance kind) {
  const engine::Shape& shape = scores.shape();
  check(shape.rank() == 2 && shape.numel() > 0, ErrorKind::kShape,
        "image_balance_loss: expected scores (T, N), got ", shape);
  const int64_t images = shape[0], experts = shape[1];
  Tape& on = *scores.tape();
  Tensor loss = on.arena().empty({1}, scores.dtype());
  const Tensor slopes = on.arena().empty({experts, images}, Dtype::kF64);
  engine::dispatch_cpu(scores, [&]<class T>(Cpu) {
    double sum = kind == ImageBalance::kSwitch ? -1 : 0;  // and -1 + 1 with kVariance
    for (int64_t e = 0; e < experts; ++e) {
      sum += column_loss(scores.data<const T>(), images, experts, e, kind,
                         slopes.data<double>() + e * images);
    }
    loss.data<T>()[0] = static_cast<T>(sum);
  });
  on.record("image_balance_loss", {scores}, loss, [=](const Tensor& dy, Tape& tape) {
    const Tensor ds = tape.target_zeroed(scores);
    engine::dispatch_cpu(dy, [&]<class T>(Cpu) {
      const auto seed = static_cast<double>(dy.data<const T>()[0]);
      for (int64_t t = 0; t < images; ++t) {
        for (int64_t e = 0; e < experts; ++e) {
          ds.data<T>()[t * experts + e] +=
              static_cast<T>(seed * slopes.data<const double>()[e * images + t]);
        }
      }
    });
  });
  return loss;
}

Tensor expert_spread_loss(const Tensor& outputs, const Tensor& offset) {
  const engine::Shape& shape = outputs.shape();
  check(shape.rank() == 2 && offset.shape().rank() == 1 && offset.numel() >= 2, ErrorKind::kShape,
        "expert_spread_loss: expected outputs (S, D) and offset (E+1), got ", shape, " and ",
        offset.shape());
  const int64_t experts = offset.numel() - 1, width = shape[1];
  const auto* begin = offset.data<const int32_t>();
  check(begin[0] == 0 && begin[experts] == shape[0], ErrorKind::kShape,
        "expert_spread_loss: offset ends at ", begin[experts], " of ", shape[0], " rows");
  Tape& on = *outputs.tape();
  Tensor loss = on.arena().empty({1}, outputs.dtype());
  const Tensor slope = on.arena().empty({experts}, Dtype::kF64);  // d loss / d m_e
  engine::dispatch_cpu(outputs, [&]<class T>(Cpu) {
    double* m = slope.data<double>();
    double used = 0, mean = 0, var = 0;
    for (int64_t e = 0; e < experts; ++e) {
      const int64_t count = (begin[e + 1] - begin[e]) * width;
      m[e] = 0;
      const T* from = outputs.data<const T>() + begin[e] * width;
      for (int64_t i = 0; i < count; ++i) m[e] += static_cast<double>(from[i]);
      if (count > 0) m[e] /= static_cast<double>(count);
      used += count > 0 ? 1 : 0;
      mean += m[e];
    }
    mean /= std::max(1.0, used);
    const auto got = [&](int64_t e) { return begin[e + 1] > begin[e]; };
    for (int64_t e = 0; e < experts; ++e) var += got(e) ? (m[e] - mean) * (m[e] - mean) : 0;
    const double root = used > 1 ? std::sqrt(var / (used - 1) + 1e-4) : 1;
    for (int64_t e = 0; e < experts; ++e) {
      m[e] = used > 1 && root < 1 && got(e) ? -(m[e] - mean) / ((used - 1) * root) : 0;
    }
    loss.data<T>()[0] = static_cast<T>(std::max(0.0, 1 - root));
  });
  on.record("expert_spread_loss", {outputs}, loss, [=](const Tensor& dy, Tape& tape) {
    const Tensor to = tape.target_zeroed(outputs);
    engine::dispatch_cpu(dy, [&]<class T>(Cpu) {
      const auto seed = static_cast<double>(dy.data<const T>()[0]);
      for (int64_t e = 0; e < experts; ++e) {
        const int64_t count = (begin[e + 1] - begin[e]) * width;
        if (count == 0) continue;
        const double each = seed * slope.data<const double>()[e] / static_cast<double>(count);
        T* g = to.data<T>() + begin[e] * width;
        for (int64_t i = 0; i < count; ++i) g[i] += static_cast<T>(each);
      }
    });
  });
  return loss;
}

}  // namespace moe
