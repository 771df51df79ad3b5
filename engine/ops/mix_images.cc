#include "engine/ops/mix_images.h"

#include "engine/core/device_memory.h"
#include "engine/ops/mix_images_kernels.h"

namespace engine {
namespace {

void check_mix(const ImageMix& mix, size_t n, const Shape& shape) {
  check(mix.partner >= 0 && mix.partner < shape[0], ErrorKind::kValue, "mix_images: image ", n,
        " has partner ", mix.partner, " of ", shape[0], " images");
  check(mix.own >= 0 && mix.own <= 1, ErrorKind::kValue, "mix_images: image ", n, " has weight ",
        mix.own, ", expected 0 to 1");
  check(mix.y >= 0 && mix.x >= 0 && mix.height >= 0 && mix.width >= 0 &&
            mix.y + mix.height <= shape[2] && mix.x + mix.width <= shape[3],
        ErrorKind::kValue, "mix_images: image ", n, " has a box of ", mix.height, "x", mix.width,
        " at ", mix.y, ",", mix.x, ", outside ", shape[2], "x", shape[3], " pixels");
}

}  // namespace

Tensor mix_images(const Tensor& x, std::span<const ImageMix> mixes, int64_t begin, int64_t end) {
  check(x.tape() != nullptr, ErrorKind::kValue, "mix_images: input is not on a tape");
  const Shape& shape = x.shape();
  check(shape.rank() == 4 && shape[0] == static_cast<int64_t>(mixes.size()), ErrorKind::kShape,
        "mix_images: expected images (N, C, H, W) and N mixes, got ", shape, " and ", mixes.size());
  check(begin >= 0 && begin <= end && end <= shape[0], ErrorKind::kValue, "mix_images: images ",
        begin, " to ", end, " of ", shape[0]);
  check(!x.tape()->wants_grad(x), ErrorKind::kValue,
        "mix_images: has no gradient, but its input wants one");
  for (size_t n = static_cast<size_t>(begin); n < static_cast<size_t>(end); ++n) {
    check_mix(mixes[n], n, shape);
  }
  Tensor y = x.tape()->arena().empty({end - begin, shape[1], shape[2], shape[3]}, x.dtype());
  const auto* drawn = static_cast<const ImageMix*>(
      to_device(x.tape()->arena(), mixes.data() + begin,
                (end - begin) * static_cast<int64_t>(sizeof(ImageMix))));
  dispatch(x, [&]<class T>(auto backend) {
    kernels::mix_images(backend, x.data<const T>(), drawn, y.data<T>(), begin, end,
                        {shape[1], shape[2], shape[3]});
  });
  x.tape()->record("mix_images", {x}, y, [](const Tensor&, Tape&) {});
  return y;
}

}  // namespace engine
