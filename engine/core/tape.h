#pragma once

#include <cstring>
#include <initializer_list>
#include <new>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "engine/core/arena.h"
#include "engine/core/op_times.h"
#include "engine/core/tensor.h"

namespace engine {

// Where a backward kernel puts d(loss)/d(x), and how.
struct GradTarget {
  Tensor grad;
  GradWrite write = GradWrite::kOverwrite;
};

// Reverse-mode differentiation over an explicit list of what was executed. Ops find the
// tape through their inputs; after its forward kernel an op calls record() with a lambda
// that, given the gradient of its output, writes those of its inputs. backward() runs the
// list newest first. Execution order is a topological order, so gradients are always added
// in the same order and the sums have the same bits.
//
// The backward of one output is `void(const Tensor& dy, Tape&)`; of several outputs
// `void(std::span<const Tensor> dys, Tape&)`, where dys[i] is undefined if no gradient
// reached output i. It must be trivially destructible: it captures tensors, numbers and
// spans made by keep().
class Tape {
 public:
  explicit Tape(StepArena& arena) : arena_(arena) {}
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;

  StepArena& arena() { return arena_; }

  // Puts data on the tape without asking for its gradient.
  Tensor input(const Tensor& x) { return attach(x, -1); }
  // Puts a leaf on the tape; backward() ADDS its gradient to `grad`, so a leaf may be used
  // twice and gradients may be summed over micro-batches. Error(kShape, kDtype).
  Tensor leaf(const Tensor& x, const Tensor& grad);

  template <class Backward>
  void record(std::string_view op, std::span<const Tensor> inputs, std::span<Tensor> outputs,
              Backward backward) {
    static_assert(std::is_trivially_destructible_v<Backward>);
    if (times_ != nullptr) time_forward(op);
    if (!attach_outputs(inputs, outputs)) return;
    using N = NodeOf<Backward>;
    nodes_.push_back(new (node_memory_.allocate(sizeof(N)))
                         N(op, keep(std::span<const Tensor>(outputs)), backward));
    nodes_.back()->scope = scope_;
  }
  template <class Backward>
  void record(std::string_view op, std::initializer_list<Tensor> inputs, Tensor& output,
              Backward backward) {
    record(op, std::span<const Tensor>(inputs.begin(), inputs.size()),
           std::span<Tensor>(&output, 1), backward);
  }

  // Copies an array into the tape's own memory, where it lives until clear().
  template <class T>
  std::span<const T> keep(std::span<const T> values) {
    static_assert(std::is_trivially_copyable_v<T>);
    T* copy = static_cast<T*>(node_memory_.allocate(static_cast<int64_t>(values.size_bytes())));
    if (!values.empty()) std::memcpy(static_cast<void*>(copy), values.data(), values.size_bytes());
    return {copy, values.size()};
  }

  // Runs every recorded backward, newest first, starting from d(loss) = seed.
  // Once for what was recorded: the gradients' memory is used again on the way. Error(kValue) if
  // the loss does not depend on a leaf, or a second time before clear().
  void backward(const Tensor& loss, const Tensor& seed);

  bool wants_grad(const Tensor& x) const { return x.slot() >= 0; }

  // Where to put d(loss)/d(x). The first request for an intermediate overwrites (no
  // zero-fill needed); later ones, and all for leaves, accumulate. Error(kInternal) if x
  // wants no gradient: ask wants_grad() first.
  GradTarget target(const Tensor& x);
  // The same for ops that write only parts of dx: zero-filled at the first request, so the
  // caller always accumulates.
  Tensor target_zeroed(const Tensor& x);
  // For ops with dx = dy (residual, reshape): hands dy's memory over as dx without a copy.
  // False if that cannot be (x already has a gradient, or dy was handed over before): then
  // add dy to target(x). Must be the last thing a backward does with dy.
  // False too for a dy that is no output's gradient (memory of the backward's own).
  bool pass_grad(const Tensor& x, const Tensor& dy);

  // For y = f(z) of each element: whoever is about to write d(loss)/d(y) whole may multiply it by
  // f'(z) at once. `form` says which f; the two ops know.
  struct Slope {
    Tensor of;
    int form = 0;
  };
  void offer_slope(const Tensor& y, const Slope& slope);
  // By a backward that is about to ask for target(y) and will overwrite all of it: what to multiply
  // by, if it was offered and nobody else reads y; then y's gradient counts as multiplied.
  // Undefined `of`: nothing.
  Slope take_slope(const Tensor& y);
  bool multiplied(const Tensor& dy) const { return dy.slot() >= 0 && slots_[dy.slot()].multiplied; }

  // Memory of dy's shape for a backward that transforms dy before using it: dy itself where
  // nobody else will read it again, else fresh memory.
  Tensor scratch_like(const Tensor& dy) {
    const bool mine = dy.slot() >= 0 && slots_[dy.slot()].owned;
    return mine ? dy : arena_.empty(dy.shape(), dy.dtype());
  }

  // Names what is recorded from now on ("blocks.3"), for diagnosis. The text must outlive the
  // tape's content.
  void scope(std::string_view name) { scope_ = name; }
  // "scope/op" of the first recorded op whose output holds a value that is not finite, or
  // empty. Reads every recorded output (f32 and f64), so only for diagnosis.
  std::string first_non_finite() const;

  // Adds the time of every op to `times` from now on (null: stop); see op_times.h.
  void profile(OpTimes* times);

  // Forgets everything; keeps its memory for the next step.
  void clear();
  size_t node_count() const { return nodes_.size(); }

 private:
  struct Node {
    Node(std::string_view op, std::span<const Tensor> outs) : name(op), outputs(outs) {}
    virtual void run(std::span<const Tensor> dys, Tape& tape) const = 0;
    std::string_view name;  // a literal
    std::string_view scope;
    std::span<const Tensor> outputs;

   protected:
    ~Node() = default;  // never called: node memory is dropped as a whole
  };
  template <class Backward>
  struct NodeOf final : Node {
    NodeOf(std::string_view op, std::span<const Tensor> outs, const Backward& b)
        : Node(op, outs), backward(b) {}
    void run(std::span<const Tensor> dys, Tape& tape) const override {
      if constexpr (std::is_invocable_v<Backward, const Tensor&, Tape&>) {
        backward(dys[0], tape);
      } else {
        backward(dys, tape);
      }
    }
    Backward backward;
  };
  struct Slot {
    Tensor grad;
    bool written = false;
    bool leaf = false;
    bool owned = false;       // allocated by target(): may be handed over or used again
    bool multiplied = false;  // by the slope
    int readers = 0;          // ops that take it
    Slope slope = {};
  };

  Tensor attach(Tensor x, int slot) {
    x.tape_ = this;
    x.slot_ = slot;
    return x;
  }
  bool attach_outputs(std::span<const Tensor> inputs, std::span<Tensor> outputs);
  Tensor take_free(const Tensor& like);
  void time_forward(std::string_view op);
  double now_s() const;  // while times are taken: after all that was started on the device

  StepArena& arena_;
  StepArena node_memory_;
  std::vector<Slot> slots_;
  std::vector<Node*> nodes_;
  std::vector<Tensor> free_;  // gradients whose node has run, reused for equal sizes
  std::string_view scope_;
  bool differentiated_ = false;
  OpTimes* times_ = nullptr;
  double last_s_ = 0;  // when the previous op ended
};

}  // namespace engine
