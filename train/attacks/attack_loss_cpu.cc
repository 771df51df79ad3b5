#include "train/attacks/attack_loss_kernels.h"

namespace train::kernels {

template <class T>
void dlr_forward(Cpu, const T* logits, const int32_t* labels, const int32_t* targets, RowsCols size,
                 T* loss) {
  double sum = 0;
  for (int64_t i = 0; i < size.rows; ++i) {
    const T* z = logits + i * size.cols;
    const Ratio r = ratio_of(z, size.cols, labels[i], targets != nullptr ? targets[i] : -1);
    sum += r.above(z) / r.below(z);
  }
  loss[0] = static_cast<T>(sum);
}

template <class T>
void dlr_backward(Cpu, const T* logits, const int32_t* labels, const int32_t* targets,
                  RowsCols size, const T* dy, T* dlogits) {
  const auto seed = static_cast<double>(dy[0]);
  for (int64_t i = 0; i < size.rows; ++i) {
    const T* z = logits + i * size.cols;
    const Ratio r = ratio_of(z, size.cols, labels[i], targets != nullptr ? targets[i] : -1);
    add_dlr_slopes(z, r, seed, dlogits + i * size.cols);
  }
}

template void dlr_forward(Cpu, const float*, const int32_t*, const int32_t*, RowsCols, float*);
template void dlr_forward(Cpu, const double*, const int32_t*, const int32_t*, RowsCols, double*);
template void dlr_backward(Cpu, const float*, const int32_t*, const int32_t*, RowsCols,
                           const float*, float*);
template void dlr_backward(Cpu, const double*, const int32_t*, const int32_t*, RowsCols,
                           const double*, double*);

}  // namespace train::kernels
