// Compiled once for every instruction set; STM_ISA names it.
#include "cpu/engine.h"

#include <type_traits>

#if defined(__AMX_BF16__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "cpu/backward.h"
#include "cpu/float_tiles.h"
#include "cpu/forward.h"
#include "cpu/pair_tiles.h"
#include "cpu/peak.h"
#include "cpu/top_k.h"
#include "cpu/top_k_backward.h"
#include "cpu/usage.h"

namespace stm {
inline namespace STM_ISA {

namespace {

template <class T>
struct Type {
  using type = T;
};

// Calls `f` with the kind of scores that serves best: one kind for all passes over a memory.
template <class F>
void with_scores([[maybe_unused]] const Scores& scores, F f) {
#if defined(__AVX512BF16__)
  if (scores.query.dtype == Dtype::kBFloat16 && scores.key.dtype == Dtype::kBFloat16) return f(Type<PairScores<1>>());
#endif
#if defined(__AMX_BF16__)
  return f(Type<PairScores<3>>());
#else
  return f(Type<ScoreTiles>());
#endif
}

void forward(const Forward& read, const Threads& threads) {
  with_scores(read.scores, [&](auto scores) {
    using Keys = typename decltype(scores)::type;
#if defined(__AVX512BF16__)
    if (std::is_same_v<Keys, PairScores<1>> && read.value.dtype == Dtype::kBFloat16) {
      return DenseRead<PairTiles<1>>(read, threads).run(threads);
    }
#endif
#if defined(__AMX_BF16__)
    // Further parts of bfloat16 keys are zero and change nothing.
    return DenseRead<PairTiles<3>>(read, threads).run(threads);
#else
    return DenseRead<FloatTiles<Keys>>(read, threads).run(threads);
#endif
  });
}

void backward(const Backward& read, const Threads& threads) {
  with_scores(read.scores, [&](auto scores) {
    using Keys = typename decltype(scores)::type;
#if defined(__AVX512BF16__)
    if (std::is_same_v<Keys, PairScores<1>> && read.value.dtype == Dtype::kBFloat16) {
      return DenseBackward<Keys, PairUnit<1>>(read, threads).run(threads);
    }
#endif
#if defined(__AMX_BF16__)
    return DenseBackward<Keys, PairUnit<3>>(read, threads).run(threads);
#else
    return DenseBackward<Keys, FloatUnit>(read, threads).run(threads);
#endif
  });
}

void usage(const Usage& sums, const Threads& threads) {
  with_scores(sums.scores, [&](auto scores) { UsageSum<typename decltype(scores)::type>(sums, threads).run(threads); });
}

void top_k(const TopK& read, const Threads& threads) {
  with_scores(read.scores, [&](auto scores) { TopKRead<typename decltype(scores)::type>(read, threads).run(threads); });
}

void top_k_backward(const TopKBackward& read, const Threads& threads) { TopKBackwardRead(read, threads).run(threads); }

double multiply_add(Peak peak, int64_t rounds) {
  float result = 0;
  double operations = 0;
  if (peak == Peak::kFloat32) operations = multiply_add_float(rounds, &result);
#if defined(__AVX512BF16__)
  if (peak == Peak::kBFloat16) operations = multiply_add_pairs(rounds, &result);
#endif
#if defined(__AMX_BF16__)
  if (peak == Peak::kTiles) operations = multiply_add_tiles(rounds, &result);
#endif
  __asm__ volatile("" : : "m"(result));
  return operations;
}

#if defined(__AMX_BF16__)
// Linux gives tiles to a process that asks for them; __builtin_cpu_supports does not know of them everywhere.
bool tiles_permitted() {
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  unsigned a, b, c, d;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  const bool tiles = d >> 24 & 1, products = d >> 22 & 1;
  return tiles && products && syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}
#endif

bool find_support() {
#if defined(__x86_64__)
  __builtin_cpu_init();
#if defined(__AMX_BF16__)
  if (!tiles_permitted()) return false;
#endif
#if defined(__AVX512BF16__)
  if (!__builtin_cpu_supports("avx512bf16")) return false;
#endif
#if defined(__AVX512F__)
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#elif defined(__AVX2__)
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
#endif
#endif
  return true;
}

bool supported() {
  static const bool known = find_support();
  return known;
}

#define STM_TEXT_OF(x) #x
#define STM_TEXT(x) STM_TEXT_OF(x)

}  // namespace

extern const Engine kEngine;
const Engine kEngine = {STM_TEXT(STM_ISA), supported, forward, backward, usage, top_k, top_k_backward, multiply_add};

}  // namespace STM_ISA
}  // namespace stm
