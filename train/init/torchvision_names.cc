#include "train/init/torchvision_names.h"

namespace train {
namespace {

using engine::Shape;

SourceTensor turned(const SourceTensor& t, bool to_ours) {
  const Shape& s = t.shape;
  if (s.rank() != 2 && s.rank() != 4) return t;
  // A matrix is a convolution of one tap, as far as this goes.
  const bool matrix = s.rank() == 2;
  const int64_t out_axis = to_ours ? 0 : s.rank() - 1, in_axis = to_ours ? 1 : s.rank() - 2;
  const int64_t n = s[static_cast<int>(out_axis)], c = s[static_cast<int>(in_axis)];
  const int64_t taps = n * c == 0 ? 0 : s.numel() / (n * c);
  const int64_t h = matrix ? 1 : s[to_ours ? 2 : 0], w = matrix ? 1 : s[to_ours ? 3 : 1];
  SourceTensor out{to_ours ? Shape{h, w, c, n} : Shape{n, c, h, w},
                   std::vector<float>(t.values.size())};
  if (matrix) out.shape = Shape{s[1], s[0]};
  for (int64_t o = 0; o < n; ++o) {
    for (int64_t i = 0; i < c; ++i) {
      for (int64_t p = 0; p < taps; ++p) {
        const auto there = static_cast<size_t>((o * c + i) * taps + p);
        const auto here = static_cast<size_t>((p * c + i) * n + o);
        out.values[to_ours ? here : there] = t.values[to_ours ? there : here];
      }
    }
  }
  return out;
}

SourceTensors all_turned(const SourceTensors& tensors, bool to_ours) {
  SourceTensors out;
  for (const auto& [name, tensor] : tensors) out[name] = turned(tensor, to_ours);
  return out;
}

}  // namespace

bool has_torchvision_layout(const SourceTensors& tensors) {
  // Its two numbers of channels always differ, so that it cannot look like both.
  const auto found = tensors.find("layer2.0.conv1.weight");
  if (found == tensors.end()) return false;
  const Shape& s = found->second.shape;
  return s.rank() == 4 && s[2] == s[3] && s[0] != s[1];
}

SourceTensors from_torchvision(const SourceTensors& tensors) { return all_turned(tensors, true); }
SourceTensors to_torchvision(const SourceTensors& ours) { return all_turned(ours, false); }

}  // namespace train
