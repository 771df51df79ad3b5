#include "data/loader.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <thread>

#include "data/dataset.h"
#include "data/memory_dataset.h"
#include "data/sample_order.h"
#include "tests/data/temp_folder.h"
#include "tests/support/heap_counter.h"

using data::Batch;
using data::Crop;
using data::Dataset;
using data::Loader;
using data::LoaderOptions;
using data::open_dataset;
using data::SampleOrder;
using data::Split;
using data::test::Caught;
using data::test::error_of;
using engine::ErrorKind;
using engine::test::HeapCounter;

namespace {

LoaderOptions two_view_options() {
  LoaderOptions options;
  options.image_size = 32;
  options.batch = 13;
  options.two_view = true;
  options.view_a.crop = options.view_b.crop = Crop::kInception;
  options.view_a.flip = options.view_b.flip = true;
  options.seed = 9;
  return options;
}

// With RandAugment, another dialect for each view.
LoaderOptions augmented_options() {
  LoaderOptions options = two_view_options();
  options.view_a.randaugment = {data::RandAugmentDialect::kVmoe, 3, 10};
  options.view_b.randaugment = {data::RandAugmentDialect::kPrc, 2, 15};
  return options;
}

bool same_bits(const Batch& a, const Batch& b) {
  return a.step == b.step && a.sources == b.sources && a.views == b.views && a.labels == b.labels &&
         a.match == b.match && a.samples == b.samples && a.pixels.size() == b.pixels.size() &&
         std::memcmp(a.pixels.data(), b.pixels.data(), a.pixels.size() * sizeof(float)) == 0;
}

// A batch of bytes as one of pixels, by the definition.
Batch with_pixels(Batch batch, int64_t channels, int64_t size) {
  const int64_t plane = size * size;
  for (int64_t i = 0; i < batch.views * channels * plane; ++i) {
    const int64_t view = i / plane / channels, c = i / plane % channels, y = i % plane / size,
                  x = i % size;
    const int64_t from = batch.mirrored[view] != 0 ? size - 1 - x : x;
    float value = batch.table[c * 256 + batch.bytes[i - x + from]];
    if (!batch.erased.empty()) {
      const data::ErasedBox& box = batch.erased[view];
      const bool inside =
          y >= box.top && y < box.top + box.height && x >= box.left && x < box.left + box.width;
      if (inside) value = 0;
    }
    batch.pixels.push_back(value);
  }
  return batch;
}

std::vector<Batch> take(Loader&& loader, int64_t n) {
  std::vector<Batch> batches;
  for (int64_t i = 0; i < n; ++i) batches.push_back(*loader.next());
  return batches;
}

// Pictures of one colour, the index; label index mod 10.
data::MemoryDataset counting_set(int64_t n, int64_t side) {
  data::Info info{"counting", 1, side, side, 10, {}};
  std::vector<uint8_t> pixels;
  std::vector<int32_t> labels;
  for (int64_t i = 0; i < n; ++i) {
    pixels.insert(pixels.end(), static_cast<size_t>(side * side), static_cast<uint8_t>(i));
    labels.push_back(static_cast<int32_t>(i % 10));
  }
  return {info, pixels, labels};
}

// Fails at one picture, and takes its time.
class FailingSet final : public Dataset {
 public:
  explicit FailingSet(int64_t bad) : set_(counting_set(100, 4)), bad_(bad) {}
  const data::Info& info() const override { return set_.info(); }
  int64_t size() const override { return set_.size(); }
  int64_t label(int64_t i) const override { return set_.label(i); }
  void read(int64_t i, data::ImageU8& out) const override {
    if (i == bad_) engine::fail(ErrorKind::kFormat, "picture ", i, " is bad");
    std::this_thread::sleep_for(std::chrono::microseconds(50));
    set_.read(i, out);
  }

 private:
  data::MemoryDataset set_;
  int64_t bad_;
};

}  // namespace

