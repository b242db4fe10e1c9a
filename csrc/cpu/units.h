// The products of the backward pass, in float32 or in bfloat16 units. Each unit packs in its own layout; sums are
// dense. Where there are tiles to set up, whoever makes the scores has done so.
//
// A packed operand is either rows or the columns of one panel; both run along the reduction. Rows are counted up to
// whole groups of kRowGroup, and so are the sums that they make.
#pragma once

#include "cpu/ahead.h"
#include "cpu/block.h"
#include "cpu/pack.h"
#include "cpu/pairs.h"

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

  // Packs the rows of a tile [row][kWidth] as the steps from `first` on of rows whose reduction has `depth` steps.
  static void put_tile(const float* tile, int64_t rows, int64_t first, int64_t depth, float* out) {
    out += first * kRows;
    for (int64_t r = 0; r < rows; r += kRows, out += depth * kRows) {
      pack_group<kRows>(tile + r * kWidth, smaller<int64_t>(kRows, rows - r), kWidth, kWidth, int64_t{1}, out);
    }
  }

  // The columns of a tile, over `depth` rows of it.
  static const float* tile_columns(const float* tile, int64_t, float*) { return tile; }

  // sums[row][kWidth] (+)= rows * columns.
  template <bool kAdd>
  static void multiply(const float* rows, const float* columns, int64_t count, int64_t depth, float* sums, Ahead) {
    if (kAdd) {
      accumulate(rows, columns, divide_up(count, kRows), depth, nullptr, sums);
    } else {
      product(rows, columns, divide_up(count, kRows), depth, sums);
    }
  }

  // sums += rows * columns over some segments of the reduction, of `length` steps each. Rows hold those only, one after
  // another, with room for `room` steps; columns hold all, and `places` says which are meant.
  static void add_segments(const float* rows, const float* columns, int64_t count, int64_t room, const int64_t* places,
                           int64_t segments, int64_t length, float* sums, Ahead ahead) {
    for (int64_t r = 0; r < count; r += kRows, rows += room * kRows, sums += kRows * kWidth) {
      Block sum;
      clear(sum);
      for (int64_t s = 0; s < segments; ++s) {
        ahead.fetch();
        stm::multiply(rows + s * length * kRows, columns + places[s] * length * kWidth, length, sum);
      }
      add_block(sum, nullptr, sums);
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

  static void put_tile(const float* tile, int64_t rows, int64_t first, int64_t depth, uint16_t* out) {
    for (int64_t r = 0; r < rows; ++r) {
      uint16_t* const row = out + r / kPairRows * depth * kPairRows * kParts + r % kPairRows * kPairDepth;
      for (int64_t v = 0; v < kVectors; ++v) {
        const __m512 weights = load16(tile + r * kWidth + v * kLanes);
        const int64_t step = first + v * kLanes;
        put_parts<kParts>(weights, row + step / kPairDepth * kRowTile * kParts + step % kPairDepth);
      }
    }
  }

  static const uint16_t* tile_columns(const float* tile, int64_t depth, uint16_t* scratch) {
    pack_pair_columns<kParts>(tile, kWidth, int64_t{1}, depth, kWidth, 1.0f, scratch);
    return scratch;
  }

  template <bool kAdd>
  static void multiply(const uint16_t* rows, const uint16_t* columns, int64_t count, int64_t depth, float* sums,
                       Ahead ahead) {
    multiply_pairs<kParts, kAdd>(rows, columns, divide_up(count, kPairBlock), depth, sums, ahead);
  }

  // Rooms and lengths are whole numbers of kPairDepth.
  static void add_segments(const uint16_t* rows, const uint16_t* columns, int64_t count, int64_t room,
                           const int64_t* places, int64_t segments, int64_t length, float* sums, Ahead ahead) {
    multiply_segments<kParts, true>(rows, columns, divide_up(count, kPairBlock), room / kPairDepth, places, segments,
                                    length / kPairDepth, sums, ahead);
  }
};

#endif

}  // namespace STM_ISA
}  // namespace stm
