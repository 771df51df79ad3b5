#include "tests/cuda_emulator/streams.h"

#include <doctest/doctest.h>

#include <cmath>
#include <functional>

#include "tests/cuda_emulator/cuda_runtime.h"

using cuda_emulator::StreamOrder;

namespace {

constexpr StreamOrder kOrders[] = {StreamOrder::kLate, StreamOrder::kEarly, StreamOrder::kShuffled};

// Two streams, a float on the device, and one in pinned memory on either side of it.
struct Rig {
  Rig() : order(cuda_emulator::stream_order()) {
    cudaStreamCreateWithFlags(&copies, cudaStreamNonBlocking);
    cudaStreamCreateWithFlags(&compute, cudaStreamNonBlocking);
    cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
    cudaMalloc(reinterpret_cast<void**>(&slot), sizeof(float));
    cudaHostAlloc(reinterpret_cast<void**>(&in), sizeof(float), cudaHostAllocDefault);
    cudaHostAlloc(reinterpret_cast<void**>(&out), sizeof(float), cudaHostAllocDefault);
    *in = 1, *out = 0;
  }
  ~Rig() {
    cudaFree(slot);
    cudaFreeHost(in);
    cudaFreeHost(out);
    cudaEventDestroy(event);
    cudaStreamDestroy(copies);
    cudaStreamDestroy(compute);
    cuda_emulator::order_streams(order);
  }
  void write() const { cudaMemcpyAsync(slot, in, sizeof(float), cudaMemcpyHostToDevice, copies); }
  void read() const { cudaMemcpyAsync(out, slot, sizeof(float), cudaMemcpyDeviceToHost, compute); }

  StreamOrder order;
  cudaStream_t copies = nullptr, compute = nullptr;
  cudaEvent_t event = nullptr;
  float *slot = nullptr, *in = nullptr, *out = nullptr;
};

// In how many of the orders body() leaves `wanted` in the rig's `out`.
int right_orders(float wanted, const std::function<void(Rig&)>& body) {
  int right = 0;
  for (const StreamOrder order : kOrders) {
    Rig rig;
    cuda_emulator::order_streams(order);
    body(rig);
    right += *rig.out == wanted;
  }
  return right;
}

// A reader that comes after the copy, and one that does not say so.
void read_after_copy(Rig& rig, bool waits) {
  rig.write();
  cudaEventRecord(rig.event, rig.copies);
  if (waits) cudaStreamWaitEvent(rig.compute, rig.event);
  rig.read();
  cudaStreamSynchronize(rig.compute);
}

// A copy over what an earlier reader is to see, and one that does not wait for it.
void copy_after_read(Rig& rig, bool waits) {
  rig.write();
  cudaStreamSynchronize(rig.copies);
  rig.read();
  cudaEventRecord(rig.event, rig.compute);
  if (waits) cudaStreamWaitEvent(rig.copies, rig.event);
  *rig.in = 2;
  rig.write();
  cudaStreamSynchronize(rig.compute);
}

// The host writes into what is being copied.
void host_after_copy(Rig& rig, bool waits) {
  rig.write();
  cudaEventRecord(rig.event, rig.copies);
  cudaStreamWaitEvent(rig.compute, rig.event);
  if (waits) cudaEventSynchronize(rig.event);
  *rig.in = 2;
  rig.read();
  cudaStreamSynchronize(rig.compute);
}

}  // namespace

TEST_CASE("cuda emulator: events order streams, and a missing one shows") {
  for (const auto body : {read_after_copy, copy_after_read, host_after_copy}) {
    CHECK(right_orders(1, [&](Rig& rig) { body(rig, true); }) == 3);
    CHECK(right_orders(1, [&](Rig& rig) { body(rig, false); }) < 3);
  }
  cuda_emulator::order_streams(StreamOrder::kLate);
  Rig rig;
  read_after_copy(rig, false);
  CHECK(std::isnan(*rig.out));  // fresh memory
}

TEST_CASE("cuda emulator: a wait is for the newest record, and none without one") {
  for (const StreamOrder order : kOrders) {
    Rig rig;
    cuda_emulator::order_streams(order);
    CHECK(cudaStreamWaitEvent(rig.compute, rig.event) == cudaSuccess);
    CHECK(cudaEventSynchronize(rig.event) == cudaSuccess);
    rig.write();
    cudaEventRecord(rig.event, rig.copies);
    cudaStreamWaitEvent(rig.compute, rig.event);  // for this record, whatever follows
    rig.read();
    cudaEventRecord(rig.event, rig.compute);
    cudaStreamWaitEvent(rig.copies, rig.event);
    cudaMemsetAsync(rig.slot, 0, sizeof(float), rig.copies);
    cudaEventSynchronize(rig.event);
    CHECK(*rig.out == 1);
    cudaStreamSynchronize(rig.copies);
    rig.read();
    cudaStreamSynchronize(rig.compute);
    CHECK(*rig.out == 0);
  }
}

TEST_CASE("cuda emulator: a stream runs in its order and as far as is waited for") {
  for (const StreamOrder order : kOrders) {
    Rig rig;
    cuda_emulator::order_streams(order);
    int done = 0;
    for (int i = 0; i < 3; ++i) {
      cuda_emulator::enqueue(rig.compute, [&done, i] { done = 10 * done + i + 1; });
      if (i == 1) cudaEventRecord(rig.event, rig.compute);
    }
    CHECK(done == 0);
    cudaEventSynchronize(rig.event);
    if (order == StreamOrder::kLate) CHECK(done == 12);
    cudaEventDestroy(rig.event);
    cudaEventCreateWithFlags(&rig.event, cudaEventDisableTiming);
    cudaStreamSynchronize(rig.compute);
    CHECK(done == 123);
  }
}
