// Products of split bf16 rows and columns: on AMX tiles where the instruction set has them, else in AVX-512 registers.
// Sums are float32, [row][kWidth].
#pragma once

#if defined(__AVX512BF16__)

#include "cpu/amx.h"
#include "cpu/avx512_bf16.h"

namespace stm {
inline namespace STM_ISA {

// sums[row][kWidth] (+)= rows * columns for blocks of kBf16BlockRows rows, over the whole reduction.
template <int kParts, bool kAdd>
void multiply_bf16(const uint16_t* rows, const uint16_t* columns, int64_t blocks, int64_t depth, float* sums,
                   Prefetch prefetch = {}) {
  const int64_t all = 0, steps = divide_up(depth, kBf16TileSteps);
  multiply_bf16_segments<kParts, kAdd>(rows, columns, blocks, steps, &all, 1, steps, sums, prefetch);
}

}  // namespace STM_ISA
}  // namespace stm

#endif