TEST_CASE("sample order: each epoch is a permutation of its own") {
  SampleOrder order(101, SampleOrder::Kind::kShuffled, 3);
  std::vector<int64_t> samples(303);
  order.fill(0, 303, samples.data());
  std::vector<int64_t> epoch[3];
  for (int e = 0; e < 3; ++e) {
    epoch[e].assign(samples.begin() + e * 101, samples.begin() + (e + 1) * 101);
    std::vector<int64_t> sorted = epoch[e];
    std::sort(sorted.begin(), sorted.end());
    for (int64_t i = 0; i < 101; ++i) CHECK(sorted[i] == i);
    CHECK(sorted != epoch[e]);
  }
  CHECK(epoch[0] != epoch[1]);
  CHECK(epoch[1] != epoch[2]);
  std::vector<int64_t> part(20);
  SampleOrder(101, SampleOrder::Kind::kShuffled, 3).fill(195, 20, part.data());
  CHECK(std::equal(part.begin(), part.end(), samples.begin() + 195));
  SampleOrder(101, SampleOrder::Kind::kShuffled, 4).fill(195, 20, part.data());
  CHECK_FALSE(std::equal(part.begin(), part.end(), samples.begin() + 195));
}

TEST_CASE("loader: same bits for 0, 1 and 4 workers, any prefetch") {
  const auto set = open_dataset("shapes:train=50", Split::kTrain);
  for (const char* what : {"two views", "one view", "augmented", "one augmented"}) {
    const bool augmented = std::strstr(what, "augmented") != nullptr;
    LoaderOptions options = augmented ? augmented_options() : two_view_options();
    options.two_view = std::strstr(what, "one") == nullptr;
    options.workers = 0;
    const auto want = take(Loader(*set, options), 12);  // three epochs
    for (const int64_t workers : {1, 4}) {
      for (const int64_t prefetch : {1, 3, 7}) {
        options.workers = workers;
        options.prefetch = prefetch;
        const auto got = take(Loader(*set, options), 12);
        for (size_t i = 0; i < want.size(); ++i) CHECK(same_bits(want[i], got[i]));
      }
    }
  }
}

TEST_CASE("loader: same bits when started at step 7, other bits for another seed") {
  const auto set = open_dataset("shapes:train=50", Split::kTrain);
  LoaderOptions options = augmented_options();
  const auto want = take(Loader(*set, options), 12);
  for (const int64_t workers : {0, 2}) {
    options.workers = workers;
    const auto got = take(Loader(*set, options, 7), 5);
    for (size_t i = 0; i < got.size(); ++i) {
      CHECK(got[i].step == 7 + static_cast<int64_t>(i));
      CHECK(same_bits(want[7 + i], got[i]));
    }
  }
  options.seed = 10;
  CHECK_FALSE(same_bits(want[0], take(Loader(*set, options), 1)[0]));
}

TEST_CASE("loader: a training stream goes through every epoch once") {
  const auto set = counting_set(20, 4);
  LoaderOptions options;
  options.image_size = 4;
  options.batch = 8;
  options.low = 0, options.high = 255;
  const auto batches = take(Loader(set, options), 5);  // 40 positions, two epochs
  std::vector<int64_t> seen;
  for (const Batch& batch : batches) {
    CHECK(batch.sources == 8);
    CHECK(batch.views == 8);
    CHECK(batch.match.empty());
    for (int64_t i = 0; i < 8; ++i) {
      seen.push_back(batch.samples[i]);
      CHECK(batch.labels[i] == batch.samples[i] % 10);
      CHECK(batch.pixels[i * 16 + 7] == doctest::Approx(batch.samples[i]));
    }
  }
  for (int64_t i = 0; i < 20; ++i) {
    CHECK(std::count(seen.begin(), seen.begin() + 20, i) == 1);
    CHECK(std::count(seen.begin() + 20, seen.end(), i) == 1);
  }
  options.limit = 3;  // the first three images only, a batch holds several epochs
  const Batch limited = take(Loader(set, options), 2)[1];
  for (const int64_t sample : limited.samples) CHECK(sample < 3);
  options.shuffle = false;
  CHECK(take(Loader(set, options), 1)[0].samples == std::vector<int64_t>{0, 1, 2, 0, 1, 2, 0, 1});
}

