#include <algorithm>
#include <cmath>

#include "engine/core/parallel.h"
#include "engine/ops/cross_entropy_kernels.h"
#include "engine/ops/pointwise_kernels.h"

namespace engine::kernels {
namespace {

// The row's loss in f64; its gradient into slope.
template <class T>
double softmax_row(const T* x, int64_t label, T* slope, int64_t cols) {
  const double top = *std::max_element(x, x + cols);
  double sum = 0;
  for (int64_t c = 0; c < cols; ++c) sum += std::exp(static_cast<double>(x[c]) - top);
  for (int64_t c = 0; c < cols; ++c) {
    const double p = std::exp(static_cast<double>(x[c]) - top) / sum;
    slope[c] = static_cast<T>(p - (c == label ? 1.0 : 0.0));
  }
  return std::log(sum) + top - static_cast<double>(x[label]);
}

template <class T>
double sigmoid_row(const T* x, int64_t label, T* slope, int64_t cols) {
  double sum = 0;
  for (int64_t c = 0; c < cols; ++c) {
    const double v = x[c], target = c == label ? 1.0 : 0.0;
    const double e = std::exp(-std::fabs(v));
    sum += std::max(v, 0.0) + std::log1p(e) - target * v;
    slope[c] = static_cast<T>((v >= 0 ? 1 / (1 + e) : e / (1 + e)) - target);
  }
  return sum;
}

template <class T>
double soft_softmax_row(const T* x, const T* target, T* slope, int64_t cols) {
  const double top = *std::max_element(x, x + cols);
  double sum = 0, mass = 0, along = 0;
  for (int64_t c = 0; c < cols; ++c) {
    sum += std::exp(static_cast<double>(x[c]) - top);
    mass += static_cast<double>(target[c]);
    along += static_cast<double>(target[c]) * static_cast<double>(x[c]);
  }
  for (int64_t c = 0; c < cols; ++c) {
    const double p = std::exp(static_cast<double>(x[c]) - top) / sum;
    slope[c] = static_cast<T>(p * mass - static_cast<double>(target[c]));
  }
  return mass * (std::log(sum) + top) - along;
}

template <class T>
double soft_sigmoid_row(const T* x, const T* target, T* slope, int64_t cols) {
  double sum = 0;
  for (int64_t c = 0; c < cols; ++c) {
    const double v = x[c], t = target[c], e = std::exp(-std::fabs(v));
    sum += std::max(v, 0.0) + std::log1p(e) - t * v;
    slope[c] = static_cast<T>((v >= 0 ? 1 / (1 + e) : e / (1 + e)) - t);
  }
  return sum;
}

}  // namespace

template <class T>
void soft_cross_entropy_forward(Cpu, const T* logits, const T* targets, double* row_loss,
                                T* dlogits, RowsCols size, CrossEntropy kind) {
  parallel_for(size.rows, rows_per_grain(8 * size.cols), [=](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const T *x = logits + r * size.cols, *t = targets + r * size.cols;
      T* slope = dlogits + r * size.cols;
      row_loss[r] = kind == CrossEntropy::kSoftmax ? soft_softmax_row(x, t, slope, size.cols)
                                                   : soft_sigmoid_row(x, t, slope, size.cols);
    }
  });
}

template void soft_cross_entropy_forward(Cpu, const float*, const float*, double*, float*, RowsCols,
                                         CrossEntropy);
template void soft_cross_entropy_forward(Cpu, const double*, const double*, double*, double*,
                                         RowsCols, CrossEntropy);

template <class T>
void cross_entropy_forward(Cpu, const T* logits, const int32_t* labels, double* row_loss,
                           T* dlogits, RowsCols size, CrossEntropy kind) {
  parallel_for(size.rows, rows_per_grain(8 * size.cols), [=](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const T* x = logits + r * size.cols;
      T* slope = dlogits + r * size.cols;
      row_loss[r] = kind == CrossEntropy::kSoftmax ? softmax_row(x, labels[r], slope, size.cols)
                                                   : sigmoid_row(x, labels[r], slope, size.cols);
    }
  });
}

template void cross_entropy_forward(Cpu, const float*, const int32_t*, double*, float*, RowsCols,
                                    CrossEntropy);
template void cross_entropy_forward(Cpu, const double*, const int32_t*, double*, double*, RowsCols,
                                    CrossEntropy);

template <class T>
void sum_losses(Cpu, const double* row_loss, int64_t rows, double denominator, T* loss) {
  double sum = 0;
  for (int64_t r = 0; r < rows; ++r) sum += row_loss[r];
  *loss = static_cast<T>(sum / denominator);
}

template void sum_losses(Cpu, const double*, int64_t, double, float*);
template void sum_losses(Cpu, const double*, int64_t, double, double*);

template <class T>
void cross_entropy_backward(Cpu cpu, const T* slope, const T* dloss, double denominator, T* dlogits,
                            RowsCols size, GradWrite write) {
  const double factor = static_cast<double>(*dloss) / denominator;
  put_scaled(cpu, slope, static_cast<T>(factor), dlogits, size.rows * size.cols, write);
}

template void cross_entropy_backward(Cpu, const float*, const float*, double, float*, RowsCols,
                                     GradWrite);
template void cross_entropy_backward(Cpu, const double*, const double*, double, double*, RowsCols,
                                     GradWrite);

}  // namespace engine::kernels
