#include "engine/ops/normalise_bytes.h"

#include <doctest/doctest.h>

#include "engine/core/rng.h"
#include "tests/support/bits.h"
#include "tests/support/devices.h"

using namespace engine;
using namespace engine::test;

namespace {

// Random images of a shape; `erases`: with boxes, empty ones and ones over the border among them.
struct Images {
  Images(const Shape& size, bool erases) : shape(size) {
    const RngKey key(3, Purpose::kTest);
    const auto any = [&](uint64_t kind, int64_t i, int64_t n) {
      return static_cast<int64_t>(
          key.with(kind).below(static_cast<uint64_t>(i), static_cast<uint64_t>(n)));
    };
    for (int64_t i = 0; i < shape.numel(); ++i) {
      bytes.push_back(static_cast<uint8_t>(any(1, i, 256)));
    }
    table = test_values<float>(7, shape[1] * 256, 3);
    for (int64_t b = 0; b < shape[0]; ++b) mirrored.push_back(static_cast<uint8_t>(any(2, b, 2)));
    for (int64_t b = 0; b < shape[0] && erases; ++b) {
      for (const int64_t n : {shape[2], shape[3], shape[2] + 2, shape[3] + 2}) {
        erased.push_back(static_cast<int32_t>(any(3, static_cast<int64_t>(erased.size()), n)));
      }
    }
  }
  // Written from the definition.
  std::vector<float> wanted() const {
    std::vector<float> y;
    for (int64_t b = 0; b < shape[0]; ++b) {
      for (int64_t c = 0; c < shape[1]; ++c) {
        for (int64_t h = 0; h < shape[2]; ++h) {
          for (int64_t w = 0; w < shape[3]; ++w) {
            const int64_t m = mirrored[b] != 0 ? shape[3] - 1 - w : w;
            const uint8_t byte = bytes[((b * shape[1] + c) * shape[2] + h) * shape[3] + m];
            const int32_t* box = erased.empty() ? nullptr : &erased[4 * b];
            const bool gone = box != nullptr && h >= box[0] && h < box[0] + box[2] && w >= box[1] &&
                              w < box[1] + box[3];
            y.push_back(gone ? 0 : table[c * 256 + byte]);
          }
        }
      }
    }
    return y;
  }
  // skip: bytes and floats that the arrays start after a multiple of 256 bytes.
  std::vector<float> got(Device device, int64_t skip = 0) const {
    std::vector<uint8_t> shifted(static_cast<size_t>(skip));
    shifted.insert(shifted.end(), bytes.begin(), bytes.end());
    const Buffer in = upload(shifted, device), flags = upload(mirrored, device),
                 values = upload(table, {shape[1], 256}, device);
    const Buffer boxes = upload(erased, device), y({skip + shape.numel()}, Dtype::kF32, device);
    const auto from = [&](const Buffer& x) {
      return x.tensor().rows(skip, skip + shape.numel()).viewed(shape);
    };
    normalise_bytes({from(in), flags.tensor(), values.tensor(),
                     erased.empty() ? Tensor{} : boxes.tensor().viewed({shape[0], 4})},
                    from(y));
    return download<float>(from(y));
  }

  Shape shape;
  std::vector<uint8_t> bytes, mirrored;
  std::vector<float> table;
  std::vector<int32_t> erased;
};

// Rows of whole accesses and not, planes of one block and of several.
void check_normalise_bytes(Device device) {
  for (const Shape& shape :
       {Shape{0, 3, 4, 4}, Shape{7, 1, 1, 1}, Shape{5, 3, 7, 5}, Shape{9, 3, 8, 8},
        Shape{4, 2, 6, 12}, Shape{3, 1, 33, 31}, Shape{2, 3, 67, 64}, Shape{2, 1, 63, 21}}) {
    CAPTURE(to_string(shape));
    for (const bool erases : {false, true}) {
      const Images images(shape, erases);
      CHECK(same_bits(images.got(device), images.wanted()));
      CHECK(same_bits(images.got(device, 4), images.wanted()));
      CHECK(same_bits(images.got(device, 1), images.wanted()));
    }
  }
}

}  // namespace

TEST_CASE("normalise_bytes: table, mirror and box, to the bit") {
  check_normalise_bytes(Device::kCpu);
}

TEST_CASE("cuda: normalise_bytes has the bits of its definition" *
          doctest::skip(!cuda_available())) {
  check_normalise_bytes(Device::kCuda);
}

TEST_CASE("normalise_bytes: same bits for any number of threads") {
  const Images images({64, 3, 40, 40}, true);
  const Threads one(1);
  const std::vector<float> want = images.got(Device::kCpu);
  for (const int threads : {2, 5}) {
    const Threads more(threads);
    CHECK(same_bits(images.got(Device::kCpu), want));
  }
}

TEST_CASE("normalise_bytes: tensors that do not fit are errors") {
  const Buffer bytes({2, 3, 4, 5}, Dtype::kU8), flags({2}, Dtype::kU8),
      table({3, 256}, Dtype::kF32), y({2, 3, 4, 5}, Dtype::kF32), boxes({2, 4}, Dtype::kI32);
  const auto kind = [&](ByteImages in, const Tensor& out) {
    try {
      normalise_bytes(in, out);
    } catch (const Error& error) {
      return error.kind();
    }
    return ErrorKind::kInternal;
  };
  const ByteImages good{bytes.tensor(), flags.tensor(), table.tensor(), boxes.tensor()};
  CHECK_NOTHROW(normalise_bytes(good, y.tensor()));
  ByteImages bad = good;
  bad.bytes = y.tensor();
  CHECK(kind(bad, y.tensor()) == ErrorKind::kDtype);
  CHECK(kind(good, bytes.tensor()) == ErrorKind::kDtype);
  CHECK(kind(good, y.tensor().rows(0, 1)) == ErrorKind::kShape);
  bad = good;
  bad.mirrored = flags.tensor().rows(0, 1);
  CHECK(kind(bad, y.tensor()) == ErrorKind::kShape);
  bad = good;
  bad.table = table.tensor().rows(0, 2);
  CHECK(kind(bad, y.tensor()) == ErrorKind::kShape);
  bad = good;
  bad.erased = boxes.tensor().viewed({4, 2});
  CHECK(kind(bad, y.tensor()) == ErrorKind::kShape);
  bad = good;
  bad.bytes = bytes.tensor().viewed({6, 4, 5});
  CHECK(kind(bad, y.tensor()) == ErrorKind::kShape);
}
