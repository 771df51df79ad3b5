#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "tests/reference/naive_vmoe.h"

// The dense half of naive_vmoe.cc, which knows nothing of experts: softmax, GELU, Linear,
// LayerNorm, Attention, Mlp and the classification loss, each with its backward under its forward.
// A layer keeps what its backward needs; backward ADDS to the gradients of the parameters and
// returns the gradient of the input. Sizes are those of the glossary in naive_vmoe.h; R is a number
// of rows.
namespace naive {

inline constexpr double kLayerNormEps = 1e-6;

inline void require(bool ok, const std::string& what) {
  if (!ok) throw std::invalid_argument("naive_vmoe: " + what);
}

inline int64_t length(const Vec& v) { return static_cast<int64_t>(v.size()); }

inline void add(double* to, const Vec& from, double factor = 1) {
  for (size_t i = 0; i < from.size(); ++i) to[i] += factor * from[i];
}

inline void add(Vec& to, const Vec& from) { add(to.data(), from); }

inline Vec slice(const Vec& v, int64_t begin, int64_t count) {
  return Vec(v.begin() + begin, v.begin() + begin + count);
}

// Mean and population variance.
inline std::pair<double, double> moments(const Vec& v) {
  const auto n = static_cast<double>(v.size());
  double mean = 0, variance = 0;
  for (const double x : v) mean += x / n;
  for (const double x : v) variance += (x - mean) * (x - mean) / n;
  return {mean, variance};
}

// Softmax of every row of (rows, n); the largest entry is subtracted so that exp cannot overflow.
inline Vec softmax(Vec x, int64_t n) {
  for (int64_t r = 0; r < length(x); r += n) {
    double* row = &x[r];
    const double largest = *std::max_element(row, row + n);
    double sum = 0;
    for (int64_t i = 0; i < n; ++i) sum += row[i] = std::exp(row[i] - largest);
    for (int64_t i = 0; i < n; ++i) row[i] /= sum;
  }
  return x;
}

// Jacobian of softmax: dp_i/dx_j = p_i (1[i=j] - p_j), so dx_j = p_j (dp_j - sum_i p_i dp_i).
inline Vec softmax_backward(const Vec& p, const Vec& dp, int64_t n) {
  Vec dx(p.size());
  for (int64_t r = 0; r < length(p); r += n) {
    double dot = 0;
    for (int64_t i = 0; i < n; ++i) dot += p[r + i] * dp[r + i];
    for (int64_t i = 0; i < n; ++i) dx[r + i] = p[r + i] * (dp[r + i] - dot);
  }
  return dx;
}

// Standard normal: density and P(Z > x). erfc keeps the tail where 1 - cdf would be 0.
inline double normal_density(double x) { return std::exp(-0.5 * x * x) / std::sqrt(2 * M_PI); }
inline double normal_tail(double x) { return 0.5 * std::erfc(x / std::sqrt(2.0)); }

// GELU is x P(Z < x). The tanh form approximates P(Z < x) by (1 + tanh(u)) / 2 with
// u = sqrt(2/pi) (x + 0.044715 x^3).
inline double gelu(Gelu kind, double x) {
  if (kind == Gelu::kErf) return x * normal_tail(-x);
  const double u = std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x);
  return 0.5 * x * (1 + std::tanh(u));
}

inline double gelu_grad(Gelu kind, double x) {
  if (kind == Gelu::kErf) return normal_tail(-x) + x * normal_density(x);
  const double u = std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x);
  const double du = std::sqrt(2 / M_PI) * (1 + 3 * 0.044715 * x * x);
  const double t = std::tanh(u);
  return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * du;
}

// Where the value of a parameter is, and where its gradient is added.
struct Param {
  const double* value = nullptr;
  double* grad = nullptr;

  Param at(int64_t offset) const { return {value + offset, grad + offset}; }
};

// y (R, out) = x (R, in) weight (in, out) + bias (out); a bias without a value is left out.
struct Linear {
  Param weight, bias;
  int64_t in, out;
  Vec x = {};

