// Compiled once for each instruction set, whose name is STM_ISA.
#include "cpu/engine.h"

#include <type_traits>

#include "cpu/backward.h"
#include "cpu/bf16_forward_tile.h"
#include "cpu/bf16_gemm.h"
#include "cpu/float32_forward_tile.h"
#include "cpu/float32_gemm.h"
#include "cpu/forward.h"
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

// Calls `f` with the score tile to use, which is the same for all passes over a memory.
template <class F>
void with_score_tile([[maybe_unused]] const Scores& scores, F f) {
#if defined(__AVX512BF16__)
  if (scores.query.dtype == Dtype::kBFloat16 && scores.key.dtype == Dtype::kBFloat16) {
    return f(Type<Bf16ScoreTile<1>>());
  }
#endif
#if defined(__AMX_BF16__)
  return f(Type<Bf16ScoreTile<3>>());
#else
  return f(Type<Float32ScoreTile>());
#endif
}

// The classes that a read and its backward pass are made of.
template <class ScoreTileClass, class ForwardTileClass, class GemmClass>
struct Kernels {
  using ScoreTile = ScoreTileClass;
  using ForwardTile = ForwardTileClass;
  using Gemm = GemmClass;
};

// Calls `f` with the kernels to use for these scores and values.
template <class F>
void with_kernels(const Scores& scores, [[maybe_unused]] const ObjectMatrix& value, F f) {
  with_score_tile(scores, [&](auto type) {
    using ScoreTile = typename decltype(type)::type;
#if defined(__AVX512BF16__)
    if constexpr (std::is_same_v<ScoreTile, Bf16ScoreTile<1>>) {
      if (value.dtype == Dtype::kBFloat16) return f(Kernels<ScoreTile, Bf16ForwardTile<1>, Bf16Gemm<1>>());
    }
#endif
#if defined(__AMX_BF16__)
    // The forward tile splits bfloat16 keys into three parts as well: the second and third are zero and change nothing.
    f(Kernels<ScoreTile, Bf16ForwardTile<3>, Bf16Gemm<3>>());
#else
    f(Kernels<ScoreTile, Float32ForwardTile<ScoreTile>, Float32Gemm>());
#endif
  });
}

void forward(const Forward& read, const Threads& threads) {
  with_kernels(read.scores, read.value,
               [&](auto kernels) { DenseRead<typename decltype(kernels)::ForwardTile>(read, threads).run(threads); });
}

void backward(const Backward& read, const Threads& threads) {
  with_kernels(read.scores, read.value, [&](auto kernels) {
    using K = decltype(kernels);
    DenseBackward<typename K::ScoreTile, typename K::Gemm>(read, threads).run(threads);
  });
}

void usage(const Usage& sums, const Threads& threads) {
  with_score_tile(sums.scores, [&](auto type) { UsageSum<typename decltype(type)::type>(sums, threads).run(threads); });
}

void top_k(const TopK& read, const Threads& threads) {
  with_score_tile(read.scores, [&](auto type) { TopKRead<typename decltype(type)::type>(read, threads).run(threads); });
}

void top_k_backward(const TopKBackward& read, const Threads& threads) { TopKBackwardPass(read, threads).run(threads); }

#define STM_TEXT_OF(x) #x
#define STM_TEXT(x) STM_TEXT_OF(x)

}  // namespace

extern const Engine kEngine;
const Engine kEngine = {STM_TEXT(STM_ISA), forward, backward, usage, top_k, top_k_backward};

}  // namespace STM_ISA
}  // namespace stm
