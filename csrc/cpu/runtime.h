// What the kernels need of the machine, the same for every instruction set: memory, tasks, turns.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "stm_fast/read.h"

namespace stm {

// Memory aligned to cache lines. Throws std::bad_alloc where there is none.
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
    T* mine = data_;
    data_ = other.data_;
    other.data_ = mine;
  }

 private:
  T* data_ = nullptr;
};

// Work in equal pieces, handed out one after another to whichever worker asks.
//
// The first failure of a worker ends the work of all and is thrown by `run` again.
class Tasks {
 public:
  explicit Tasks(int64_t count) : count_(count) {}

  // Calls `work(context, tasks)` on every worker; each takes tasks until there are none.
  void run(const Threads& threads, void (*work)(void* context, Tasks& tasks), void* context);

  // The next task, or −1 when there are no more.
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

// Lets tasks finish in one order whatever the number of threads is, so that sums of their results do not depend on it.
class Turns {
 public:
  // Waits until it is `turn`'s turn; false if the work has failed. Turns are 0, 1, 2, ... and their tasks must have
  // been handed out in that order.
  bool wait(int64_t turn, const Tasks& tasks) const;
  void done() { turn_.fetch_add(1, std::memory_order_release); }

 private:
  std::atomic<int64_t> turn_{0};
};

}  // namespace stm