  Vec forward(const Vec& input) {
    x = input;
    const int64_t rows = length(x) / in;
    Vec y(rows * out, 0);
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t o = 0; o < out && bias.value; ++o) y[r * out + o] = bias.value[o];
      for (int64_t i = 0; i < in; ++i) {
        for (int64_t o = 0; o < out; ++o) {
          y[r * out + o] += x[r * in + i] * weight.value[i * out + o];
        }
      }
    }
    return y;
  }

  // dx = dy weight^T, dweight = x^T dy, dbias = sum of the rows of dy.
  Vec backward(const Vec& dy) {
    const int64_t rows = length(x) / in;
    Vec dx(x.size(), 0);
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t o = 0; o < out && bias.value; ++o) bias.grad[o] += dy[r * out + o];
      for (int64_t i = 0; i < in; ++i) {
        for (int64_t o = 0; o < out; ++o) {
          dx[r * in + i] += dy[r * out + o] * weight.value[i * out + o];
          weight.grad[i * out + o] += x[r * in + i] * dy[r * out + o];
        }
      }
    }
    return dx;
  }
};

// y = scale * n + bias with n = (x - mean) / sqrt(variance + eps), per row of W entries.
struct LayerNorm {
  Param scale, bias;
  int64_t width;
  Vec normed = {}, inverse_std = {};

  Vec forward(const Vec& x) {
    normed.assign(x.size(), 0);
    inverse_std.clear();
    Vec y(x.size());
    for (int64_t r = 0; r < length(x); r += width) {
      const auto [mean, variance] = moments(slice(x, r, width));
      inverse_std.push_back(1 / std::sqrt(variance + kLayerNormEps));
      for (int64_t i = 0; i < width; ++i) {
        normed[r + i] = (x[r + i] - mean) * inverse_std.back();
        y[r + i] = scale.value[i] * normed[r + i] + bias.value[i];
      }
    }
    return y;
  }

  // With g = scale * dy:  dx = (g - mean(g) - n mean(g n)) / std. The two means are what x loses
  // because shifting or stretching a whole row changes nothing.
  Vec backward(const Vec& dy) {
    Vec dx(dy.size());
    for (int64_t r = 0; r < length(dy); r += width) {
      double mean_g = 0, mean_gn = 0;
      for (int64_t i = 0; i < width; ++i) {
        const double g = scale.value[i] * dy[r + i];
        mean_g += g / static_cast<double>(width);
        mean_gn += g * normed[r + i] / static_cast<double>(width);
        scale.grad[i] += dy[r + i] * normed[r + i];
        bias.grad[i] += dy[r + i];
      }
      for (int64_t i = 0; i < width; ++i) {
        const double g = scale.value[i] * dy[r + i];
        dx[r + i] = (g - mean_g - normed[r + i] * mean_gn) * inverse_std[r / width];
      }
    }
    return dx;
  }
};

// Per image and head: y = softmax(q k^T / sqrt(D)) v; the heads side by side go through `out`.
struct Attention {
  Linear qkv, out;  // (W, 3W) with columns (3, H, D), and (W, W)
  int64_t tokens, heads;
  Vec packed = {}, probs = {};  // (N, 3W), (B, H, T, T)

  // For every query t, key s and feature d of a head calls body with the indices of
  //   p: entry (b, h, t, s) of probs      o: entry (b, t, h, d) of the heads' output (N, W)
  //   q, k, v: query of t, key and value of s in packed
  template <class Body>
  void for_each(Body body) const {
    const int64_t W = out.in, D = W / heads, images = length(packed) / (tokens * 3 * W);
    for (int64_t bh = 0; bh < images * heads; ++bh) {
      const int64_t first = bh / heads * tokens, column = bh % heads * D;
      for (int64_t t = 0; t < tokens; ++t) {
        for (int64_t s = 0; s < tokens; ++s) {
          for (int64_t c = column; c < column + D; ++c) {
            const int64_t q = (first + t) * 3 * W + c, k = (first + s) * 3 * W + W + c;
            body((bh * tokens + t) * tokens + s, (first + t) * W + c, q, k, k + W);
          }
        }
      }
    }
  }
  double scale() const {
    const int64_t D = out.in / heads;
    return 1 / std::sqrt(static_cast<double>(D));
  }

