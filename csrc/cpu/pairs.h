// Products in bfloat16 units: on tiles where the machine has them (AMX), else in vectors (AVX-512 BF16).
//
// A number is packed in kParts parts, each the rounded rest of those before it. One part is bfloat16 itself. Three hold
// all 24 bits of a float32, and the six products of parts that matter make that of two floats up to 2^-23: the rounding
// of float32, several times faster than its own multiply-add.
//
// Rows are packed as tiles of 16 rows by 32 steps of the reduction: [16 rows][32 steps][part][row][step]; columns as
// [32 steps][part][pair of steps][kWidth][2]. Both units read the same layout. Sums are float32, [row][kWidth].
#pragma once

#if defined(__AVX512BF16__)

#include "cpu/ahead.h"
#include "cpu/block.h"

namespace stm {
inline namespace STM_ISA {

constexpr int64_t kPairRows = 16;
constexpr int64_t kPairDepth = 32;
constexpr int64_t kRowTile = kPairRows * kPairDepth;
constexpr int64_t kColumnTile = kPairDepth * kWidth;
constexpr int64_t kMostGathered = int64_t{1} << 24;  // elements between lanes that are gathered
constexpr int64_t kPairBlock = 32;                   // rows that are multiplied at a time

// Elements of packed rows and columns.
template <int kParts>
constexpr int64_t pair_rows_size(int64_t rows, int64_t depth) {
  return round_up(rows, kPairBlock) * round_up(depth, kPairDepth) * kParts;
}
template <int kParts>
constexpr int64_t pair_columns_size(int64_t depth) {
  return round_up(depth, kPairDepth) * kWidth * kParts;
}

STM_INLINE __m512 load16(const float* x) { return _mm512_loadu_ps(x); }
STM_INLINE __m512 load16(const BFloat16* x) {
  const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x)));
  return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
STM_INLINE __m512 load16(const Float16* x) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x)));
}

// The next part of x, in the low half of each lane; x becomes the rest. Infinity has no rest. With more parts to come,
// a number that would round to infinity is cut instead.
template <bool kLast>
STM_INLINE __m512i take_part(__m512& x) {
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

// Parts of two steps side by side, `even` first: 16 pairs a part.
template <int kParts>
STM_INLINE void split_pairs(__m512 even, __m512 odd, __m512i (&out)[kParts]) {
#pragma GCC unroll 3
  for (int part = 0; part < kParts; ++part) {
    const bool last = part + 1 == kParts;
    const __m512i low = last ? take_part<true>(even) : take_part<false>(even);
    const __m512i high = last ? take_part<true>(odd) : take_part<false>(odd);
    out[part] = _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
  }
}

// Stores 16 columns of a pair of steps.
template <int kParts>
STM_INLINE void store_columns(__m512 even, __m512 odd, uint16_t* out) {
  __m512i pairs[kParts];
  split_pairs<kParts>(even, odd, pairs);
#pragma GCC unroll 3
  for (int part = 0; part < kParts; ++part) _mm512_storeu_si512(out + part * kColumnTile, pairs[part]);
}

// Stores the parts of 16 steps of one row.
template <int kParts>
STM_INLINE void put_parts(__m512 x, uint16_t* out) {
#pragma GCC unroll 3
  for (int part = 0; part < kParts; ++part) {
    const __m512i bits = part + 1 == kParts ? take_part<true>(x) : take_part<false>(x);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + part * kRowTile), _mm512_cvtepi32_epi16(bits));
  }
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

// Up to 16 numbers `stride` apart, zeros after them.
template <class T>
STM_INLINE __m512 gather16(const T* x, int64_t count, int64_t stride) {
  if (count == 0) return _mm512_setzero_ps();
  if (count == 16 && stride == 1) return load16(x);
  if (count == 16 && stride > 0 && stride < kMostGathered) return load16(x, stride);
  float values[16] = {};
  for (int64_t i = 0; i < count; ++i) values[i] = to_float(x[i * stride]);
  return _mm512_loadu_ps(values);
}

