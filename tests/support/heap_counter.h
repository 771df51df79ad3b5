#pragma once

#include <cstdint>

namespace engine::test {

// Counts heap allocations (malloc and its relatives, hence operator new too) since it was
// made, by every thread, or by the chosen ones alone once a thread has asked for that.
//
//   const HeapCounter heap;
//   work();
//   const int64_t n = heap.count();  // before CHECK, which allocates itself
//
// Under AddressSanitizer and ThreadSanitizer, which bring their own malloc, nothing is
// counted; decorate the test case with doctest::skip(!HeapCounter::available()).
class HeapCounter {
 public:
  HeapCounter();
  int64_t count() const;

  static bool available();
  // From now on only threads that called this are counted.
  static void track_this_thread();
  // Back to all threads; forgets the calling thread's choice.
  static void track_all_threads();

 private:
  int64_t start_;
};

}  // namespace engine::test
