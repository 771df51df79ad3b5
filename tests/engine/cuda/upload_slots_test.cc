#include "engine/core/upload_slots.h"

#include <doctest/doctest.h>

#include <cstring>
#include <deque>

#include "engine/ops/normalise_bytes.h"
#include "tests/support/devices.h"

using namespace engine;
using namespace engine::test;

namespace {

constexpr int64_t kPixels = 5000;

std::vector<uint8_t> bytes_of(int64_t upload) {
  std::vector<uint8_t> bytes(static_cast<size_t>(kPixels));
  for (size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<uint8_t>(i * 7 + static_cast<size_t>(upload) * 31);
  }
  return bytes;
}

// Uploads that a kernel turns into floats, each into memory of its own, so that nothing but the
// slots orders anything; looked at when all have been started.
struct Uploads {
  void start(int64_t bytes = kPixels) {
    const std::vector<uint8_t> data = bytes_of(started++);
    std::memcpy(slots.stage(bytes), data.data(), data.size());
    slots.start();
  }
  void use() {
    auto* there = const_cast<void*>(slots.take());  // NOLINT: a view for reading
    results.emplace_back(Shape{1, 1, 1, kPixels}, Dtype::kF32, Device::kCuda);
    normalise_bytes({Tensor(there, {1, 1, 1, kPixels}, Dtype::kU8, Device::kCuda), flag.tensor(),
                     table.tensor(), Tensor{}},
                    results.back().tensor());
    slots.release();
  }
  int64_t wrong() const {
    int64_t count = 0;
    for (size_t n = 0; n < results.size(); ++n) {
      const std::vector<uint8_t> want = bytes_of(static_cast<int64_t>(n));
      const std::vector<float> got = download<float>(results[n]);
      for (size_t i = 0; i < want.size(); ++i) count += got[i] != static_cast<float>(want[i]);
    }
    return count;
  }
  static std::vector<float> identity() {
    std::vector<float> values;
    for (int i = 0; i < 256; ++i) values.push_back(static_cast<float>(i));
    return values;
  }

  UploadSlots slots;
  int64_t started = 0;
  Buffer flag = Buffer({1}, Dtype::kU8, Device::kCuda);
  Buffer table = upload(identity(), {1, 256}, Device::kCuda);
  std::deque<Buffer> results;
};

}  // namespace

TEST_CASE("cuda: uploads arrive before they are read, and stay until they were" *
          doctest::skip(!cuda_available())) {
  Uploads one;  // each started when it is needed
  for (int n = 0; n < 7; ++n) {
    one.start();
    one.use();
  }
  CHECK(one.wrong() == 0);
  Uploads ahead;  // one travels while the one before it is read
  ahead.start();
  for (int n = 0; n < 7; ++n) {
    ahead.start();
    CHECK(ahead.slots.waiting() == 2);
    ahead.use();
  }
  ahead.use();
  CHECK(ahead.slots.waiting() == 0);
  CHECK(ahead.wrong() == 0);
}

TEST_CASE("cuda: upload slots grow, and keep what is in the other" *
          doctest::skip(!cuda_available())) {
  Uploads uploads;
  uploads.start();
  for (int n = 1; n < 4; ++n) {
    uploads.start(kPixels * (n + 1));
    uploads.use();
  }
  uploads.use();
  CHECK(uploads.wrong() == 0);
}

TEST_CASE("cuda: upload slots refuse calls out of order" * doctest::skip(!cuda_available())) {
  UploadSlots slots;
  CHECK_THROWS_AS(slots.start(), Error);
  CHECK_THROWS_AS(slots.take(), Error);
  CHECK_THROWS_AS(slots.release(), Error);
  slots.stage(4);
  CHECK_THROWS_AS(slots.stage(4), Error);
  slots.start();
  slots.stage(4);
  slots.start();
  CHECK_THROWS_AS(slots.stage(4), Error);  // both are under way
  slots.take();
  CHECK_THROWS_AS(slots.take(), Error);
  slots.release();
  CHECK_NOTHROW(slots.stage(4));
}

TEST_CASE("upload slots are an error without a GPU" * doctest::skip(cuda_available())) {
  CHECK_THROWS_AS(UploadSlots{}, Error);
}