// Transposes a square of 16 x 16 pairs.
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
void pack_pair_rows(const T* x, int64_t rows, int64_t stride, int64_t depth, int64_t depth_stride, uint16_t* out) {
  for (int64_t first = 0; first < round_up(rows, kPairBlock); first += kPairRows) {
    const int64_t count = larger<int64_t>(0, smaller(kPairRows, rows - first));
    for (int64_t k = 0; k < depth; k += kPairDepth, out += kRowTile * kParts) {
      const int64_t steps = smaller(kPairDepth, depth - k);
      const T* const from = x + first * stride + k * depth_stride;
      if (depth_stride == 1) {
        for (int64_t r = 0; r < kPairRows; ++r) {
          const bool there = r < count;
          const T* const row = from + (there ? r * stride : 0);
          uint16_t* const to = out + r * kPairDepth;
          put_parts<kParts>(gather16(row, there ? smaller<int64_t>(16, steps) : 0, 1), to);
          put_parts<kParts>(gather16(row + 16, there ? larger<int64_t>(0, steps - 16) : 0, 1), to + 16);
        }
      } else {
        uint16_t pairs[kParts][kPairDepth / 2][kPairRows][2];
        for (int64_t s = 0; s < kPairDepth; s += 2) {
          const __m512 even = gather16(from + (s < steps ? s * depth_stride : 0), s < steps ? count : 0, stride);
          const __m512 odd =
              gather16(from + (s + 1 < steps ? (s + 1) * depth_stride : 0), s + 1 < steps ? count : 0, stride);
          __m512i parts[kParts];
          split_pairs<kParts>(even, odd, parts);
#pragma GCC unroll 3
          for (int part = 0; part < kParts; ++part) _mm512_storeu_si512(pairs[part][s / 2], parts[part]);
        }
        for (int part = 0; part < kParts; ++part) transpose_pairs(pairs[part][0][0], out + part * kRowTile);
      }
    }
  }
}

// Packs up to kWidth columns, times `factor`.
template <int kParts, class T>
void pack_pair_columns(const T* x, int64_t columns, int64_t stride, int64_t depth, int64_t depth_stride, float factor,
                       uint16_t* out) {
  const __m512 times = _mm512_set1_ps(factor);
  for (int64_t k = 0; k < round_up(depth, kPairDepth); k += 2) {
    uint16_t* const to = out + k / kPairDepth * kColumnTile * kParts + k % kPairDepth * kWidth;
    for (int v = 0; v < kVectors; ++v) {
      const int64_t count = larger<int64_t>(0, smaller<int64_t>(kLanes, columns - v * kLanes));
      const T* const from = x + (count > 0 ? v * kLanes * stride : 0);
      const __m512 even = gather16(from + (k < depth ? k * depth_stride : 0), k < depth ? count : 0, stride);
      const __m512 odd =
          gather16(from + (k + 1 < depth ? (k + 1) * depth_stride : 0), k + 1 < depth ? count : 0, stride);
      store_columns<kParts>(_mm512_mul_ps(even, times), _mm512_mul_ps(odd, times), to + v * 2 * kLanes);
    }
  }
}

#if defined(__AMX_BF16__)

// Eight tiles: 2 x 3 of sums, one of rows, one of columns. Every thread sets them up before it multiplies.
class TileUnit {
 public:
  TileUnit() {
    struct {
      uint8_t palette = 1, start = 0, reserved[14] = {};
      uint16_t bytes[16] = {};
      uint8_t rows[16] = {};
    } config;
    for (int tile = 0; tile < 8; ++tile) {
      config.bytes[tile] = 64;
      config.rows[tile] = 16;
    }
    // GCC 12 does not know that the instruction reads all of it.
    __asm__ volatile("" : : "r"(&config) : "memory");
    _tile_loadconfig(&config);
  }
  TileUnit(const TileUnit&) = delete;
  TileUnit& operator=(const TileUnit&) = delete;
  ~TileUnit() { _tile_release(); }
};

