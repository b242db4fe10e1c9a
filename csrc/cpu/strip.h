// Weights or slopes of a tile's tokens for many queries, waiting to be multiplied at once.
#pragma once

#include "cpu/runtime.h"
#include "cpu/scores.h"
#include "cpu/units.h"

namespace stm {
inline namespace STM_ISA {

// A strip's reduction is skipped or done in segments of this many panels: whole steps of every unit.
constexpr int64_t kSegmentPanels = 2;
constexpr int64_t kSegmentWidth = kSegmentPanels * kWidth;

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
      Unit::add_segments(rows_.data(), columns, tokens, depth_, places_.data(), segments_, kSegmentWidth, sums, next);
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
