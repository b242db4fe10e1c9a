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
#include "cpu/runtime.h"
#include "cpu/scores.h"

namespace stm {
inline namespace STM_ISA {

// A strip's reduction is skipped or done in segments of this many panels: whole steps of every unit.
constexpr int64_t kSegmentPanels = 2;
constexpr int64_t kSegmentWidth = kSegmentPanels * kWidth;

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
      accumulate<false>(rows, columns, divide_up(count, kRows), depth, nullptr, sums);
    } else {
      product(rows, columns, divide_up(count, kRows), depth, sums);
    }
  }

  // sums += rows * columns over some segments of the reduction. Rows hold those only, one after another, with room for
  // `depth` steps; columns hold all, and `places` says which are meant.
  static void multiply_segments(const float* rows, const float* columns, int64_t count, int64_t depth,
                                const int64_t* places, int64_t segments, float* sums, Ahead ahead) {
    for (int64_t r = 0; r < count; r += kRows, rows += depth * kRows, sums += kRows * kWidth) {
      Block sum;
      load_block(sums, sum);
      for (int64_t s = 0; s < segments; ++s) {
        ahead.fetch();
        stm::multiply(rows + s * kSegmentWidth * kRows, columns + places[s] * kSegmentWidth * kWidth, kSegmentWidth,
                      sum);
      }
      store_block(sum, sums);
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

  static void multiply_segments(const uint16_t* rows, const uint16_t* columns, int64_t count, int64_t depth,
                                const int64_t* places, int64_t segments, float* sums, Ahead ahead) {
    static_assert(kSegmentWidth % kPairDepth == 0);
    multiply_pair_segments<kParts>(rows, columns, divide_up(count, kPairBlock), depth, places, segments,
                                   kSegmentWidth / kPairDepth, sums, ahead);
  }

 private:
  TileUnit unit_;
};

#endif

// Tiles of a tile's tokens and many panels of queries, as rows whose reduction runs over the queries. Segments of
// panels that nothing was put into take no room and no time.
template <class Unit>
class Strip {
 public:
  using Number = typename Unit::Number;

  explicit Strip(int64_t segments) : depth_(segments * kSegmentWidth), rows_(size(segments)), places_(segments) {}

  static constexpr int64_t size(int64_t segments) { return Unit::rows_size(kTileTokens, segments * kSegmentWidth); }

  void clear() {
    segments_ = 0;
    filled_ = kSegmentPanels;
  }

  // Puts a tile [token][kWidth] of panel `panel`; panels come in rising order.
  void put(const float* tile, int64_t tokens, int64_t panel) {
    const int64_t place = panel / kSegmentPanels;
    if (segments_ == 0 || places_.data()[segments_ - 1] != place) {
      fill(tokens, kSegmentPanels);
      places_.data()[segments_++] = place;
      filled_ = 0;
    }
    fill(tokens, panel % kSegmentPanels);
    put_next(tile, tokens);
  }

  // sums[panel][token][kWidth] += rows * columns[panel]; columns have the steps of all segments.
  void multiply(const Number* columns, int64_t panels, int64_t tokens, float* sums) {
    fill(tokens, kSegmentPanels);
    for (int64_t p = 0; p < panels; ++p, columns += Unit::columns_size(depth_), sums += kTileTokens * kWidth) {
      const int64_t size = Unit::columns_size(depth_);
      const Ahead next = p + 1 < panels ? Ahead(columns + size, size) : Ahead();
      Unit::multiply_segments(rows_.data(), columns, tokens, depth_, places_.data(), segments_, sums, next);
    }
  }

 private:
  // Panels of the last segment that nothing was put into are zero.
  void fill(int64_t tokens, int64_t panel) {
    while (filled_ < panel) put_next(kZeros, tokens);
  }

  void put_next(const float* tile, int64_t tokens) {
    Unit::put_tile(tile, tokens, (segments_ - 1) * kSegmentWidth + filled_ * kWidth, depth_, rows_.data());
    ++filled_;
  }

  static constexpr float kZeros[kTileTokens * kWidth] = {};

  int64_t depth_;
  int64_t segments_ = 0, filled_ = kSegmentPanels;  // panels of the last one
  Buffer<Number> rows_;
  Buffer<int64_t> places_;
};

}  // namespace STM_ISA
}  // namespace stm
