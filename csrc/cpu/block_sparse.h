// Weights, or gradients of scores, of a tile's tokens and many queries, kept to be multiplied at once.
#pragma once

#include "cpu/plan.h"
#include "cpu/prefetch.h"
#include "cpu/runtime.h"

namespace stm {
inline namespace STM_ISA {

// Segments of the reduction have this many panels: whole steps of every Gemm.
constexpr int64_t kSegmentPanels = 2;
constexpr int64_t kSegmentWidth = kSegmentPanels * kWidth;

// Rows, one for each token of a tile, whose reduction runs over many panels of queries, in segments of a few panels.
// Segments without any tile are zero: they take no space and are not multiplied.
template <class Gemm>
class BlockSparseRows {
 public:
  using Number = typename Gemm::Number;

  explicit BlockSparseRows(int64_t segments)
      : depth_(segments * kSegmentWidth), data_(size(segments)), indices_(segments) {}

  static constexpr int64_t size(int64_t segments) { return Gemm::rows_size(kTileTokens, segments * kSegmentWidth); }

  void clear() {
    segments_ = 0;
    filled_ = kSegmentPanels;
  }

  // Appends the tile [token][kWidth] of a panel; panels come in ascending order.
  void append(const float* tile, int64_t tokens, int64_t panel) {
    const int64_t index = panel / kSegmentPanels;
    if (segments_ == 0 || indices_.data()[segments_ - 1] != index) {
      pad(tokens, kSegmentPanels);
      indices_.data()[segments_++] = index;
      filled_ = 0;
    }
    pad(tokens, panel % kSegmentPanels);
    append_next(tile, tokens);
  }

  // sums[panel][token][kWidth] += rows * columns[panel]; columns have the steps of all segments.
  void multiply(const Number* columns, int64_t panels, int64_t tokens, float* sums) {
    pad(tokens, kSegmentPanels);
    for (int64_t p = 0; p < panels; ++p, columns += Gemm::columns_size(depth_), sums += kTileTokens * kWidth) {
      const int64_t size = Gemm::columns_size(depth_);
      const Prefetch next = p + 1 < panels ? Prefetch(columns + size, size) : Prefetch();
      Gemm::add_segments(data_.data(), columns, tokens, depth_, indices_.data(), segments_, kSegmentWidth, sums, next);
    }
  }

 private:
  // Appends zeros up to panel `panel` of the last segment.
  void pad(int64_t tokens, int64_t panel) {
    while (filled_ < panel) append_next(kZeros, tokens);
  }

  void append_next(const float* tile, int64_t tokens) {
    Gemm::pack_tile(tile, tokens, (segments_ - 1) * kSegmentWidth + filled_ * kWidth, depth_, data_.data());
    ++filled_;
  }

  static constexpr float kZeros[kTileTokens * kWidth] = {};

  int64_t depth_;
  int64_t segments_ = 0, filled_ = kSegmentPanels;  // panels of the last segment
  Buffer<Number> data_;
  Buffer<int64_t> indices_;
};

}  // namespace STM_ISA
}  // namespace stm
