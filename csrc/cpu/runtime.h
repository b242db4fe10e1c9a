// What the kernels need of the machine, the same for every instruction set: memory, tasks, order.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "stm_fast/read.h"

namespace stm {

// Allocates memory aligned to cache lines. Throws std::bad_alloc where there is none.
void* allocate(std::size_t bytes);
void release(void* memory);

template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(int64_t count) : data_(static_cast<T*>(allocate(static_cast<std::size_t>(count) * sizeof(T)))) {}
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { release(data_); }

  T* data() { return data_; }
  const T* data() const { return data_; }

  void swap(Buffer& other) {
    T* data = data_;
    data_ = other.data_;
    other.data_ = data;
  }

 private:
  T* data_ = nullptr;
};

// Tasks 0, 1, 2, ..., handed out in this order to whichever worker asks.
class TaskQueue {
 public:
  explicit TaskQueue(int64_t count) : count_(count) {}

  // Returns the next task, or −1 when there are no more.
  int64_t next() {
    const int64_t task = next_.fetch_add(1, std::memory_order_relaxed);
    return task < count_ ? task : -1;
  }

  void fail();
  bool failed() const { return failed_.load(std::memory_order_acquire); }

 private:
  int64_t count_;
  std::atomic<int64_t> next_{0};
  std::atomic<bool> failed_{false};
};

// Does what `run_tasks` does, with a plain function.
void run_workers(const Threads& threads, int64_t count, void (*work)(void* context, TaskQueue& tasks), void* context);

// Calls `work(tasks)` on every worker, which takes tasks from the queue until there are none. The first exception of a
// worker ends the work of all and is thrown again here.
template <class Work>
void run_tasks(const Threads& threads, int64_t count, Work work) {
  run_workers(threads, count, [](void* context, TaskQueue& tasks) { (*static_cast<Work*>(context))(tasks); }, &work);
}

// Lets tasks add to a common sum in one order, whatever the number of threads, so that its bits do not depend on it.
class OrderedReduction {
 public:
  // Waits until all tasks before this one have left; false if the work has failed. Tasks are numbered 0, 1, 2, ... and
  // must have been handed out in that order.
  bool enter(int64_t task, const TaskQueue& tasks) const;
  void leave() { next_.fetch_add(1, std::memory_order_release); }

 private:
  std::atomic<int64_t> next_{0};
};

}  // namespace stm
