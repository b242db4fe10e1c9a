// Products of split bf16 on AMX tiles.
#pragma once

#if defined(__AMX_BF16__)

#include "cpu/prefetch.h"
#include "cpu/split_bf16.h"

namespace stm {
inline namespace STM_ISA {

// Configures the eight tiles of a thread, as every thread must before it multiplies: 2 x 3 tiles of sums, one of rows,
// one of columns.
class TileConfig {
 public:
  TileConfig() {
    struct {
      uint8_t palette = 1, start = 0, reserved[14] = {};
      uint16_t bytes[16] = {};
      uint8_t rows[16] = {};
    } config;
    for (int tile = 0; tile < 8; ++tile) {
      config.bytes[tile] = 64;
      config.rows[tile] = 16;
    }
    // GCC 12 does not know that the instruction reads the whole struct.
    __asm__ volatile("" : : "r"(&config) : "memory");
    _tile_loadconfig(&config);
  }
  TileConfig(const TileConfig&) = delete;
  TileConfig& operator=(const TileConfig&) = delete;
  ~TileConfig() { _tile_release(); }
};

constexpr int64_t kSumBytes = kWidth * 4;

// Tiles 0 to 5 are the sums of kBf16BlockRows rows: 0, 1, 2 of the upper half, 3, 4, 5 of the lower.
STM_INLINE void zero_sums() {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_zero(4);
  _tile_zero(5);
}

STM_INLINE void load_sums(const float* sums) {
  const float* const lower = sums + kBf16TileRows * kWidth;
  _tile_loadd(0, sums, kSumBytes);
  _tile_loadd(1, sums + kLanes, kSumBytes);
  _tile_loadd(2, sums + 2 * kLanes, kSumBytes);
  _tile_loadd(3, lower, kSumBytes);
  _tile_loadd(4, lower + kLanes, kSumBytes);
  _tile_loadd(5, lower + 2 * kLanes, kSumBytes);
}

STM_INLINE void store_sums(float* sums) {
  float* const lower = sums + kBf16TileRows * kWidth;
  _tile_stored(0, sums, kSumBytes);
  _tile_stored(1, sums + kLanes, kSumBytes);
  _tile_stored(2, sums + 2 * kLanes, kSumBytes);
  _tile_stored(3, lower, kSumBytes);
  _tile_stored(4, lower + kLanes, kSumBytes);
  _tile_stored(5, lower + 2 * kLanes, kSumBytes);
}

// Adds the products of kBf16BlockRows rows and all columns over one step.
STM_INLINE void multiply_step(const uint16_t* upper_rows, const uint16_t* lower_rows, const uint16_t* columns) {
  _tile_loadd(6, upper_rows, kBf16TileSteps * 2);
  _tile_loadd(7, columns, kSumBytes);
  _tile_dpbf16ps(0, 6, 7);
  _tile_loadd(7, columns + 2 * kLanes, kSumBytes);
  _tile_dpbf16ps(1, 6, 7);
  _tile_loadd(7, columns + 4 * kLanes, kSumBytes);
  _tile_dpbf16ps(2, 6, 7);
  _tile_loadd(6, lower_rows, kBf16TileSteps * 2);
  _tile_dpbf16ps(5, 6, 7);
  _tile_loadd(7, columns + 2 * kLanes, kSumBytes);
  _tile_dpbf16ps(4, 6, 7);
  _tile_loadd(7, columns, kSumBytes);
  _tile_dpbf16ps(3, 6, 7);
}

constexpr int64_t kCachedSteps =
    2;  // steps of the reduction whose rows and columns fit the first-level cache, all parts

// Adds the products of kBf16BlockRows rows and all columns over `steps` steps.
template <int kParts>
STM_INLINE void add_steps(const uint16_t* upper, const uint16_t* lower, const uint16_t* columns, int64_t steps,
                          Prefetch& prefetch) {
  for (int64_t first = 0; first < steps; first += kCachedSteps) {
    const int64_t last = smaller(first + kCachedSteps, steps);
    // Smallest products first: their rounding errors then add little to that of the largest.
    for (int order = kParts - 1; order >= 0; --order) {
      for (int a = 0; a <= order; ++a) {
        for (int64_t k = first; k < last; ++k) {
          const int64_t part = (k * kParts + a) * kRowTileSize;
          multiply_step(upper + part, lower + part, columns + (k * kParts + order - a) * kColumnTileSize);
          prefetch.advance();
        }
      }
    }
  }
}

// sums[row][kWidth] (+)= rows * columns for blocks of kBf16BlockRows rows, over some segments of the reduction, each of
// `length` times kBf16TileSteps steps. Rows hold only these segments, one after another, in space for `capacity` times
// kBf16TileSteps steps; columns hold all, and `places` are the indices of the segments in them.
template <int kParts, bool kAdd>
void multiply_bf16_segments(const uint16_t* rows, const uint16_t* columns, int64_t blocks, int64_t capacity,
                            const int64_t* places, int64_t segments, int64_t length, float* sums, Prefetch prefetch) {
  const int64_t half = capacity * kRowTileSize * kParts;
  // GCC 12 does not know that the tile loads read what was just packed.
  __asm__ volatile("" : : : "memory");
  for (int64_t block = 0; block < blocks; ++block, rows += 2 * half, sums += kBf16BlockRows * kWidth) {
    if (kAdd) {
      load_sums(sums);
    } else {
      zero_sums();
    }
    for (int64_t s = 0; s < segments; ++s) {
      const uint16_t* const upper = rows + s * length * kRowTileSize * kParts;
      add_steps<kParts>(upper, upper + half, columns + places[s] * length * kColumnTileSize * kParts, length, prefetch);
    }
    store_sums(sums);
  }
}

}  // namespace STM_ISA
}  // namespace stm

#endif
