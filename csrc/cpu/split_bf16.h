// Split bf16: a float32 number as the sum of kParts bfloat16 numbers, and the layout that products read.
//
// Each part is what remains of the number after the parts before it, rounded to bfloat16. One part is plain bfloat16.
// Three parts hold all 24 bits of a float32; the six largest of their nine products sum to the product of two float32
// numbers within 2^-23, which is float32's own rounding, several times faster than float32 multiply-adds.
//
// Rows are packed in tiles of 16 rows by 32 steps of the reduction, [16 rows][32 steps][part][row][step]; columns as
// [32 steps][part][pair of steps][kWidth][2]. AMX and AVX-512 BF16 read the same layout.
#pragma once

#if defined(__AVX512BF16__)

#include "cpu/simd.h"

namespace stm {
inline namespace STM_ISA {

constexpr int64_t kBf16TileRows = 16;
constexpr int64_t kBf16TileSteps = 32;
constexpr int64_t kRowTileSize = kBf16TileRows * kBf16TileSteps;
constexpr int64_t kColumnTileSize = kBf16TileSteps * kWidth;
constexpr int64_t kBf16BlockRows = 32;  // rows that are multiplied at a time

// Number of elements of packed rows and columns.
template <int kParts>
constexpr int64_t bf16_rows_size(int64_t rows, int64_t depth) {
  return round_up(rows, kBf16BlockRows) * round_up(depth, kBf16TileSteps) * kParts;
}
template <int kParts>
constexpr int64_t bf16_columns_size(int64_t depth) {
  return round_up(depth, kBf16TileSteps) * kWidth * kParts;
}

// Returns the next part of x, in the low half of each lane, and leaves the remainder in x. Infinity has no remainder.
// Unless the part is the last, a number that would round to infinity is truncated.
template <bool kLast>
STM_INLINE __m512i split_off_part(__m512& x) {
  __m512i part = _mm512_cvtepu16_epi32(reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(x)));
  if (!kLast) {
    const __m512i largest = _mm512_set1_epi32(0x7f7f7fff), magnitude = _mm512_set1_epi32(0x7fffffff);
    const __m512i bits = _mm512_castps_si512(x), size = _mm512_and_si512(bits, magnitude);
    const __mmask16 overflows =
        _mm512_cmpgt_epi32_mask(size, largest) & _mm512_cmplt_epi32_mask(size, _mm512_set1_epi32(0x7f800000));
    part = _mm512_mask_srli_epi32(part, overflows, bits, 16);
  }
  const __m512 rounded = _mm512_castsi512_ps(_mm512_slli_epi32(part, 16));
  const __mmask16 finite = _mm512_cmp_ps_mask(_mm512_abs_ps(rounded), _mm512_set1_ps(__builtin_inff()), _CMP_NEQ_UQ);
  x = _mm512_maskz_sub_ps(finite, x, rounded);
  return part;
}

// Splits 16 pairs of steps: each lane of a part holds both steps, `even` in the low half.
template <int kParts>
STM_INLINE void split_pairs(__m512 even, __m512 odd, __m512i (&out)[kParts]) {
#pragma GCC unroll 3
  for (int part = 0; part < kParts; ++part) {
    const bool last = part + 1 == kParts;
    const __m512i low = last ? split_off_part<true>(even) : split_off_part<false>(even);
    const __m512i high = last ? split_off_part<true>(odd) : split_off_part<false>(odd);
    out[part] = _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
  }
}

// Splits and stores a pair of steps of 16 columns.
template <int kParts>
STM_INLINE void store_columns(__m512 even, __m512 odd, uint16_t* out) {
  __m512i pairs[kParts];
  split_pairs<kParts>(even, odd, pairs);
#pragma GCC unroll 3
  for (int part = 0; part < kParts; ++part) _mm512_storeu_si512(out + part * kColumnTileSize, pairs[part]);
}

// Splits and stores 16 steps of one row.
template <int kParts>
STM_INLINE void store_row(__m512 x, uint16_t* out) {
#pragma GCC unroll 3
  for (int part = 0; part < kParts; ++part) {
    const __m512i bits = part + 1 == kParts ? split_off_part<true>(x) : split_off_part<false>(x);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + part * kRowTileSize), _mm512_cvtepi32_epi16(bits));
  }
}

}  // namespace STM_ISA
}  // namespace stm

#endif
