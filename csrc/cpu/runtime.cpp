#include "cpu/runtime.h"

#include <chrono>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <new>
#include <thread>

namespace stm {

namespace {

constexpr std::size_t kCacheLine = 64;

// A worker that waits to enter a reduction checks so often, for some tenths of a millisecond, and then sleeps between
// checks: the worker before it may be without a core.
constexpr int kSpins = 500;
constexpr std::chrono::microseconds kSleep{50};

struct Run {
  TaskQueue tasks;
  void (*work)(void*, TaskQueue&);
  void* context;
  std::mutex mutex;
  std::exception_ptr failure;
};

void run_worker(void* context, int) {
  Run& run = *static_cast<Run*>(context);
  try {
    run.work(run.context, run.tasks);
  } catch (...) {
    run.tasks.fail();
    const std::lock_guard<std::mutex> lock(run.mutex);
    if (!run.failure) run.failure = std::current_exception();
  }
}

}  // namespace

void* allocate(std::size_t bytes) {
  if (bytes == 0) return nullptr;
  void* memory = std::aligned_alloc(kCacheLine, (bytes + kCacheLine - 1) / kCacheLine * kCacheLine);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

void release(void* memory) { std::free(memory); }

void run_workers(const Threads& threads, int64_t count, void (*work)(void*, TaskQueue&), void* context) {
  Run run{TaskQueue(count), work, context, {}, nullptr};
  const int64_t workers = count < threads.workers ? count : threads.workers;
  if (workers <= 1 || threads.run == nullptr) {
    run_worker(&run, 0);
  } else {
    threads.run(static_cast<int>(workers), run_worker, &run);
  }
  if (run.failure) std::rethrow_exception(run.failure);
}

void TaskQueue::fail() {
  next_.store(count_, std::memory_order_relaxed);
  failed_.store(true, std::memory_order_release);
}

bool OrderedReduction::enter(int64_t task, const TaskQueue& tasks) const {
  for (int spins = 0; next_.load(std::memory_order_acquire) != task; ++spins) {
    if (tasks.failed()) return false;
    if (spins < kSpins) {
      std::this_thread::yield();
    } else {
      std::this_thread::sleep_for(kSleep);
    }
  }
  return true;
}

}  // namespace stm
