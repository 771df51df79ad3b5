#include "tests/cuda_emulator/streams.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include "tests/cuda_emulator/emulator.h"

namespace {

// How often it was recorded, and which of the records have been reached. Kept as long as a stream
// has one.
struct Marks {
  uint64_t recorded = 0, reached = 0;
  CUstream_st* stream = nullptr;  // of the newest record
};

// Work, or a record of an event (`behind` is null), or a wait for its record `number` on `behind`.
struct Entry {
  std::function<void()> work;
  std::shared_ptr<Marks> marks;
  uint64_t number = 0;
  CUstream_st* behind = nullptr;
};

}  // namespace

struct CUstream_st {
  std::deque<Entry> entries;
};
struct CUevent_st {
  std::shared_ptr<Marks> marks = std::make_shared<Marks>();
};

namespace cuda_emulator {
namespace {

using Streams = std::vector<CUstream_st*>;

// Never destroyed, as the runtime's own are used after main(). The first is the null stream.
Streams& streams() {
  static auto* const all = new Streams{new CUstream_st};
  return *all;
}
CUstream_st& at(CUstream_st* stream) { return stream != nullptr ? *stream : *streams()[0]; }

StreamOrder wished_order() {
  const char* const wish = std::getenv("CUDA_EMULATOR_ORDER");
  if (wish == nullptr || std::strcmp(wish, "forward") == 0) return StreamOrder::kLate;
  return std::strcmp(wish, "reverse") == 0 ? StreamOrder::kEarly : StreamOrder::kShuffled;
}
StreamOrder& chosen_order() {
  static StreamOrder order = wished_order();
  return order;
}

bool waits(const Entry& entry) {
  return entry.behind != nullptr && entry.marks->reached < entry.number;
}
bool can_run(const CUstream_st& stream) {
  return !stream.entries.empty() && !waits(stream.entries.front());
}

void run_one(CUstream_st& stream) {
  const Entry entry = std::move(stream.entries.front());
  stream.entries.pop_front();
  if (entry.work) {
    entry.work();
  } else if (entry.behind == nullptr) {
    entry.marks->reached = std::max(entry.marks->reached, entry.number);
  }
}

using Done = std::function<bool()>;

// Nothing of other streams but what `stream` waits for.
void run_late(CUstream_st& stream, const Done& done) {
  while (!done()) {
    if (stream.entries.empty()) die("a stream ended before what was waited for");
    const Entry& next = stream.entries.front();
    if (waits(next)) run_late(*next.behind, [&next] { return !waits(next); });
    run_one(stream);
  }
}

// All other streams as far as they can, again and again, and one step of `stream` between.
void run_early(CUstream_st& stream, const Done& done) {
  while (!done()) {
    for (bool moved = true; moved;) {
      moved = false;
      for (CUstream_st* other : streams()) {
        for (; other != &stream && can_run(*other); moved = true) run_one(*other);
      }
    }
    if (done()) return;
    if (!can_run(stream)) die("streams wait for one another");
    run_one(stream);
  }
}

void run_shuffled(const Done& done) {
  static uint32_t state = 1;
  while (!done()) {
    Streams ready;
    for (CUstream_st* stream : streams()) {
      if (can_run(*stream)) ready.push_back(stream);
    }
    if (ready.empty()) die("streams wait for one another");
    state = state * 1664525u + 1013904223u;
    run_one(*ready[(state >> 8) % ready.size()]);
  }
}

// What a stream's work goes to while it is captured.
bool captures = false;
CUstream_st* captured_stream = nullptr;
std::vector<std::function<void()>> captured;

void run(CUstream_st& stream, const Done& done) {
  if (captures) die("something waits while a stream is being captured");
  if (done()) return;
  with_device_memory([&] {
    switch (chosen_order()) {
      case StreamOrder::kLate:
        return run_late(stream, done);
      case StreamOrder::kEarly:
        return run_early(stream, done);
      case StreamOrder::kShuffled:
        return run_shuffled(done);
    }
  });
}

}  // namespace

void order_streams(StreamOrder order) { chosen_order() = order; }
StreamOrder stream_order() { return chosen_order(); }

CUstream_st* make_stream() { return streams().emplace_back(new CUstream_st); }

void destroy_stream(CUstream_st* stream) {
  wait(stream);
  std::erase(streams(), stream);
  delete stream;
}

CUevent_st* make_event() { return new CUevent_st; }
void destroy_event(CUevent_st* event) { delete event; }

void begin_capture(CUstream_st* stream) {
  captures = true;
  captured_stream = &at(stream);
}
std::vector<std::function<void()>> end_capture() {
  captures = false;
  return std::exchange(captured, {});
}
bool capturing() { return captures; }

void enqueue(CUstream_st* stream, std::function<void()> work) {
  if (captures && &at(stream) == captured_stream) return captured.push_back(std::move(work));
  at(stream).entries.push_back({std::move(work), nullptr});
}

void record(CUevent_st* event, CUstream_st* stream) {
  if (captures && &at(stream) == captured_stream) die("an event on a stream that is captured");
  event->marks->stream = &at(stream);
  at(stream).entries.push_back({nullptr, event->marks, ++event->marks->recorded});
}

void wait_event(CUstream_st* stream, CUevent_st* event) {
  const Marks& marks = *event->marks;
  if (marks.reached == marks.recorded) return;
  at(stream).entries.push_back({nullptr, event->marks, marks.recorded, marks.stream});
}

void wait(CUstream_st* stream) {
  CUstream_st& waited = at(stream);
  run(waited, [&] { return waited.entries.empty(); });
}

void wait(CUevent_st* event) {
  const Marks& marks = *event->marks;
  const uint64_t number = marks.recorded;
  if (number > 0) run(*marks.stream, [&] { return marks.reached >= number; });
}

void wait() {
  for (size_t i = 0; i < streams().size(); ++i) wait(streams()[i]);
}

}  // namespace cuda_emulator