TEST_CASE("loader: repeated images are neighbours in crops of their own") {
  const auto set = open_dataset("shapes:size=32,train=50,test=10", Split::kTrain);
  LoaderOptions options = two_view_options();
  options.batch = 10;
  const std::vector<Batch> plain = take(Loader(*set, options), 10);
  options.repeats = 4;
  const std::vector<Batch> batches = take(Loader(*set, options), 20);
  std::vector<int64_t> straight, seen;
  for (const Batch& batch : plain) {
    straight.insert(straight.end(), batch.samples.begin(), batch.samples.end());
  }
  for (const Batch& batch : batches) {
    seen.insert(seen.end(), batch.samples.begin(), batch.samples.end());
  }
  // Each image of the straight order four times, over the borders of batches and epochs.
  for (size_t i = 0; i < seen.size(); ++i) CHECK(seen[i] == straight[i / 4]);
  const size_t view = 3 * 32 * 32, pair = 2 * view;
  CHECK(std::memcmp(batches[0].pixels.data(), batches[0].pixels.data() + pair,
                    view * sizeof(float)) != 0);
  for (const int64_t step : {1, 7}) {
    Loader later(*set, options, step);
    CHECK(same_bits(*later.next(), batches[static_cast<size_t>(step)]));
  }
  options.repeats = 0;
  CHECK(error_of([&] { Loader(*set, options); }).has("repeats 0, expected 1 or more"));
}

TEST_CASE("loader: jitter and erasing change views, and nothing else") {
  const auto set = open_dataset("shapes:size=32,train=50,test=10", Split::kTrain);
  LoaderOptions options = two_view_options();
  const Batch plain = take(Loader(*set, options), 1)[0];
  options.view_a.jitter = options.view_b.jitter = {0.4, 0.4, 0.4, 0.1};
  const Batch jittered = take(Loader(*set, options), 1)[0];
  CHECK(jittered.pixels != plain.pixels);
  CHECK(jittered.match == plain.match);
  CHECK(jittered.samples == plain.samples);
  options.view_a.jitter = options.view_b.jitter = {};
  options.view_a.erasing = options.view_b.erasing = 1;
  const Batch erased = take(Loader(*set, options), 1)[0];
  CHECK(erased.match == plain.match);
  int64_t zeros = 0, other = 0;
  for (size_t i = 0; i < plain.pixels.size(); ++i) {
    zeros += erased.pixels[i] == 0;
    other += erased.pixels[i] != 0 && erased.pixels[i] != plain.pixels[i];
  }
  CHECK(other == 0);
  const auto all = static_cast<double>(plain.pixels.size());
  CHECK(static_cast<double>(zeros) == doctest::Approx(0.17 * all).epsilon(0.3));
  options.view_a.erasing = 2;
  CHECK(error_of([&] { Loader(*set, options); }).has("erasing 2, expected 0 to 1"));
  options.view_a.erasing = 0;
  options.view_a.jitter.hue = 0.6;
  CHECK(error_of([&] { Loader(*set, options); }).has("the last at most 0.5"));
}

TEST_CASE("loader: an evaluation stream holds each image once, in order") {
  const auto set = counting_set(20, 4);
  LoaderOptions options;
  options.image_size = 4;
  options.batch = 8;
  for (const int64_t workers : {0, 1, 3}) {
    options.workers = workers;
    Loader loader = Loader::evaluation(set, options);
    std::vector<int64_t> seen;
    for (const int64_t n : {8, 8, 4}) {
      const Batch* batch = loader.next();
      REQUIRE(batch != nullptr);
      CHECK(batch->sources == n);
      CHECK(batch->labels.size() == static_cast<size_t>(n));
      CHECK(batch->pixels.size() == static_cast<size_t>(n * 16));
      seen.insert(seen.end(), batch->samples.begin(), batch->samples.end());
    }
    CHECK(loader.next() == nullptr);
    CHECK(loader.next() == nullptr);
    for (int64_t i = 0; i < 20; ++i) CHECK(seen[i] == i);
  }
}

