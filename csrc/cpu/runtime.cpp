#include "cpu/runtime.h"

#include <chrono>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <new>
#include <thread>

namespace stm {

namespace {

constexpr std::size_t kLine = 64;

// A worker whose turn does not come looks so often, which is some tenths of a millisecond, and then naps between looks:
// whoever it waits for may be without a core.
constexpr int kLooks = 500;
constexpr std::chrono::microseconds kNap{50};

struct Crew {
  Tasks& tasks;
  void (*work)(void*, Tasks&);
  void* context;
  std::mutex mutex;
  std::exception_ptr failure;
};

void run_worker(void* context, int) {
  Crew& crew = *static_cast<Crew*>(context);
  try {
    crew.work(crew.context, crew.tasks);
  } catch (...) {
    crew.tasks.fail();
    const std::lock_guard<std::mutex> lock(crew.mutex);
    if (!crew.failure) crew.failure = std::current_exception();
  }
}

}  // namespace

void* allocate(std::size_t bytes) {
  if (bytes == 0) return nullptr;
  void* memory = std::aligned_alloc(kLine, (bytes + kLine - 1) / kLine * kLine);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

void release(void* memory) { std::free(memory); }

void Tasks::run(const Threads& threads, void (*work)(void*, Tasks&), void* context) {
  Crew crew{*this, work, context, {}, nullptr};
  const int64_t workers = count_ < threads.workers ? count_ : threads.workers;
  if (workers <= 1 || threads.run == nullptr) {
    run_worker(&crew, 0);
  } else {
    threads.run(static_cast<int>(workers), run_worker, &crew);
  }
  if (crew.failure) std::rethrow_exception(crew.failure);
}

void Tasks::fail() {
  next_.store(count_, std::memory_order_relaxed);
  failed_.store(true, std::memory_order_release);
}

bool Turns::wait(int64_t turn, const Tasks& tasks) const {
  for (int looks = 0; turn_.load(std::memory_order_acquire) != turn; ++looks) {
    if (tasks.failed()) return false;
    if (looks < kLooks) {
      std::this_thread::yield();
    } else {
      std::this_thread::sleep_for(kNap);
    }
  }
  return true;
}

}  // namespace stm