constexpr int64_t kSumBytes = kWidth * 4;

// Tiles 0 to 5 are the sums of kPairBlock rows: 0, 1, 2 of the upper half, 3, 4, 5 of the lower.
STM_INLINE void zero_sums() {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_zero(4);
  _tile_zero(5);
}

STM_INLINE void load_sums(const float* sums) {
  const float* const lower = sums + kPairRows * kWidth;
  _tile_loadd(0, sums, kSumBytes);
  _tile_loadd(1, sums + kLanes, kSumBytes);
  _tile_loadd(2, sums + 2 * kLanes, kSumBytes);
  _tile_loadd(3, lower, kSumBytes);
  _tile_loadd(4, lower + kLanes, kSumBytes);
  _tile_loadd(5, lower + 2 * kLanes, kSumBytes);
}

STM_INLINE void store_sums(float* sums) {
  float* const lower = sums + kPairRows * kWidth;
  _tile_stored(0, sums, kSumBytes);
  _tile_stored(1, sums + kLanes, kSumBytes);
  _tile_stored(2, sums + 2 * kLanes, kSumBytes);
  _tile_stored(3, lower, kSumBytes);
  _tile_stored(4, lower + kLanes, kSumBytes);
  _tile_stored(5, lower + 2 * kLanes, kSumBytes);
}

// Adds the products of one step of kPairBlock rows with that of all columns.
STM_INLINE void multiply_step(const uint16_t* upper_rows, const uint16_t* lower_rows, const uint16_t* columns) {
  _tile_loadd(6, upper_rows, kPairDepth * 2);
  _tile_loadd(7, columns, kSumBytes);
  _tile_dpbf16ps(0, 6, 7);
  _tile_loadd(7, columns + 2 * kLanes, kSumBytes);
  _tile_dpbf16ps(1, 6, 7);
  _tile_loadd(7, columns + 4 * kLanes, kSumBytes);
  _tile_dpbf16ps(2, 6, 7);
  _tile_loadd(6, lower_rows, kPairDepth * 2);
  _tile_dpbf16ps(5, 6, 7);
  _tile_loadd(7, columns + 2 * kLanes, kSumBytes);
  _tile_dpbf16ps(4, 6, 7);
  _tile_loadd(7, columns, kSumBytes);
  _tile_dpbf16ps(3, 6, 7);
}

constexpr int64_t kCachedSteps = 2;  // steps of the reduction whose parts, rows and columns, stay in the first cache

// Adds the products of `steps` steps of kPairBlock rows and all columns.
template <int kParts>
STM_INLINE void add_steps(const uint16_t* upper, const uint16_t* lower, const uint16_t* columns, int64_t steps,
                          Ahead& ahead) {
  for (int64_t first = 0; first < steps; first += kCachedSteps) {
    const int64_t last = smaller(first + kCachedSteps, steps);
    // The smallest products of these steps first: their rounding then adds little to that of the largest.
    for (int order = kParts - 1; order >= 0; --order) {
      for (int a = 0; a <= order; ++a) {
        for (int64_t k = first; k < last; ++k) {
          const int64_t part = (k * kParts + a) * kRowTile;
          multiply_step(upper + part, lower + part, columns + (k * kParts + order - a) * kColumnTile);
          ahead.fetch();
        }
      }
    }
  }
}

// sums[row][kWidth] (+)= rows * columns for blocks of kPairBlock rows, over some segments of the reduction, of `length`
// steps of kPairDepth each. Rows hold those segments only, one after another, with room for `room` steps; columns hold
// all, and `places` says which are meant.
template <int kParts, bool kAdd>
void multiply_segments(const uint16_t* rows, const uint16_t* columns, int64_t blocks, int64_t room,
                       const int64_t* places, int64_t segments, int64_t length, float* sums, Ahead ahead) {
  const int64_t half = room * kRowTile * kParts;
  // GCC 12 does not know that tiles are loaded from what was just packed.
  __asm__ volatile("" : : : "memory");
  for (int64_t block = 0; block < blocks; ++block, rows += 2 * half, sums += kPairBlock * kWidth) {
    if (kAdd) {
      load_sums(sums);
    } else {
      zero_sums();
    }
    for (int64_t s = 0; s < segments; ++s) {
      const uint16_t* const upper = rows + s * length * kRowTile * kParts;
      add_steps<kParts>(upper, upper + half, columns + places[s] * length * kColumnTile * kParts, length, ahead);
    }
    store_sums(sums);
  }
}