TEST_CASE("loader: views of a pair are neighbours, in order, with their matches") {
  const auto set = open_dataset("shapes:train=50", Split::kTrain);
  LoaderOptions options = two_view_options();
  options.view_a.area_min = 0.05, options.view_a.area_max = 0.3;
  options.view_b.area_min = 0.9;
  options.view_a.flip = options.view_b.flip = false;
  const Batch batch = take(Loader(*set, options), 1)[0];
  CHECK(batch.views == 26);
  CHECK(batch.match.size() == 13 * 64);
  int64_t matched = 0;
  for (int64_t i = 0; i < 13; ++i) {
    CHECK(batch.labels[2 * i] == set->label(batch.samples[i]));
    CHECK(batch.labels[2 * i + 1] == batch.labels[2 * i]);
  }
  for (const int32_t m : batch.match) matched += m >= 0;
  // View 1 is the small crop; nearly all of its patches are in the large one.
  CHECK(matched > 13 * 64 * 8 / 10);
  // Matched patches show the same thing: their mean colours agree.
  double same = 0, other = 0;
  const auto mean = [&](int64_t view, int64_t patch) {
    double sum = 0;
    for (int64_t p = 0; p < 3 * 16; ++p) {
      const int64_t y = patch / 8 * 4 + p % 16 / 4, x = patch % 8 * 4 + p % 4;
      sum += static_cast<double>(batch.pixels[((view * 3 + p / 16) * 32 + y) * 32 + x]);
    }
    return sum / 48;
  };
  for (int64_t i = 0; i < 13 * 64; ++i) {
    if (batch.match[i] < 0) continue;
    const double here = mean(i / 64 * 2, i % 64);
    same += std::abs(here - mean(i / 64 * 2 + 1, batch.match[i]));
    other += std::abs(here - mean(i / 64 * 2 + 1, (batch.match[i] + 29) % 64));
  }
  CHECK(same < 0.7 * other);
}

TEST_CASE("loader: RandAugment changes the views of a batch and takes the matches along") {
  const auto set = open_dataset("shapes:train=50", Split::kTrain);
  LoaderOptions options = two_view_options();
  options.batch = 50;
  const Batch plain = take(Loader(*set, options), 1)[0];
  options.view_a.randaugment = options.view_b.randaugment = {data::RandAugmentDialect::kPrc, 2, 3};
  const Batch augmented = take(Loader(*set, options), 1)[0];
  CHECK(plain.labels == augmented.labels);
  const size_t view = plain.pixels.size() / 100, grid = plain.match.size() / 50;
  int changed = 0, moved = 0;
  for (size_t v = 0; v < 100; ++v) {
    changed += std::memcmp(&plain.pixels[v * view], &augmented.pixels[v * view],
                           view * sizeof(float)) != 0;
  }
  for (size_t i = 0; i < 50; ++i) {
    moved += !std::equal(&plain.match[i * grid], &plain.match[(i + 1) * grid],
                         &augmented.match[i * grid]);
  }
  CHECK(changed > 70);
  CHECK(moved > 20);  // a pair without a geometric operation has (12/17)^4 = 25 %
  CHECK(moved < 50);
}

TEST_CASE("loader: the padded crop shifts the picture and shows black beyond it") {
  const auto set = counting_set(200, 8);
  LoaderOptions options;
  options.image_size = 8;
  options.low = 0, options.high = 255;
  options.batch = 100;
  options.view_a.crop = Crop::kPad;
  options.view_a.pad = 2;
  const Batch batch = take(Loader(set, options), 1)[0];
  int64_t black = 0;
  for (int64_t i = 0; i < 100; ++i) {
    CHECK(batch.pixels[i * 64 + 27] == doctest::Approx(batch.samples[i]));
    if (batch.samples[i] == 0) continue;
    for (int64_t p = 0; p < 64; ++p) black += batch.pixels[i * 64 + p] == 0.0f;
  }
  CHECK(black > 100 * 64 / 5);  // E[share] = 1 - (1 - 1.2/8)^2 = 0.28
  CHECK(black < 100 * 64 * 2 / 5);
}

TEST_CASE("loader: bytes, mirrored, looked up and erased, are the pixels to the bit") {
  const auto set = open_dataset("shapes:size=32,train=30,test=10", Split::kTrain);
  int64_t mirrored = 0, erased = 0;
  for (const Crop crop : {Crop::kNone, Crop::kInception, Crop::kPad}) {
    for (const char* what : {"plain", "flip", "randaugment", "jitter", "erasing", "one view"}) {
      CAPTURE(what);
      const auto is = [what](const char* name) { return std::strcmp(what, name) == 0; };
      for (const int64_t size : {32, 20, 35}) {
        LoaderOptions options = is("randaugment") ? augmented_options() : two_view_options();
        options.image_size = size;
        options.patch = size == 32 ? 4 : 5;
        options.two_view = !is("one view");
        options.view_a.crop = crop;
        options.view_a.flip = !is("plain");
        if (is("jitter")) options.view_a.jitter = {0.4, 0.4, 0.4, 0.1};
        if (is("erasing")) options.view_a.erasing = 0.7;
        if (size == 20) options.mean = {0.4f, 0.5f, 0.6f}, options.stddev = {0.2f, 0.3f, 0.4f};
        const Batch want = take(Loader(*set, options), 2)[1];
        options.bytes = true;
        const Batch got = take(Loader(*set, options), 2)[1];
        CHECK(got.pixels.empty());
        CHECK(got.erased.empty() == !is("erasing"));
        CHECK(same_bits(with_pixels(got, 3, size), want));
        mirrored += std::count(got.mirrored.begin(), got.mirrored.end(), uint8_t{1});
        for (const data::ErasedBox& box : got.erased) erased += box.height > 0;
        if (is("randaugment") && options.two_view) {
          CHECK(std::count(got.mirrored.begin(), got.mirrored.end(), uint8_t{1}) == 0);
        }
      }
    }
  }
  CHECK(mirrored > 200);
  CHECK(erased > 30);
}

