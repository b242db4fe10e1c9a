// The products of the backward pass in split bf16; otherwise as in float32_gemm.h. The score tile has configured AMX.
#pragma once

#include "cpu/multiply_bf16.h"
#include "cpu/pack_bf16.h"

#if defined(__AVX512BF16__)

namespace stm {
inline namespace STM_ISA {

template <int kParts>
class Bf16Gemm {
 public:
  using Number = uint16_t;
  static constexpr int64_t kRowGroup = kBf16BlockRows;

  static constexpr int64_t rows_size(int64_t rows, int64_t depth) { return bf16_rows_size<kParts>(rows, depth); }
  static constexpr int64_t columns_size(int64_t depth) { return bf16_columns_size<kParts>(depth); }

  static void pack_rows(const Matrix& x, int64_t start, int64_t count, int64_t stride, int64_t depth,
                        int64_t depth_stride, uint16_t* out) {
    with_type(x.dtype, [&](auto type) {
      pack_bf16_rows<kParts>(static_cast<const decltype(type)*>(x.data) + start, count, stride, depth, depth_stride,
                             out);
    });
  }

  static void pack_panel(const Matrix& x, int64_t start, int64_t count, int64_t stride, int64_t depth,
                         int64_t depth_stride, uint16_t* out) {
    with_type(x.dtype, [&](auto type) {
      pack_bf16_columns<kParts>(static_cast<const decltype(type)*>(x.data) + start, count, stride, depth, depth_stride,
                                1.0f, out);
    });
  }

  static void pack_tile(const float* tile, int64_t rows, int64_t first, int64_t depth, uint16_t* out) {
    for (int64_t r = 0; r < rows; ++r) {
      uint16_t* const row =
          out + r / kBf16TileRows * depth * kBf16TileRows * kParts + r % kBf16TileRows * kBf16TileSteps;
      for (int64_t v = 0; v < kVectors; ++v) {
        const __m512 steps = load16(tile + r * kWidth + v * kLanes);
        const int64_t step = first + v * kLanes;
        store_row<kParts>(steps, row + step / kBf16TileSteps * kRowTileSize * kParts + step % kBf16TileSteps);
      }
    }
  }

  static const uint16_t* pack_tile_columns(const float* tile, int64_t depth, uint16_t* workspace) {
    pack_bf16_columns<kParts>(tile, kWidth, int64_t{1}, depth, kWidth, 1.0f, workspace);
    return workspace;
  }

  template <bool kAdd>
  static void multiply(const uint16_t* rows, const uint16_t* columns, int64_t count, int64_t depth, float* sums,
                       Prefetch prefetch) {
    multiply_bf16<kParts, kAdd>(rows, columns, divide_up(count, kBf16BlockRows), depth, sums, prefetch);
  }

  // Capacities and lengths are multiples of kBf16TileSteps.
  static void add_segments(const uint16_t* rows, const uint16_t* columns, int64_t count, int64_t capacity,
                           const int64_t* places, int64_t segments, int64_t length, float* sums, Prefetch prefetch) {
    multiply_bf16_segments<kParts, true>(rows, columns, divide_up(count, kBf16BlockRows), capacity / kBf16TileSteps,
                                         places, segments, length / kBf16TileSteps, sums, prefetch);
  }
};

}  // namespace STM_ISA
}  // namespace stm

#endif
