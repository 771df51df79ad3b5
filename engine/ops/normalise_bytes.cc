#include "engine/ops/normalise_bytes.h"

#include "engine/ops/normalise_bytes_kernels.h"

namespace engine {
namespace {

void check_part(const char* name, const Tensor& x, const Shape& shape, Dtype dtype, Device device) {
  check(x.dtype() == dtype, ErrorKind::kDtype, "normalise_bytes: ", name, " are ", x.dtype(),
        ", expected ", dtype);
  check(x.shape() == shape, ErrorKind::kShape, "normalise_bytes: ", name, " ", x.shape(),
        ", expected ", shape);
  check(x.device() == device, ErrorKind::kDevice, "normalise_bytes: ", name, " on ",
        name_of(x.device()), ", the bytes on ", name_of(device));
}

}  // namespace

void normalise_bytes(const ByteImages& in, const Tensor& y) {
  const Shape& shape = in.bytes.shape();
  check(shape.rank() == 4, ErrorKind::kShape, "normalise_bytes: expected bytes (B, C, H, W), got ",
        shape);
  const Device device = in.bytes.device();
  check_part("bytes", in.bytes, shape, Dtype::kU8, device);
  check_part("mirror flags", in.mirrored, {shape[0]}, Dtype::kU8, device);
  check_part("tables", in.table, {shape[1], 256}, Dtype::kF32, device);
  check_part("results", y, shape, Dtype::kF32, device);
  const bool erases = in.erased.defined();
  if (erases) check_part("boxes", in.erased, {shape[0], 4}, Dtype::kI32, device);
  const kernels::ByteViews views{in.bytes.data<const uint8_t>(),
                                 in.mirrored.data<const uint8_t>(),
                                 in.table.data<const float>(),
                                 erases ? in.erased.data<const int32_t>() : nullptr,
                                 shape[0],
                                 shape[1],
                                 shape[2],
                                 shape[3]};
  dispatch_device(device,
                  [&](auto backend) { kernels::normalise_bytes(backend, views, y.data<float>()); });
}

}  // namespace engine
