// Compiled once for every instruction set; STM_ISA names it.
#include "cpu/engine.h"

#include <type_traits>

#include "cpu/backward.h"
#include "cpu/float_tiles.h"
#include "cpu/forward.h"
#include "cpu/pair_tiles.h"
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

// A kind of scores, and of the tiles and products that reads and their backward passes make with the values.
template <class KeysKind, class TilesKind, class UnitKind>
struct Kinds {
  using Keys = KeysKind;
  using Tiles = TilesKind;
  using Unit = UnitKind;
};

// Calls `f` with the kinds that serve these scores with these values best.
template <class F>
void with_kinds(const Scores& scores, [[maybe_unused]] const ObjectMatrix& value, F f) {
  with_scores(scores, [&](auto kind) {
    using Keys = typename decltype(kind)::type;
#if defined(__AVX512BF16__)
    if constexpr (std::is_same_v<Keys, PairScores<1>>) {
      if (value.dtype == Dtype::kBFloat16) return f(Kinds<Keys, PairTiles<1>, PairUnit<1>>());
    }
#endif
#if defined(__AMX_BF16__)
    // A read's tiles hold keys in three parts too: further parts of finite bfloat16 keys are zero and change nothing.
    f(Kinds<Keys, PairTiles<3>, PairUnit<3>>());
#else
    f(Kinds<Keys, FloatTiles<Keys>, FloatUnit>());
#endif
  });
}

void forward(const Forward& read, const Threads& threads) {
  with_kinds(read.scores, read.value,
             [&](auto kinds) { DenseRead<typename decltype(kinds)::Tiles>(read, threads).run(threads); });
}

void backward(const Backward& read, const Threads& threads) {
  with_kinds(read.scores, read.value, [&](auto kinds) {
    using K = decltype(kinds);
    DenseBackward<typename K::Keys, typename K::Unit>(read, threads).run(threads);
  });
}

void usage(const Usage& sums, const Threads& threads) {
  with_scores(sums.scores, [&](auto scores) { UsageSum<typename decltype(scores)::type>(sums, threads).run(threads); });
}

void top_k(const TopK& read, const Threads& threads) {
  with_scores(read.scores, [&](auto scores) { TopKRead<typename decltype(scores)::type>(read, threads).run(threads); });
}

void top_k_backward(const TopKBackward& read, const Threads& threads) { TopKBackwardRead(read, threads).run(threads); }

#define STM_TEXT_OF(x) #x
#define STM_TEXT(x) STM_TEXT_OF(x)

}  // namespace

extern const Engine kEngine;
const Engine kEngine = {STM_TEXT(STM_ISA), forward, backward, usage, top_k, top_k_backward};

}  // namespace STM_ISA
}  // namespace stm