#else

// There is nothing to set up.
class TileUnit {
 public:
  TileUnit() {}
};

// Adds the products of `steps` steps of kRows rows, kPairDepth apart, and all columns.
STM_INLINE void add_steps(const uint16_t* rows, const uint16_t* columns, int64_t steps, Block& sum, Ahead& ahead) {
  for (int64_t k = 0; k < steps; ++k, rows += kRowTile) {
    ahead.fetch();
    for (int64_t pair = 0; pair < kPairDepth / 2; ++pair, columns += 2 * kWidth) {
      const __m512bh b0 = reinterpret_cast<__m512bh>(_mm512_loadu_si512(columns));
      const __m512bh b1 = reinterpret_cast<__m512bh>(_mm512_loadu_si512(columns + 2 * kLanes));
      const __m512bh b2 = reinterpret_cast<__m512bh>(_mm512_loadu_si512(columns + 4 * kLanes));
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        int32_t both;
        std::memcpy(&both, rows + r * kPairDepth + 2 * pair, sizeof(both));
        const __m512bh x = reinterpret_cast<__m512bh>(_mm512_set1_epi32(both));
        sum[r][0] = reinterpret_cast<Floats>(_mm512_dpbf16_ps(reinterpret_cast<__m512>(sum[r][0]), x, b0));
        sum[r][1] = reinterpret_cast<Floats>(_mm512_dpbf16_ps(reinterpret_cast<__m512>(sum[r][1]), x, b1));
        sum[r][2] = reinterpret_cast<Floats>(_mm512_dpbf16_ps(reinterpret_cast<__m512>(sum[r][2]), x, b2));
      }
    }
  }
}

// Where a group of kRows rows begins whose reduction has `steps` steps.
constexpr int64_t row_group(int64_t group, int64_t steps) {
  return group * kRows / kPairRows * steps * kRowTile + group * kRows % kPairRows * kPairDepth;
}

// sums[row][kWidth] (+)= rows * columns for blocks of kPairBlock rows, over some segments of the reduction, of `length`
// steps of kPairDepth each. Rows hold those segments only, one after another, with room for `room` steps; columns hold
// all, and `places` says which are meant.
template <int kParts, bool kAdd>
void multiply_segments(const uint16_t* rows, const uint16_t* columns, int64_t blocks, int64_t room,
                       const int64_t* places, int64_t segments, int64_t length, float* sums, Ahead ahead) {
  static_assert(kParts == 1, "splitting pays on tiles only");
  for (int64_t group = 0; group < blocks * (kPairBlock / kRows); ++group, sums += kRows * kWidth) {
    Block sum;
    if (kAdd) {
      load_block(sums, sum);
    } else {
      clear(sum);
    }
    const uint16_t* from = rows + row_group(group, room);
    for (int64_t s = 0; s < segments; ++s, from += length * kRowTile) {
      add_steps(from, columns + places[s] * length * kColumnTile, length, sum, ahead);
    }
    store_block(sum, sums);
  }
}

#endif

// sums[row][kWidth] (+)= rows * columns for blocks of kPairBlock rows, over a whole reduction.
template <int kParts, bool kAdd>
void multiply_pairs(const uint16_t* rows, const uint16_t* columns, int64_t blocks, int64_t depth, float* sums,
                    Ahead ahead = {}) {
  const int64_t all = 0, steps = divide_up(depth, kPairDepth);
  multiply_segments<kParts, kAdd>(rows, columns, blocks, steps, &all, 1, steps, sums, ahead);
}

}  // namespace STM_ISA
}  // namespace stm

#endif