TEST_CASE("loader: bytes of whole pictures, and areas that are none") {
  const auto set = open_dataset("shapes:size=20,train=30,test=10", Split::kTest);
  using data::Resize;
  for (const Resize resize : {Resize::kTfBilinear, Resize::kPilBilinear, Resize::kTfArea}) {
    for (const int64_t shorter : {0, 19, 20}) {
      LoaderOptions options;
      options.batch = 4;
      options.image_size = shorter == 0 ? 13 : 16;
      options.view_a.crop = Crop::kWhole;
      options.view_a.resize = resize;
      options.view_a.shorter = shorter;
      Loader wanted = Loader::evaluation(*set, options);
      options.bytes = true;
      Loader loader = Loader::evaluation(*set, options);
      for (int step = 0; step < 3; ++step) {  // the last one is smaller
        const Batch& want = *wanted.next();
        const Batch& got = *loader.next();
        CHECK(got.has_bytes() == (resize != Resize::kTfArea));
        CHECK(same_bits(got.has_bytes() ? with_pixels(got, 3, options.image_size) : got, want));
      }
      CHECK(loader.next() == nullptr);
    }
  }
}

TEST_CASE("loader: a batch ahead, beside the one at hand") {
  const auto set = open_dataset("shapes:train=50", Split::kTrain);
  LoaderOptions options = two_view_options();
  options.bytes = true;
  for (const int64_t workers : {0, 1, 4}) {
    options.workers = workers;
    options.prefetch = 1;
    const auto want = take(Loader(*set, options), 6);
    Loader loader(*set, options);
    CHECK(loader.peek() == loader.peek());
    for (int i = 0; i < 5; ++i) {
      const Batch* const now = loader.next();
      const Batch* const ahead = loader.peek();
      REQUIRE(ahead != nullptr);
      CHECK(ahead != now);
      CHECK(ahead->bytes == want[static_cast<size_t>(i + 1)].bytes);
      CHECK(now->bytes == want[static_cast<size_t>(i)].bytes);
      CHECK(loader.peek() == ahead);
    }
  }
  options.bytes = false, options.workers = 0;
  CHECK(Loader(*set, options).peek() == nullptr);
  options.workers = 1, options.batch = 30;
  Loader evaluation = Loader::evaluation(*set, options);
  evaluation.next();
  evaluation.next();
  CHECK(evaluation.peek() == nullptr);
  CHECK(evaluation.next() == nullptr);
}

TEST_CASE("loader: a look ahead hides no error and makes none") {
  const FailingSet set(43);
  LoaderOptions options;
  options.image_size = 4;
  options.batch = 20;
  options.shuffle = false;
  options.bytes = true;
  for (const int64_t workers : {0, 2}) {
    options.workers = workers;
    Loader loader(set, options);
    loader.next();
    CHECK(loader.peek() != nullptr);
    loader.next();
    CHECK(loader.peek() == nullptr);
    for (int again = 0; again < 2; ++again) {
      CHECK(error_of([&] { loader.next(); }).has("picture 43 is bad"));
    }
  }
}

TEST_CASE("loader: what a worker throws reaches next() at its step, again and again") {
  const FailingSet set(43);
  LoaderOptions options;
  options.image_size = 4;
  options.batch = 20;
  options.shuffle = false;
  for (const int64_t workers : {0, 1, 4}) {
    options.workers = workers;
    Loader loader(set, options);
    CHECK(loader.next()->step == 0);
    CHECK(loader.next()->step == 1);
    for (int i = 0; i < 2; ++i) {
      const Caught caught = error_of([&] { loader.next(); });
      CHECK(caught.kind == ErrorKind::kFormat);
      CHECK(caught.message == "picture 43 is bad");
    }
  }
}

