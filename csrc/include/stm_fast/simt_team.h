// The threads of an emulated block. They take turns on one system thread, each until it waits, which is fast and always
// has the same order. Under a sanitizer they are system threads, so that it sees races.
#pragma once

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define STM_REAL_THREADS 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define STM_REAL_THREADS 1
#endif
#endif

#if defined(STM_REAL_THREADS)

#include <barrier>
#include <thread>
#include <vector>

namespace stm::simt {

using Gate = std::barrier<>;

// Runs `body(index)` for every index below `threads` and returns when all are done.
template <class Body>
void run_team(int threads, Body body) {
  std::vector<std::thread> team;
  for (int index = 0; index < threads; ++index) team.emplace_back([&, index] { body(index); });
  for (std::thread& member : team) member.join();
}

}  // namespace stm::simt

#else

#include <ucontext.h>

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

namespace stm::simt {

// Threads in a circle: when one waits, the next one runs.
class Team {
 public:
  template <class Body>
  Team(int threads, Body& body) : contexts_(static_cast<std::size_t>(threads)), next_(contexts_.size()) {
    body_ = &body;
    run_body_ = [](void* context, int index) { (*static_cast<Body*>(context))(index); };
    stacks_.reset(new char[contexts_.size() * kStackBytes]);
    for (std::size_t index = 0; index < contexts_.size(); ++index) {
      ucontext_t& context = contexts_[index];
      getcontext(&context);
      context.uc_stack.ss_sp = stacks_.get() + index * kStackBytes;
      context.uc_stack.ss_size = kStackBytes;
      context.uc_link = nullptr;
      makecontext(&context, begin, 0);
      next_[index] = (index + 1) % contexts_.size();
    }
  }

  void run() {
    current = this;
    left_ = contexts_.size();
    previous_ = left_ - 1;
    swapcontext(&home_, &contexts_[running_]);
  }

  // Called by the running thread when it waits.
  static void wait() {
    Team& team = *current;
    if (++team.idle_ > 2 * team.contexts_.size()) {
      std::fputs("every thread of the block waits for another\n", stderr);
      std::abort();
    }
    const std::size_t self = team.running_;
    team.previous_ = self;
    team.running_ = team.next_[self];
    if (team.running_ != self) swapcontext(&team.contexts_[self], &team.contexts_[team.running_]);
  }

  // Called by the running thread when others need no longer wait.
  static void progress() { current->idle_ = 0; }

 private:
  static constexpr std::size_t kStackBytes = 128 * 1024;

  static void begin() {
    Team& team = *current;
    team.run_body_(team.body_, static_cast<int>(team.running_));
    progress();
    if (--team.left_ == 0) setcontext(&team.home_);
    team.running_ = team.next_[team.previous_] = team.next_[team.running_];
    setcontext(&team.contexts_[team.running_]);
  }

  inline static thread_local Team* current = nullptr;

  std::vector<ucontext_t> contexts_;
  std::vector<std::size_t> next_;
  std::unique_ptr<char[]> stacks_;
  ucontext_t home_;
  void* body_;
  void (*run_body_)(void* context, int index);
  std::size_t left_ = 0;
  std::size_t running_ = 0;
  std::size_t previous_ = 0;
  std::size_t idle_ = 0;
};

template <class Body>
void run_team(int threads, Body body) {
  Team(threads, body).run();
}

// The barrier of these threads.
class Gate {
 public:
  explicit Gate(int threads) : threads_(threads) {}

  void arrive_and_wait() {
    const int round = round_;
    if (++arrived_ == threads_) {
      arrived_ = 0;
      ++round_;
      Team::progress();
      return;
    }
    while (round_ == round) Team::wait();
  }

 private:
  int threads_;
  int arrived_ = 0;
  int round_ = 0;
};

}  // namespace stm::simt

#endif
