// The one product that everything is made of: a block of kRows x kWidth sums that stay in registers.
#pragma once

#include "cpu/simd.h"

namespace stm {
inline namespace STM_ISA {

typedef Floats Block[kRows][kVectors];

STM_INLINE void clear(Block& sum) {
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 3
    for (int v = 0; v < kVectors; ++v) sum[r][v] = broadcast(0.0f);
  }
}

STM_INLINE void load_block(const float* x, Block& sum) {
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 3
    for (int v = 0; v < kVectors; ++v) sum[r][v] = load(x + r * kWidth + v * kLanes);
  }
}

STM_INLINE void store_block(const Block& sum, float* x) {
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 3
    for (int v = 0; v < kVectors; ++v) store(x + r * kWidth + v * kLanes, sum[r][v]);
  }
}

// x = (x times `rescale` by column, where given) + sum.
//
// Long sums are made of partial sums in this way: a number that is added to a sum is rounded to the last place of the
// sum, so adding few large numbers loses less than adding many small ones.
STM_INLINE void add_block(const Block& sum, const Floats* rescale, float* x) {
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 3
    for (int v = 0; v < kVectors; ++v) {
      float* const place = x + r * kWidth + v * kLanes;
      store(place, sum[r][v] + (rescale ? load(place) * rescale[v] : load(place)));
    }
  }
}

// sum[r][c] += over k of a[k][r] * b[k][c], for packed a (kRows wide) and b (kWidth wide).
STM_INLINE void multiply(const float* a, const float* b, int64_t depth, Block& sum) {
  for (int64_t k = 0; k < depth; ++k, a += kRows, b += kWidth) {
    const Floats b0 = load(b), b1 = load(b + kLanes), b2 = load(b + 2 * kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const Floats x = broadcast(a[r]);
      sum[r][0] += x * b0;
      sum[r][1] += x * b1;
      sum[r][2] += x * b2;
    }
  }
}

// c[g] = (c[g] times `rescale` by column, where given) + a[g] * b, for `groups` groups of kRows rows; c is dense.
inline void accumulate(const float* a, const float* b, int64_t groups, int64_t depth, const Floats* rescale, float* c) {
  for (int64_t g = 0; g < groups; ++g, a += depth * kRows, c += kRows * kWidth) {
    Block sum;
    clear(sum);
    multiply(a, b, depth, sum);
    add_block(sum, rescale, c);
  }
}

// c[g] = a[g] * b.
inline void product(const float* a, const float* b, int64_t groups, int64_t depth, float* c) {
  for (int64_t g = 0; g < groups; ++g, a += depth * kRows, c += kRows * kWidth) {
    Block sum;
    clear(sum);
    multiply(a, b, depth, sum);
    store_block(sum, c);
  }
}

}  // namespace STM_ISA
}  // namespace stm
