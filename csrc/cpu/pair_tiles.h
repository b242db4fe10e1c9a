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
constexpr int64_t kPanelsTogether = 6;
constexpr int64_t kNearBytes = int64_t{1} << 19;  // of values that stay near while a panel is read

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
        panels_(kParts > 1 && 2 * pair_rows_size<kParts>(rows_, kTokens) > kNearBytes ? kPanelsTogether : 1),
        tile_(kTokens * kWidth),
        weights_(panels_ * pair_columns_size<kParts>(kTokens)) {}

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

  // Panels that are read at a time. Many values in several parts come from the last cache: each block of them then
  // meets a few panels while it is in a nearer one.
  int64_t panels() const { return panels_; }

  // Adds the taken tokens to what some panels of queries have read. Their statistics and sums follow one another;
  // `next_rows` are the sums that are wanted after these.
  void read(int64_t first_panel, int64_t panels, Statistics* statistics, float* rows, const float* next_rows) {
    float* sums[kPanelsTogether];
    int64_t count = 0;
    for (int64_t panel = 0; panel < panels; ++panel, rows += rows_ * kWidth) {
      scores_.compute_unscaled(first_panel + panel, count_, tile_.data());
      uint16_t* const weights = weights_.data() + count * kWeights;
      if (!weigh_pairs(statistics[panel], rows, weights)) {
        // Weights of zero times values give zeros, or NaN.
        const int64_t packed = read_.sizes.objects * pair_rows_size<kParts>(read_.sizes.value_channels, count_);
        if (finite_.holds<uint16_t>(values_.data(), packed)) continue;
        std::memset(weights, 0, static_cast<std::size_t>(pair_columns_size<kParts>(count_)) * sizeof(uint16_t));
      }
      sums[count++] = rows;
    }
    if (panels_ > 1) {
      add_together(sums, count);
    } else if (count > 0) {
      multiply_pairs<kParts, true>(values_.data(), weights_.data(), rows_ / kPairBlock, count_, sums[0],
                                   Ahead(next_rows, rows_ * kWidth));
    }
  }

 private:
  static constexpr int64_t kWeights = pair_columns_size<kParts>(kTokens);

  // Adds weighed values to the sums of a few panels, block by block.
  void add_together(float* const* sums, int64_t count) {
    constexpr int64_t kSums = kPairBlock * kWidth;
    const uint16_t* values = values_.data();
    for (int64_t at = 0; at < rows_ * kWidth; at += kSums, values += pair_rows_size<kParts>(kPairBlock, count_)) {
      for (int64_t i = 0; i < count; ++i) {
        const Ahead next = i + 1 < count ? Ahead(sums[i + 1] + at, kSums) : Ahead();
        multiply_pairs<kParts, true>(values, weights_.data() + i * kWeights, 1, count_, sums[i] + at, next);
      }
    }
  }

  // Scores to weights; false if none of them counts.
  bool weigh_pairs(Statistics& statistics, float* rows, uint16_t* weights) {
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
      uint16_t* const out = weights + j / kPairDepth * kColumnTile * kParts + j % kPairDepth * kWidth;
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
  int64_t panels_;
  Buffer<float> tile_;
  Buffer<uint16_t> weights_;
  Finiteness finite_;
  int64_t batch_ = 0;
  int64_t count_ = 0;
};

}  // namespace STM_ISA
}  // namespace stm

#endif
