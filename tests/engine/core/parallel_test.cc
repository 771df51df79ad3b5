#include "engine/core/parallel.h"

#include <doctest/doctest.h>

#include <atomic>
#include <utility>
#include <vector>

#include "tests/support/bits.h"

using namespace engine;
using engine::test::Threads;

namespace {

// How often each index of [0, n) was met, and whether every piece began at a grain.
std::pair<std::vector<int>, bool> pieces_of(int64_t n, int64_t grain) {
  std::vector<int> met(static_cast<size_t>(n), 0);
  std::atomic<bool> aligned{true};
  parallel_for(n, grain, [&](int64_t begin, int64_t end) {
    if (begin % grain != 0 || (end % grain != 0 && end != n)) aligned = false;
    for (int64_t i = begin; i < end; ++i) ++met[static_cast<size_t>(i)];
  });
  return {met, aligned};
}

}  // namespace

TEST_CASE("parallel_for: pieces cover everything once and start at grains") {
  for (const int threads : {1, 2, 3, 5, 8}) {
    const Threads scope(threads);
    CHECK(num_threads() == threads);
    for (const int64_t n : {1, 2, 7, 16, 17, 100, 1001}) {
      for (const int64_t grain : {1, 3, 16, 64, 2000}) {
        const auto found = pieces_of(n, grain);
        CHECK(found.first == std::vector<int>(static_cast<size_t>(n), 1));
        CHECK(found.second);
      }
    }
  }
}

TEST_CASE("parallel_for: uses the threads it may") {
  const Threads scope(4);
  std::atomic<int> pieces{0};
  parallel_for(100, 10, [&](int64_t, int64_t) { ++pieces; });
  CHECK(pieces == 4);
  pieces = 0;
  parallel_for(15, 10, [&](int64_t, int64_t) { ++pieces; });
  CHECK(pieces == 2);
}

TEST_CASE("parallel_for: nothing to do calls nothing") {
  int calls = 0;
  parallel_for(0, 16, [&](int64_t, int64_t) { ++calls; });
  parallel_for(-3, 16, [&](int64_t, int64_t) { ++calls; });
  CHECK(calls == 0);
}

TEST_CASE("parallel_for: small work and nested work run inline") {
  const Threads scope(3);
  int64_t calls = 0, end_seen = 0;
  parallel_for(16, 16, [&](int64_t begin, int64_t end) {
    calls += begin == 0 ? 1 : 100;
    end_seen = end;
  });
  CHECK(calls == 1);
  CHECK(end_seen == 16);
  std::vector<int> inner(3, 0);
  parallel_tasks(3, [&](int64_t t) {
    parallel_for(1000, 1, [&](int64_t begin, int64_t end) {
      inner[static_cast<size_t>(t)] += begin == 0 && end == 1000 ? 1 : 100;
    });
  });
  CHECK(inner == std::vector<int>{1, 1, 1});
}

TEST_CASE("parallel_tasks: every task once also inside another") {
  for (const int threads : {1, 2, 5}) {
    const Threads scope(threads);
    for (const int64_t n : {0, 1, 2, 5, 77}) {
      std::vector<std::atomic<int>> met(static_cast<size_t>(n));
      parallel_tasks(n, [&](int64_t t) { ++met[static_cast<size_t>(t)]; });
      bool once = true;
      for (const auto& m : met) once &= m == 1;
      CHECK(once);
    }
    std::atomic<int> inner{0};
    parallel_tasks(4, [&](int64_t) { parallel_tasks(10, [&](int64_t) { ++inner; }); });
    CHECK(inner == 40);
  }
}

TEST_CASE("parallel: a grain of rows is about 16k elements") {
  CHECK(rows_per_grain(1) == 16384);
  CHECK(rows_per_grain(0) == 16384);
  CHECK(rows_per_grain(197) == 83);
  CHECK(rows_per_grain(16384) == 1);
  CHECK(rows_per_grain(1'000'000) == 1);
}

TEST_CASE("parallel: chunks of a reduction cover the rows in order") {
  for (const int64_t n : {0, 1, 5, 31, 32, 33, 1000, 123'457}) {
    int64_t at = 0, longest = 0;
    for (int64_t c = 0; c < kReduceChunks; ++c) {
      const ChunkRange range = reduce_chunk(n, c);
      CHECK(range.begin == at);
      CHECK(range.end >= range.begin);
      longest = std::max(longest, range.end - range.begin);
      at = range.end;
    }
    CHECK(at == n);
    CHECK(longest <= n / kReduceChunks + 1);
  }
}

TEST_CASE("parallel: a sum over chunks has the same bits for any number of threads") {
  const auto x = test::values<float>(100'003, 3);
  CHECK(test::same_bits_for_threads([&x] {
    std::vector<float> partial(kReduceChunks, 0);
    parallel_tasks(kReduceChunks, [&](int64_t c) {
      const ChunkRange rows = reduce_chunk(static_cast<int64_t>(x.size()), c);
      for (int64_t i = rows.begin; i < rows.end; ++i) {
        partial[static_cast<size_t>(c)] += x[static_cast<size_t>(i)];
      }
    });
    float sum = 0;
    for (const float p : partial) sum += p;
    return std::vector<float>{sum};
  }));
}
