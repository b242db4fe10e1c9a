// Tiles of a read whose products are made in bfloat16 units, of numbers in kParts parts; sums and softmax are float32.
//
// With one part, weights are rounded to bfloat16 before they meet the values. What they are relative to need not be the
// true maximum: it moves only when the maximum has outgrown it by kSlack, so that sums are rarely scaled. Weights are
// then at most e^kSlack, which costs neither unit precision.
#pragma once

#include "cpu/pairs.h"

#if defined(__AVX512BF16__)

#include "cpu/finiteness.h"
#include "cpu/pair_scores.h"
#include "cpu/softmax.h"

namespace stm {
inline namespace STM_ISA {

constexpr float kSlack = 6.0f;

template <int kParts>
class PairTiles {
 public:
  static constexpr int64_t kTokens = 256;
  static constexpr int64_t kRowGroup = kPairBlock;

  PairTiles(const Forward& read, int64_t most_panels)
      : read_(read),
        rows_(read.sizes.objects * round_up(read.sizes.value_channels, kPairBlock)),
        scores_(read.sizes, read.scores, most_panels, kTokens),
        values_(pair_rows_size<kParts>(rows_, kTokens)),
        tile_(kTokens * kWidth),
        weights_(pair_columns_size<kParts>(kTokens)) {}

  void take_queries(int64_t batch, int64_t first, int64_t count) {
    batch_ = batch;
    scores_.take_batch(batch);
    scores_.take_queries(first, count);
  }

  void take_tokens(int64_t first, int64_t count) {
    count_ = count;
    scores_.take_tokens(first, count);
    finite_.forget();
    uint16_t* out = values_.data();
    for (int64_t object = 0; object < read_.sizes.objects; ++object) {
      const Matrix value = object_of(read_.value, object);
      with_type(value.dtype, [&](auto type) {
        const auto* from = static_cast<const decltype(type)*>(value.data) + batch_ * value.batch_stride;
        pack_pair_rows<kParts>(from + first * value.column_stride, read_.sizes.value_channels, value.channel_stride,
                               count, value.column_stride, out);
      });
      out += pair_rows_size<kParts>(read_.sizes.value_channels, count);
    }
  }

  // Adds the taken tokens to what a panel of queries has read; `next_rows` is the sum that is wanted after this one.
  void read(int64_t panel, Statistics& statistics, float* rows, const float* next_rows) {
    scores_.compute_unscaled(panel, count_, tile_.data());
    if (!weigh_pairs(statistics, rows)) {
      // Weights of zero times values give zeros, or NaN.
      const int64_t packed = read_.sizes.objects * pair_rows_size<kParts>(read_.sizes.value_channels, count_);
      if (finite_.holds<uint16_t>(values_.data(), packed)) return;
      std::memset(weights_.data(), 0, static_cast<std::size_t>(pair_columns_size<kParts>(count_)) * sizeof(uint16_t));
    }
    multiply_pairs<kParts, true>(values_.data(), weights_.data(), rows_ / kPairBlock, count_, rows,
                                 Ahead(next_rows, rows_ * kWidth));
  }

 private:
  // Scores to weights; false if none of them counts.
  bool weigh_pairs(Statistics& statistics, float* rows) {
    const float* const scores = tile_.data();
    const Floats scale = broadcast(scores_.scale());
    Floats level[kVectors], highest[kVectors];
    find_highest(scores, count_, highest);
    bool counts = false, moves = false;
    for (int v = 0; v < kVectors; ++v) {
      highest[v] = rounded(highest[v] * scale);
      level[v] = load(statistics.maximum + v * kLanes);
      counts |= any(~(highest[v] - level[v] < broadcast(kNegligibleExponent)));
      moves |= any(~(highest[v] - level[v] <= broadcast(kSlack)));
    }
    if (!counts) return false;
    if (moves) scale_rows(statistics, highest, level, rows);
    Floats total[kVectors];
    for (int v = 0; v < kVectors; ++v) total[v] = load(statistics.total + v * kLanes);
    // The reduction goes on to a whole number of steps, over values that are zero; so must the weights be.
    for (int64_t j = 0; j < round_up(count_, kPairDepth); j += 2) {
      uint16_t* const out = weights_.data() + j / kPairDepth * kColumnTile * kParts + j % kPairDepth * kWidth;
#pragma GCC unroll 3
      for (int v = 0; v < kVectors; ++v) {
        const float* const at = scores + j * kWidth + v * kLanes;
        const Floats even = j < count_ ? exponential(rounded(load(at) * scale) - level[v]) : broadcast(0.0f);
        const Floats odd =
            j + 1 < count_ ? exponential(rounded(load(at + kWidth) * scale) - level[v]) : broadcast(0.0f);
        total[v] += even + odd;
        store_columns<kParts>(reinterpret_cast<__m512>(even), reinterpret_cast<__m512>(odd), out + v * 2 * kLanes);
      }
    }
    for (int v = 0; v < kVectors; ++v) store(statistics.total + v * kLanes, total[v]);
    return true;
  }

  void scale_rows(Statistics& statistics, const Floats* highest, Floats* level, float* rows) const {
    Floats decay[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      const Floats raised = maximum(level[v], highest[v]);
      decay[v] = exponential(level[v] - raised);
      level[v] = raised;
      store(statistics.maximum + v * kLanes, raised);
      store(statistics.total + v * kLanes, load(statistics.total + v * kLanes) * decay[v]);
    }
    for (int64_t r = 0; r < rows_; ++r) {
#pragma GCC unroll 3
      for (int v = 0; v < kVectors; ++v) {
        float* const at = rows + r * kWidth + v * kLanes;
        store(at, load(at) * decay[v]);
      }
    }
  }

  const Forward& read_;
  int64_t rows_;
  PairScores<kParts> scores_;
  Buffer<uint16_t> values_;
  Buffer<float> tile_;
  Buffer<uint16_t> weights_;
  Finiteness finite_;
  int64_t batch_ = 0;
  int64_t count_ = 0;
};

}  // namespace STM_ISA
}  // namespace stm

#endif
