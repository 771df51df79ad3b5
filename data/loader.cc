#include "data/loader.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <limits>
#include <mutex>
#include <system_error>
#include <thread>

#include "data/batch_builder.h"
#include "data/sample_order.h"
#include "engine/core/error.h"

namespace data {
namespace {

using engine::check;
using engine::ErrorKind;

// Source images a worker takes at a time: enough to make the lock cheap, few enough that
// all workers share the batch that is needed next.
constexpr int64_t kChunk = 8;

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

// A ring of batches. Step s lives in slot s mod (number of slots). Workers take tickets,
// chunks of steps in order, as long as the slot of the step is free; next() hands out the
// steps in order and frees the slot of the one before.
class Loader::Impl {
 public:
  Impl(const Dataset& dataset, const LoaderOptions& options, int64_t first_step, Stream stream);
  ~Impl();
  void start_workers();
  const Batch* next();
  const Batch* peek();
  double wait_seconds() const { return wait_seconds_; }

 private:
  struct Slot {
    Batch batch;
    int64_t first_position = 0;
    int64_t chunks_left = 0;
    std::exception_ptr error;  // of the first chunk that failed
    int64_t error_chunk = 0;
  };
  struct Ticket {
    Slot* slot;
    int64_t chunk;
  };

  Slot& slot_of(int64_t step) { return slots_[step % static_cast<int64_t>(slots_.size())]; }
  int64_t chunks(const Batch& batch) const { return (batch.sources + kChunk - 1) / kChunk; }
  void reserve(Slot& slot) const;
  void begin(Slot& slot, int64_t step);
  bool work_waits() const;
  bool take(Ticket& ticket);
  void finish(const Ticket& ticket, std::exception_ptr error);
  void run_worker(BatchBuilder& builder);
  void make_here(Slot& slot);
  Slot& wait_for_slot(std::unique_lock<std::mutex>& lock);

  const LoaderOptions options_;
  const Stream stream_;
  const int64_t images_;  // used ones
  int64_t end_step_ = std::numeric_limits<int64_t>::max();

  std::mutex mutex_;  // guards everything below but the batches' content
  std::condition_variable slot_freed_, batch_ready_;
  SampleOrder order_;
  std::vector<Slot> slots_;
  int64_t ticket_step_, ticket_chunk_ = 0;  // the next ticket
  int64_t read_step_;                       // the step next() hands out next
  bool handed_out_ = false;                 // the caller holds read_step_ - 1
  int64_t made_step_ = -1;                  // the last that make_here() made
  bool stop_ = false;

