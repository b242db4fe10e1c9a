// Products of bfloat16 in AVX-512 registers, for machines without AMX.
#pragma once

#if defined(__AVX512BF16__) && !defined(__AMX_BF16__)

#include "cpu/block.h"
#include "cpu/prefetch.h"
#include "cpu/split_bf16.h"

namespace stm {
inline namespace STM_ISA {

// Configures nothing: registers need no setup.
class TileConfig {
 public:
  TileConfig() {}
};

// Adds the products of kRows rows, kBf16TileSteps apart, and all columns over `steps` steps.
STM_INLINE void add_steps(const uint16_t* rows, const uint16_t* columns, int64_t steps, Block& sum,
                          Prefetch& prefetch) {
  for (int64_t k = 0; k < steps; ++k, rows += kRowTileSize) {
    prefetch.advance();
    for (int64_t pair = 0; pair < kBf16TileSteps / 2; ++pair, columns += 2 * kWidth) {
      const __m512bh b0 = reinterpret_cast<__m512bh>(_mm512_loadu_si512(columns));
      const __m512bh b1 = reinterpret_cast<__m512bh>(_mm512_loadu_si512(columns + 2 * kLanes));
      const __m512bh b2 = reinterpret_cast<__m512bh>(_mm512_loadu_si512(columns + 4 * kLanes));
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        int32_t pair_bits;
        std::memcpy(&pair_bits, rows + r * kBf16TileSteps + 2 * pair, sizeof(pair_bits));
        const __m512bh x = reinterpret_cast<__m512bh>(_mm512_set1_epi32(pair_bits));
        sum[r][0] = reinterpret_cast<Floats>(_mm512_dpbf16_ps(reinterpret_cast<__m512>(sum[r][0]), x, b0));
        sum[r][1] = reinterpret_cast<Floats>(_mm512_dpbf16_ps(reinterpret_cast<__m512>(sum[r][1]), x, b1));
        sum[r][2] = reinterpret_cast<Floats>(_mm512_dpbf16_ps(reinterpret_cast<__m512>(sum[r][2]), x, b2));
      }
    }
  }
}

// Returns where a group of kRows rows begins in rows packed with `steps` steps.
constexpr int64_t row_group(int64_t group, int64_t steps) {
  return group * kRows / kBf16TileRows * steps * kRowTileSize + group * kRows % kBf16TileRows * kBf16TileSteps;
}

// sums[row][kWidth] (+)= rows * columns for blocks of kBf16BlockRows rows, over some segments of the reduction, each of
// `length` times kBf16TileSteps steps. Rows hold only these segments, one after another, in space for `capacity` times
// kBf16TileSteps steps; columns hold all, and `places` are the indices of the segments in them.
template <int kParts, bool kAdd>
void multiply_bf16_segments(const uint16_t* rows, const uint16_t* columns, int64_t blocks, int64_t capacity,
                            const int64_t* places, int64_t segments, int64_t length, float* sums, Prefetch prefetch) {
  static_assert(kParts == 1, "split bf16 is faster than float32 on AMX only");
  for (int64_t group = 0; group < blocks * (kBf16BlockRows / kRows); ++group, sums += kRows * kWidth) {
    Block sum;
    if (kAdd) {
      load_block(sums, sum);
    } else {
      clear(sum);
    }
    const uint16_t* from = rows + row_group(group, capacity);
    for (int64_t s = 0; s < segments; ++s, from += length * kRowTileSize) {
      add_steps(from, columns + places[s] * length * kColumnTileSize, length, sum, prefetch);
    }
    store_block(sum, sums);
  }
}

}  // namespace STM_ISA
}  // namespace stm

#endif
