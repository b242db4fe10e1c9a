// The C interface of the CPU kernels. `engine` is an index among `stm_fast_instruction_sets`.
#include <cstdint>
#include <string>

#include "bindings/interface.h"
#include "cpu/supported_engines.h"

namespace {

// As torch_parallel_for of torch's stable ABI: calls `body` for parts of begin..end, of at least `grain` each, on
// threads of its own.
using ParallelFor = int32_t (*)(int64_t begin, int64_t end, int64_t grain, void (*body)(int64_t, int64_t, void*),
                                void* context);
ParallelFor parallel_for = nullptr;

struct Workers {
  void (*body)(void* context, int worker);
  void* context;
};

void run_workers(int64_t begin, int64_t end, void* workers) {
  const Workers& all = *static_cast<const Workers*>(workers);
  for (int64_t worker = begin; worker < end; ++worker) all.body(all.context, static_cast<int>(worker));
}

void run(int workers, void (*body)(void*, int), void* context) {
  Workers all{body, context};
  if (!parallel_for || parallel_for(0, workers, 1, run_workers, &all) != 0) run_workers(0, workers, &all);
}

template <class Call>
const char* call(void (*const stm::Engine::*operation)(const Call&, const stm::Threads&), const Call* call, int engine,
                 int threads) {
  return stm::bindings::guarded([&] { (stm::engine(engine).*operation)(*call, {threads, run}); });
}

}  // namespace

// Whose threads the kernels use from now on; without it they use the caller's alone.
STM_EXPORT void stm_fast_use_threads(ParallelFor function) { parallel_for = function; }

STM_EXPORT const char* stm_fast_read(const stm::Forward* read, int engine, int threads) {
  return call(&stm::Engine::forward, read, engine, threads);
}

STM_EXPORT const char* stm_fast_read_backward(const stm::Backward* backward, int engine, int threads) {
  return call(&stm::Engine::backward, backward, engine, threads);
}

STM_EXPORT const char* stm_fast_usage(const stm::Usage* usage, int engine, int threads) {
  return call(&stm::Engine::usage, usage, engine, threads);
}

STM_EXPORT const char* stm_fast_top_k_read(const stm::TopK* top_k, int engine, int threads) {
  return call(&stm::Engine::top_k, top_k, engine, threads);
}

STM_EXPORT const char* stm_fast_top_k_read_backward(const stm::TopKBackward* backward, int engine, int threads) {
  return call(&stm::Engine::top_k_backward, backward, engine, threads);
}

// The instruction sets that this machine can execute, best first, with commas between them. Operations take an
// index among them.
STM_EXPORT const char* stm_fast_instruction_sets() {
  static const std::string names = [] {
    std::string joined;
    for (const stm::Engine* engine : stm::engines()) {
      if (!joined.empty()) joined += ',';
      joined += engine->name;
    }
    return joined;
  }();
  return names.c_str();
}