  double wait_seconds_ = 0;  // the caller's thread only
  std::vector<BatchBuilder> builders_;
  std::vector<std::thread> threads_;
};

Loader::Impl::Impl(const Dataset& dataset, const LoaderOptions& options, int64_t first_step,
                   Stream stream)
    : options_(options),
      stream_(stream),
      images_(options.limit > 0 ? std::min(options.limit, dataset.size()) : dataset.size()),
      order_(images_,
             stream == Stream::kTraining && options.shuffle ? SampleOrder::Kind::kShuffled
                                                            : SampleOrder::Kind::kInOrder,
             options.seed),
      ticket_step_(first_step),
      read_step_(first_step) {
  check(images_ > 0, ErrorKind::kValue, "loader: the data set is empty");
  check(options.batch > 0, ErrorKind::kValue, "loader: batch ", options.batch,
        ", expected 1 or more");
  check(options.workers >= 0 && options.prefetch >= 1 && options.limit >= 0 && first_step >= 0,
        ErrorKind::kValue, "loader: workers ", options.workers, ", prefetch ", options.prefetch,
        ", limit ", options.limit, ", first step ", first_step,
        ", expected prefetch of 1 or more and no negative number");
  check(options.repeats >= 1, ErrorKind::kValue, "loader: repeats ", options.repeats,
        ", expected 1 or more");
  if (stream == Stream::kEvaluation) end_step_ = (images_ + options.batch - 1) / options.batch;
  const int64_t workers = std::max<int64_t>(options.workers, 1);
  builders_.reserve(static_cast<size_t>(workers));
  for (int64_t w = 0; w < workers; ++w) builders_.emplace_back(dataset, options);
  const int64_t slots = options.workers > 0 ? options.prefetch + 1 : options.bytes ? 2 : 1;
  slots_.resize(static_cast<size_t>(slots));
  for (Slot& slot : slots_) reserve(slot);
}

Loader::Impl::~Impl() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  slot_freed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void Loader::Impl::start_workers() {
  threads_.reserve(static_cast<size_t>(options_.workers));
  try {
    for (int64_t w = 0; w < options_.workers; ++w) {
      threads_.emplace_back([this, w] { run_worker(builders_[static_cast<size_t>(w)]); });
    }
  } catch (const std::system_error& error) {
    engine::fail(ErrorKind::kIo, "loader: only ", threads_.size(), " of ", options_.workers,
                 " threads could be started (", error.code().message(), "): lower data.workers");
  }
}

// Takes the memory of the largest batch.
void Loader::Impl::reserve(Slot& slot) const {
  const int64_t size = options_.image_size, sources = options_.batch;
  const int64_t views = options_.two_view ? 2 * sources : sources;
  slot.batch.samples.resize(static_cast<size_t>(sources));
  slot.batch.labels.resize(static_cast<size_t>(views));
  builders_[0].reserve(slot.batch, views);
  if (!options_.two_view) return;
  const int64_t grid = size / options_.patch;
  slot.batch.match.resize(static_cast<size_t>(sources * grid * grid));
}

// Prepares `slot` for `step`: sizes and sample numbers. Needs the lock.
void Loader::Impl::begin(Slot& slot, int64_t step) {
  Batch& batch = slot.batch;
  slot.first_position = step * options_.batch;
  const bool whole = stream_ == Stream::kTraining;
  batch.step = step;
  batch.sources = whole ? options_.batch : std::min(options_.batch, images_ - slot.first_position);
  batch.views = options_.two_view ? 2 * batch.sources : batch.sources;
  if (batch.sources < options_.batch) {  // the last of an evaluation: the arrays shrink
    const auto share = [&](size_t n) {
      return n / static_cast<size_t>(options_.batch) * static_cast<size_t>(batch.sources);
    };
    batch.pixels.resize(share(batch.pixels.size()));
    batch.bytes.resize(share(batch.bytes.size()));
    batch.mirrored.resize(share(batch.mirrored.size()));
    batch.erased.resize(share(batch.erased.size()));
    batch.labels.resize(share(batch.labels.size()));
    batch.match.resize(share(batch.match.size()));
    batch.samples.resize(share(batch.samples.size()));
  }
  slot.chunks_left = chunks(batch);
  slot.error = nullptr;
  if (!whole || options_.repeats == 1) {
    order_.fill(slot.first_position, batch.sources, batch.samples.data());
    return;
  }
  for (int64_t i = 0; i < batch.sources; ++i) {
    order_.fill((slot.first_position + i) / options_.repeats, 1, &batch.samples[i]);
  }
}

bool Loader::Impl::work_waits() const {
  if (ticket_chunk_ > 0) return true;
  const int64_t oldest = read_step_ - (handed_out_ ? 1 : 0);
  return ticket_step_ < end_step_ && ticket_step_ < oldest + static_cast<int64_t>(slots_.size());
}

// Waits for work; false when the loader goes away.
bool Loader::Impl::take(Ticket& ticket) {
  std::unique_lock lock(mutex_);
  slot_freed_.wait(lock, [this] { return stop_ || work_waits(); });
  if (stop_) return false;
  Slot& slot = slot_of(ticket_step_);
  if (ticket_chunk_ == 0) begin(slot, ticket_step_);
  ticket = {&slot, ticket_chunk_};
  if (++ticket_chunk_ == chunks(slot.batch)) ++ticket_step_, ticket_chunk_ = 0;
  return true;
}

void Loader::Impl::finish(const Ticket& ticket, std::exception_ptr error) {
  const std::lock_guard lock(mutex_);
  Slot& slot = *ticket.slot;
  if (error && (!slot.error || ticket.chunk < slot.error_chunk)) {
    slot.error = std::move(error);
    slot.error_chunk = ticket.chunk;
  }
  if (--slot.chunks_left == 0) batch_ready_.notify_all();
}

void Loader::Impl::run_worker(BatchBuilder& builder) {
  Ticket ticket{};
  while (take(ticket)) {
    std::exception_ptr error;
    try {
      Slot& slot = *ticket.slot;
      const int64_t first = ticket.chunk * kChunk;
      builder.build(slot.batch, slot.first_position, first,
                    std::min(first + kChunk, slot.batch.sources));
    } catch (...) {
      error = std::current_exception();
    }
    finish(ticket, std::move(error));
  }
}

// Makes the batch of read_step_ on the caller's thread.
void Loader::Impl::make_here(Slot& slot) {
  if (made_step_ == read_step_) return;  // for peek()
  begin(slot, read_step_);
  builders_[0].build(slot.batch, slot.first_position, 0, slot.batch.sources);
  made_step_ = read_step_;
}

// The slot of read_step_, when its batch is there.
Loader::Impl::Slot& Loader::Impl::wait_for_slot(std::unique_lock<std::mutex>& lock) {
  Slot& slot = slot_of(read_step_);
  const auto start = std::chrono::steady_clock::now();
  if (threads_.empty()) {
    make_here(slot);
  } else {
    const auto ready = [&] { return ticket_step_ > read_step_ && slot.chunks_left == 0; };
    batch_ready_.wait(lock, ready);
  }
  wait_seconds_ += seconds_since(start);
  return slot;
}

const Batch* Loader::Impl::peek() {
  std::unique_lock lock(mutex_);
  if (read_step_ >= end_step_ || slots_.size() < 2) return nullptr;
  try {
    const Slot& slot = wait_for_slot(lock);
    return slot.error ? nullptr : &slot.batch;
  } catch (...) {  // made here: next() makes it once more, and then that is the caller's
    return nullptr;
  }
}

const Batch* Loader::Impl::next() {
  std::unique_lock lock(mutex_);
  if (handed_out_) {
    handed_out_ = false;
    slot_freed_.notify_all();
  }
  if (read_step_ >= end_step_) return nullptr;
  const Slot& slot = wait_for_slot(lock);
  if (slot.error) std::rethrow_exception(slot.error);
  handed_out_ = true;
  ++read_step_;
  return &slot.batch;
}

Loader::Loader(const Dataset& dataset, const LoaderOptions& options, int64_t first_step,
               Stream stream)
    : impl_(std::make_unique<Impl>(dataset, options, first_step, stream)) {
  impl_->start_workers();
}

Loader Loader::evaluation(const Dataset& dataset, const LoaderOptions& options) {
  return Loader(dataset, options, 0, Stream::kEvaluation);
}

Loader::~Loader() = default;
Loader::Loader(Loader&&) noexcept = default;

const Batch* Loader::next() { return impl_->next(); }
const Batch* Loader::peek() { return impl_->peek(); }
double Loader::wait_seconds() const { return impl_->wait_seconds(); }

}  // namespace data