  Vec forward(const Vec& x) {
    packed = qkv.forward(x);
    Vec scores(length(x) / out.in * heads * tokens, 0), mixed(x.size(), 0);
    for_each([&](int64_t p, int64_t, int64_t q, int64_t k, int64_t) {
      scores[p] += packed[q] * packed[k] * scale();
    });
    probs = softmax(scores, tokens);
    for_each([&](int64_t p, int64_t o, int64_t, int64_t, int64_t v) {
      mixed[o] += probs[p] * packed[v];
    });
    return out.forward(mixed);
  }

  Vec backward(const Vec& dy) {
    const Vec dmixed = out.backward(dy);
    Vec dprobs(probs.size(), 0), dpacked(packed.size(), 0);
    for_each([&](int64_t p, int64_t o, int64_t, int64_t, int64_t v) {
      dprobs[p] += dmixed[o] * packed[v];
      dpacked[v] += dmixed[o] * probs[p];
    });
    const Vec dscores = softmax_backward(probs, dprobs, tokens);
    for_each([&](int64_t p, int64_t, int64_t q, int64_t k, int64_t) {
      dpacked[q] += dscores[p] * packed[k] * scale();
      dpacked[k] += dscores[p] * packed[q] * scale();
    });
    return qkv.backward(dpacked);
  }
};

// y = (mask * gelu(x up + up_bias)) down + down_bias; an empty mask keeps everything.
struct Mlp {
  Linear up, down;  // (W, M), (M, W)
  Gelu kind;
  Vec pre = {}, mask = {};  // (R, M)

  Vec forward(const Vec& x, const Vec& dropout = {}) {
    pre = up.forward(x);
    mask = dropout.empty() ? Vec(pre.size(), 1) : dropout;
    Vec a(pre.size());
    for (size_t i = 0; i < a.size(); ++i) a[i] = mask[i] * gelu(kind, pre[i]);
    return down.forward(a);
  }

  Vec backward(const Vec& dy) {
    Vec da = down.backward(dy);
    for (size_t i = 0; i < da.size(); ++i) da[i] *= mask[i] * gelu_grad(kind, pre[i]);
    return up.backward(da);
  }
};

// (B, C, H, W) to (B * patches, patch * patch * C): the patches row by row over the grid; within a
// patch the row, then the column, then the channel, as in the kernel of a convolution.
inline Vec patchify(const Config& c, const Vec& images) {
  const int64_t side = c.image, p = c.patch, grid = side / p, count = grid * grid;
  Vec rows(images.size());
  for (int64_t i = 0; i < length(images); ++i) {
    const int64_t x = i % side, y = i / side % side, channel = i / (side * side) % c.channels;
    const int64_t b = i / (side * side * c.channels);
    const int64_t row = b * count + y / p * grid + x / p;
    rows[((row * p + y % p) * p + x % p) * c.channels + channel] = images[i];
  }
  return rows;
}

struct Loss {
  double value = 0;
  Vec dlogits;
};

// Mean over images of
//   softmax: -log p_y                                    gradient p - onehot
//   sigmoid: sum_c log(1 + exp(z_c)) - z_y               gradient sigmoid(z) - onehot
// The second is -log sigmoid(z_y) - sum_{c != y} log(1 - sigmoid(z_c)).
inline Loss cross_entropy(XentKind kind, const Vec& logits, const Indices& labels,
                          int64_t classes) {
  const auto images = static_cast<double>(labels.size());
  Loss loss{0, Vec(logits.size())};
  const Vec p = softmax(logits, classes);
  for (size_t b = 0; b < labels.size(); ++b) {
    require(labels[b] >= 0 && labels[b] < classes, "a label is not a class");
    const double* z = &logits[b * classes];
    const double largest = *std::max_element(z, z + classes);
    double sum = 0;
    for (int64_t c = 0; c < classes; ++c) {
      double& dz = loss.dlogits[b * classes + c];
      if (kind == XentKind::kSoftmax) {
        sum += std::exp(z[c] - largest);
        dz = p[b * classes + c];
      } else {
        loss.value += (std::max(z[c], 0.0) + std::log1p(std::exp(-std::abs(z[c])))) / images;
        dz = 1 / (1 + std::exp(-z[c]));
      }
      dz = (dz - (c == labels[b] ? 1 : 0)) / images;
    }
    if (kind == XentKind::kSoftmax) loss.value += (largest + std::log(sum)) / images;
    loss.value -= z[labels[b]] / images;
  }
  return loss;
}

}  // namespace naive
