// What one core can multiply and add a second, in registers alone: the yardstick of benchmarks.
#pragma once

#include "cpu/block.h"
#include "cpu/pairs.h"

namespace stm {
inline namespace STM_ISA {

// Runs `rounds` rounds on kRows x kVectors independent sums of float32; returns the floating-point operations done.
inline double multiply_add_float(int64_t rounds, float* sink) {
  Block sum;
  // Different numbers, and ones that the compiler cannot know: equal sums would be computed once.
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) sum[r][v] = rounded(broadcast(static_cast<float>(kVectors * r + v)));
  }
  const Floats x = rounded(broadcast(0.999f)), y = rounded(broadcast(1e-3f));
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 3
      for (int v = 0; v < kVectors; ++v) sum[r][v] = sum[r][v] * x + y;
    }
  }
  for (int r = 0; r < kRows; ++r) *sink += sum[r][0][0] + sum[r][1][0] + sum[r][2][0];
  return 2.0 * kRows * kWidth * static_cast<double>(rounds);
}

#if defined(__AVX512BF16__)
// The same for products of bfloat16 pairs in vectors.
inline double multiply_add_pairs(int64_t rounds, float* sink) {
  __m512 sum[kRows * kVectors];
  for (int r = 0; r < kRows * kVectors; ++r) {
    sum[r] = reinterpret_cast<__m512>(rounded(broadcast(static_cast<float>(r))));
  }
  const __m512bh x = reinterpret_cast<__m512bh>(_mm512_set1_epi16(0x3c00));
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 24
    for (int r = 0; r < kRows * kVectors; ++r) sum[r] = _mm512_dpbf16_ps(sum[r], x, x);
  }
  for (int r = 0; r < kRows * kVectors; ++r) *sink += sum[r][0];
  return 4.0 * kRows * kWidth * static_cast<double>(rounds);
}
#endif

#if defined(__AMX_BF16__)
// The same for tiles of bfloat16.
inline double multiply_add_tiles(int64_t rounds, float* sink) {
  const TileUnit unit;
  alignas(64) uint16_t zeros[kRowTile] = {};
  __asm__ volatile("" : : "r"(zeros) : "memory");
  _tile_loadd(6, zeros, 64);
  _tile_loadd(7, zeros, 64);
  zero_sums();
  for (int64_t i = 0; i < rounds; ++i) {
    _tile_dpbf16ps(0, 6, 7);
    _tile_dpbf16ps(1, 6, 7);
    _tile_dpbf16ps(2, 6, 7);
    _tile_dpbf16ps(3, 6, 7);
    _tile_dpbf16ps(4, 6, 7);
    _tile_dpbf16ps(5, 6, 7);
  }
  alignas(64) float sums[kPairRows * kLanes];
  _tile_stored(0, sums, 64);
  *sink += sums[0];
  return 6.0 * 2 * kPairRows * kLanes * kPairDepth * static_cast<double>(rounds);
}
#endif

}  // namespace STM_ISA
}  // namespace stm
