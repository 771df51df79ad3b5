#pragma once

#include <cstdint>
#include <functional>
#include <vector>

struct CUstream_st;
struct CUevent_st;

// Streams of the emulator: queues of work. What is put on a stream runs when somebody waits, in the
// stream's own order; between streams nothing but events decides, and the emulator is free to take
// any order that they allow, so that a missing one shows as a wrong result.
namespace cuda_emulator {

// Which of the orders is taken when somebody waits for a stream or an event. kLate: other streams
// run no further than events ask for (a reader that does not wait for its data finds none). kEarly:
// other streams run first, as far as events let them (a writer that does not wait for the readers
// before it comes too early). kShuffled: any. As CUDA_EMULATOR_ORDER says, "forward" (the default),
// "reverse" or "shuffle", unless order_streams() has been called.
enum class StreamOrder : uint8_t { kLate, kEarly, kShuffled };
void order_streams(StreamOrder order);
StreamOrder stream_order();

CUstream_st* make_stream();
void destroy_stream(CUstream_st* stream);  // after what is on it
CUevent_st* make_event();
void destroy_event(CUevent_st* event);  // its record on a stream stays

// A null stream is one like any other.
void enqueue(CUstream_st* stream, std::function<void()> work);
void record(CUevent_st* event, CUstream_st* stream);
// What is put on `stream` from now on runs after the event's newest record, if there is one.
void wait_event(CUstream_st* stream, CUevent_st* event);

// From begin_capture() to end_capture() enqueue() keeps its work for that stream, for a graph,
// instead of putting it there; whatever waits, or records an event on it, then aborts.
void begin_capture(CUstream_st* stream);
std::vector<std::function<void()>> end_capture();
bool capturing();

// Run what is needed until the stream is empty, the event's newest record is reached, or nothing is
// left on any stream.
void wait(CUstream_st* stream);
void wait(CUevent_st* event);
void wait();

}  // namespace cuda_emulator