TEST_CASE("loader: goes away at any moment") {
  const FailingSet set(-1);
  LoaderOptions options;
  options.image_size = 4;
  options.batch = 20;
  options.workers = 3;
  for (int steps = 0; steps < 6; ++steps) {
    Loader loader(set, options);
    for (int i = 0; i < steps; ++i) CHECK(loader.next() != nullptr);
    CHECK(loader.wait_seconds() >= 0);
    Loader moved = std::move(loader);
    CHECK(moved.next()->step == steps);
  }
}

TEST_CASE("loader: no allocation once it stands" * doctest::skip(!HeapCounter::available())) {
  const auto set = open_dataset("shapes:train=50", Split::kTrain);
  for (const int64_t workers : {0, 1, 4}) {
    for (const Crop crop : {Crop::kNone, Crop::kInception, Crop::kPad}) {
      LoaderOptions options = crop == Crop::kPad ? augmented_options() : two_view_options();
      options.view_b.crop = crop;
      options.workers = workers;
      options.bytes = crop == Crop::kInception;
      options.view_a.erasing = 0.5;
      Loader loader(*set, options);
      for (int i = 0; i < 5; ++i) loader.next();
      const HeapCounter heap;                      // every thread
      for (int i = 0; i < 12; ++i) loader.next();  // three epochs
      const int64_t allocations = heap.count();
      CHECK(allocations == 0);
    }
  }
}

TEST_CASE("heap counter: counts, by thread if asked" * doctest::skip(!HeapCounter::available())) {
  const HeapCounter heap;
  std::vector<std::vector<char>> kept;
  kept.reserve(3);
  for (int i = 0; i < 3; ++i) kept.emplace_back(100);
  const int64_t all = heap.count();
  CHECK(all == 4);
  HeapCounter::track_this_thread();
  std::atomic<int64_t> elsewhere{-1};
  std::thread thread([&] {
    const HeapCounter own;
    kept[0].resize(1000);
    elsewhere = own.count();
  });
  thread.join();
  const HeapCounter here;
  kept[1].resize(1000);
  const int64_t mine = here.count();
  HeapCounter::track_all_threads();
  CHECK(elsewhere == 0);
  CHECK(mine == 1);
}

TEST_CASE("loader: options that make no sense") {
  const auto set = counting_set(20, 8);
  const auto kind = [&](auto change) {
    LoaderOptions options;
    options.image_size = 8;
    change(options);
    return error_of([&] { Loader loader(set, options); }).kind;
  };
  using O = LoaderOptions;
  CHECK(kind([](O& o) { o.batch = 0; }) == ErrorKind::kValue);
  CHECK(kind([](O& o) { o.image_size = 0; }) == ErrorKind::kValue);
  CHECK(kind([](O& o) { o.two_view = true, o.patch = 3; }) == ErrorKind::kValue);
  CHECK(kind([](O& o) { o.mean = {0.1f, 0.2f}, o.stddev = {1, 1}; }) == ErrorKind::kValue);
  CHECK(kind([](O& o) { o.mean = {0.1f, 0.2f, 0.3f, 0.4f}; }) == ErrorKind::kValue);
  CHECK(kind([](O& o) { o.workers = -1; }) == ErrorKind::kValue);
  CHECK(kind([](O& o) { o.prefetch = 0; }) == ErrorKind::kValue);
  CHECK(kind([](O& o) { o.view_a.area_min = 0; }) == ErrorKind::kValue);
  CHECK(kind([](O& o) { o.view_b.pad = -1; }) == ErrorKind::kValue);
  CHECK(kind([](O& o) { o.low = 2; }) == ErrorKind::kValue);
  CHECK(kind([](O& o) { o.view_b.randaugment.layers = -1; }) == ErrorKind::kValue);
  CHECK(kind([](O& o) { o.view_a.randaugment.magnitude = -0.5; }) == ErrorKind::kValue);
  data::Info two_channels{"two", 2, 8, 8, 10, {}};
  const data::MemoryDataset odd(two_channels, std::vector<uint8_t>(20 * 128, 7),
                                std::vector<int32_t>(20, 1));
  O options = augmented_options();
  options.image_size = 8;
  CHECK(error_of([&] { Loader loader(odd, options); }).kind == ErrorKind::kValue);
}
