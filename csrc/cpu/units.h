// The products of the backward pass, in float32 or in bfloat16 units. Each unit packs in its own layout; sums are
// dense.
//
// A packed operand is either rows or the columns of one panel; both run along the reduction. Rows are counted up to
// whole groups of kRowGroup, and so are the sums that they make.
#pragma once

#include "cpu/block.h"
#include "cpu/pack.h"
#include "cpu/pairs.h"
#include "cpu/plan.h"

namespace stm {
inline namespace STM_ISA {

class FloatUnit {
 public:
  using Number = float;
  static constexpr int64_t kRowGroup = kRows;

  static constexpr int64_t rows_size(int64_t rows, int64_t depth) { return packed_size(rows, depth, kRows); }
  static constexpr int64_t columns_size(int64_t depth) { return depth * kWidth; }

  // `count` rows, `stride` apart, beginning at element `start`; their steps are `depth_stride` apart.
  static void pack_rows(const Matrix& x, int64_t start, int64_t count, int64_t stride, int64_t depth,
                        int64_t depth_stride, float* out) {
    pack<kRows>(x.data, x.dtype, start, count, stride, depth, depth_stride, out);
  }

  // The same for up to kWidth columns.
  static void pack_panel(const Matrix& x, int64_t start, int64_t count, int64_t stride, int64_t depth,
                         int64_t depth_stride, float* out) {
    pack<kWidth>(x.data, x.dtype, start, count, stride, depth, depth_stride, out);
  }

  // The rows of a tile [row][kWidth]; the reduction runs along them.
  static void pack_tile_rows(const float* tile, int64_t rows, float* out) {
    pack_typed<kRows>(tile, rows, kWidth, kWidth, int64_t{1}, out);
  }

  // The columns of a tile, over `depth` rows of it.
  static const float* tile_columns(const float* tile, int64_t, float*) { return tile; }

  // sums[row][kWidth] (+)= rows * columns.
  template <bool kAdd>
  static void multiply(const float* rows, const float* columns, int64_t count, int64_t depth, float* sums) {
    if (kAdd) {
      accumulate<false>(rows, columns, divide_up(count, kRows), depth, nullptr, sums);
    } else {
      product(rows, columns, divide_up(count, kRows), depth, sums);
    }
  }
};

#if defined(__AVX512BF16__)

template <int kParts>
class PairUnit {
 public:
  using Number = uint16_t;
  static constexpr int64_t kRowGroup = kPairBlock;

  static constexpr int64_t rows_size(int64_t rows, int64_t depth) { return pair_rows_size<kParts>(rows, depth); }
  static constexpr int64_t columns_size(int64_t depth) { return pair_columns_size<kParts>(depth); }

  static void pack_rows(const Matrix& x, int64_t start, int64_t count, int64_t stride, int64_t depth,
                        int64_t depth_stride, uint16_t* out) {
    with_type(x.dtype, [&](auto type) {
      pack_pair_rows<kParts>(static_cast<const decltype(type)*>(x.data) + start, count, stride, depth, depth_stride,
                             out);
    });
  }

  static void pack_panel(const Matrix& x, int64_t start, int64_t count, int64_t stride, int64_t depth,
                         int64_t depth_stride, uint16_t* out) {
    with_type(x.dtype, [&](auto type) {
      pack_pair_columns<kParts>(static_cast<const decltype(type)*>(x.data) + start, count, stride, depth, depth_stride,
                                1.0f, out);
    });
  }

  static void pack_tile_rows(const float* tile, int64_t rows, uint16_t* out) {
    pack_pair_rows<kParts>(tile, rows, kWidth, kWidth, int64_t{1}, out);
  }

  static const uint16_t* tile_columns(const float* tile, int64_t depth, uint16_t* scratch) {
    pack_pair_columns<kParts>(tile, kWidth, int64_t{1}, depth, kWidth, 1.0f, scratch);
    return scratch;
  }

  template <bool kAdd>
  static void multiply(const uint16_t* rows, const uint16_t* columns, int64_t count, int64_t depth, float* sums) {
    multiply_pairs<kParts, kAdd>(rows, columns, divide_up(count, kPairBlock), depth, sums);
  }

 private:
  TileUnit unit_;
};

#endif

}  // namespace STM_ISA
}  // namespace stm
