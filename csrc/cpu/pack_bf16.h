// Packing: from any dtype and strides to the split bf16 rows and columns of split_bf16.h.
#pragma once

#include "cpu/split_bf16.h"

#if defined(__AVX512BF16__)

namespace stm {
inline namespace STM_ISA {

constexpr int64_t kMaxGatherStride = int64_t{1} << 24;  // in elements; gathers have 32-bit offsets

STM_INLINE __m512 load16(const float* x) { return _mm512_loadu_ps(x); }
STM_INLINE __m512 load16(const BFloat16* x) {
  const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x)));
  return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
STM_INLINE __m512 load16(const Float16* x) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x)));
}

STM_INLINE __m512 load16(const float* x, int64_t stride) {
  const __m512i lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  return _mm512_i32gather_ps(_mm512_mullo_epi32(lanes, _mm512_set1_epi32(static_cast<int32_t>(stride))), x, 4);
}
template <class T>
STM_INLINE __m512 load16(const T* x, int64_t stride) {
  float values[16];
  for (int64_t i = 0; i < 16; ++i) values[i] = to_float(x[i * stride]);
  return _mm512_loadu_ps(values);
}

// Loads up to 16 numbers `stride` apart and fills up with zeros.
template <class T>
STM_INLINE __m512 gather16(const T* x, int64_t count, int64_t stride) {
  if (count == 0) return _mm512_setzero_ps();
  if (count == 16 && stride == 1) return load16(x);
  if (count == 16 && stride > 0 && stride < kMaxGatherStride) return load16(x, stride);
  float values[16] = {};
  for (int64_t i = 0; i < count; ++i) values[i] = to_float(x[i * stride]);
  return _mm512_loadu_ps(values);
}

// Transposes a square of 16 x 16 pairs of bfloat16 numbers.
STM_INLINE void transpose_pairs(const uint16_t* from, uint16_t* to) {
  __m512i x[16], y[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) x[i] = _mm512_loadu_si512(from + 32 * i);
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    y[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]);
    y[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    x[i] = _mm512_unpacklo_epi64(y[i], y[i + 2]);
    x[i + 1] = _mm512_unpackhi_epi64(y[i], y[i + 2]);
    x[i + 2] = _mm512_unpacklo_epi64(y[i + 1], y[i + 3]);
    x[i + 3] = _mm512_unpackhi_epi64(y[i + 1], y[i + 3]);
  }
  // Quarter q of x[4 i + j] is now column 4 q + j of rows 4 i to 4 i + 3.
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    y[j] = _mm512_shuffle_i32x4(x[j], x[4 + j], 0x88);
    y[4 + j] = _mm512_shuffle_i32x4(x[j], x[4 + j], 0xdd);
    y[8 + j] = _mm512_shuffle_i32x4(x[8 + j], x[12 + j], 0x88);
    y[12 + j] = _mm512_shuffle_i32x4(x[8 + j], x[12 + j], 0xdd);
  }
#pragma GCC unroll 8
  for (int j = 0; j < 8; ++j) {
    _mm512_storeu_si512(to + 32 * j, _mm512_shuffle_i32x4(y[j], y[8 + j], 0x88));
    _mm512_storeu_si512(to + 32 * (8 + j), _mm512_shuffle_i32x4(y[j], y[8 + j], 0xdd));
  }
}

// Packs rows `stride` apart whose steps are `depth_stride` apart.
template <int kParts, class T>
void pack_bf16_rows(const T* x, int64_t rows, int64_t stride, int64_t depth, int64_t depth_stride, uint16_t* out) {
  for (int64_t first = 0; first < round_up(rows, kBf16BlockRows); first += kBf16TileRows) {
    const int64_t count = larger<int64_t>(0, smaller(kBf16TileRows, rows - first));
    for (int64_t k = 0; k < depth; k += kBf16TileSteps, out += kRowTileSize * kParts) {
      const int64_t steps = smaller(kBf16TileSteps, depth - k);
      const T* const from = x + first * stride + k * depth_stride;
      if (depth_stride == 1) {
        for (int64_t r = 0; r < kBf16TileRows; ++r) {
          const bool in_range = r < count;
          const T* const row = from + (in_range ? r * stride : 0);
          uint16_t* const to = out + r * kBf16TileSteps;
          store_row<kParts>(gather16(row, in_range ? smaller<int64_t>(16, steps) : 0, 1), to);
          store_row<kParts>(gather16(row + 16, in_range ? larger<int64_t>(0, steps - 16) : 0, 1), to + 16);
        }
      } else {
        uint16_t pairs[kParts][kBf16TileSteps / 2][kBf16TileRows][2];
        for (int64_t s = 0; s < kBf16TileSteps; s += 2) {
          const __m512 even = gather16(from + (s < steps ? s * depth_stride : 0), s < steps ? count : 0, stride);
          const __m512 odd =
              gather16(from + (s + 1 < steps ? (s + 1) * depth_stride : 0), s + 1 < steps ? count : 0, stride);
          __m512i parts[kParts];
          split_pairs<kParts>(even, odd, parts);
#pragma GCC unroll 3
          for (int part = 0; part < kParts; ++part) _mm512_storeu_si512(pairs[part][s / 2], parts[part]);
        }
        for (int part = 0; part < kParts; ++part) transpose_pairs(pairs[part][0][0], out + part * kRowTileSize);
      }
    }
  }
}

// Packs up to kWidth columns, times `factor`.
template <int kParts, class T>
void pack_bf16_columns(const T* x, int64_t columns, int64_t stride, int64_t depth, int64_t depth_stride, float factor,
                       uint16_t* out) {
  const __m512 factors = _mm512_set1_ps(factor);
  for (int64_t k = 0; k < round_up(depth, kBf16TileSteps); k += 2) {
    uint16_t* const to = out + k / kBf16TileSteps * kColumnTileSize * kParts + k % kBf16TileSteps * kWidth;
    for (int v = 0; v < kVectors; ++v) {
      const int64_t count = larger<int64_t>(0, smaller<int64_t>(kLanes, columns - v * kLanes));
      const T* const from = x + (count > 0 ? v * kLanes * stride : 0);
      const __m512 even = gather16(from + (k < depth ? k * depth_stride : 0), k < depth ? count : 0, stride);
      const __m512 odd =
          gather16(from + (k + 1 < depth ? (k + 1) * depth_stride : 0), k + 1 < depth ? count : 0, stride);
      store_columns<kParts>(_mm512_mul_ps(even, factors), _mm512_mul_ps(odd, factors), to + v * 2 * kLanes);
    }
  }
}

}  // namespace STM_ISA
}  // namespace stm

#endif
