// The products of the backward pass in float32.
//
// A `Gemm` packs in its own layout; sums are dense. A packed operand is either rows or the columns of one panel; both
// run along the reduction. Rows are rounded up to whole groups of kRowGroup, and so are the sums that they make.
#pragma once

#include "cpu/block.h"
#include "cpu/pack.h"
#include "cpu/prefetch.h"

namespace stm {
inline namespace STM_ISA {

class Float32Gemm {
 public:
  using Number = float;
  static constexpr int64_t kRowGroup = kRows;

  static constexpr int64_t rows_size(int64_t rows, int64_t depth) { return packed_size(rows, depth, kRows); }
  static constexpr int64_t columns_size(int64_t depth) { return depth * kWidth; }

  // Packs `count` rows, `stride` apart, from element `start` on; their steps are `depth_stride` apart.
  static void pack_rows(const Matrix& x, int64_t start, int64_t count, int64_t stride, int64_t depth,
                        int64_t depth_stride, float* out) {
    pack<kRows>(x.data, x.dtype, start, count, stride, depth, depth_stride, out);
  }

  // Packs up to kWidth columns in the same way.
  static void pack_panel(const Matrix& x, int64_t start, int64_t count, int64_t stride, int64_t depth,
                         int64_t depth_stride, float* out) {
    pack<kWidth>(x.data, x.dtype, start, count, stride, depth, depth_stride, out);
  }

  // Packs the rows of a tile [row][kWidth] as steps `first` and following of rows with `depth` steps.
  static void pack_tile(const float* tile, int64_t rows, int64_t first, int64_t depth, float* out) {
    out += first * kRows;
    for (int64_t r = 0; r < rows; r += kRows, out += depth * kRows) {
      pack_group<kRows>(tile + r * kWidth, smaller<int64_t>(kRows, rows - r), kWidth, kWidth, int64_t{1}, out);
    }
  }

  // Returns a tile [step][kWidth] as packed columns, in `workspace` if they need packing.
  static const float* pack_tile_columns(const float* tile, int64_t, float*) { return tile; }

  // sums[row][kWidth] (+)= rows * columns.
  template <bool kAdd>
  static void multiply(const float* rows, const float* columns, int64_t count, int64_t depth, float* sums, Prefetch) {
    if (kAdd) {
      accumulate(rows, columns, divide_up(count, kRows), depth, nullptr, sums);
    } else {
      product(rows, columns, divide_up(count, kRows), depth, sums);
    }
  }

  // sums += rows * columns over some segments of the reduction, of `length` steps each. Rows hold only these segments,
  // one after another, in space for `capacity` steps; columns hold all, and `places` are the indices of the segments in
  // them.
  static void add_segments(const float* rows, const float* columns, int64_t count, int64_t capacity,
                           const int64_t* places, int64_t segments, int64_t length, float* sums, Prefetch prefetch) {
    for (int64_t r = 0; r < count; r += kRows, rows += capacity * kRows, sums += kRows * kWidth) {
      Block sum;
      clear(sum);
      for (int64_t s = 0; s < segments; ++s) {
        prefetch.advance();
        stm::multiply(rows + s * length * kRows, columns + places[s] * length * kWidth, length, sum);
      }
      add_block(sum, nullptr, sums);
    }
  }
};

}  // namespace STM_ISA
}  // namespace stm
