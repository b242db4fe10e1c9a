// Tiles of a read in split bf16; sums and softmax are float32.
//
// With one part, weights are rounded to bfloat16 before they are multiplied with the values. The running maximum need
// not be the true one: it rises only when a score exceeds it by more than kSlack, so sums are rarely rescaled. Weights
// are then at most e^kSlack, which costs no precision.
#pragma once

#include "cpu/multiply_bf16.h"

#if defined(__AVX512BF16__)

#include "cpu/bf16_score_tile.h"
#include "cpu/finite_check.h"
#include "cpu/softmax.h"

namespace stm {
inline namespace STM_ISA {

constexpr float kSlack = 6.0f;
constexpr int64_t kMaxPanels = 6;                   // that are read at a time
constexpr int64_t kCachedBytes = int64_t{1} << 19;  // of values that stay in the second-level cache

template <int kParts>
class Bf16ForwardTile {
 public:
  static constexpr int64_t kTokens = 256;
  static constexpr int64_t kRowGroup = kBf16BlockRows;

  Bf16ForwardTile(const Forward& read, int64_t max_panels)
      : read_(read),
        padded_channels_(read.sizes.objects * round_up(read.sizes.value_channels, kBf16BlockRows)),
        scores_(read.sizes, read.scores, max_panels, kTokens),
        values_(bf16_rows_size<kParts>(padded_channels_, kTokens)),
        panels_(kParts > 1 && 2 * bf16_rows_size<kParts>(padded_channels_, kTokens) > kCachedBytes ? kMaxPanels : 1),
        tile_(kTokens * kWidth),
        weights_(panels_ * bf16_columns_size<kParts>(kTokens)) {}

  void pack_queries(int64_t batch, int64_t first, int64_t count) {
    batch_ = batch;
    scores_.set_batch(batch);
    scores_.pack_queries(first, count);
  }

  void pack_tokens(int64_t first, int64_t count) {
    count_ = count;
    scores_.pack_tokens(first, count);
    finite_.invalidate();
    uint16_t* out = values_.data();
    for (int64_t object = 0; object < read_.sizes.objects; ++object) {
      const Matrix value = object_of(read_.value, object);
      with_type(value.dtype, [&](auto type) {
        const auto* from = static_cast<const decltype(type)*>(value.data) + batch_ * value.batch_stride;
        pack_bf16_rows<kParts>(from + first * value.column_stride, read_.sizes.value_channels, value.channel_stride,
                               count, value.column_stride, out);
      });
      out += bf16_rows_size<kParts>(read_.sizes.value_channels, count);
    }
  }

  // Number of panels that are read at a time. Many values in several parts come from the last-level cache: each block
  // of them is then used for a few panels while it is in a nearer one.
  int64_t panels() const { return panels_; }

  // Adds the packed tokens to the readouts of some panels of queries. Their states and sums follow one another;
  // `next_sums` are used after these.
  void read(int64_t first_panel, int64_t panels, SoftmaxState* states, float* sums, const float* next_sums) {
    float* panel_sums[kMaxPanels];
    int64_t count = 0;
    for (int64_t panel = 0; panel < panels; ++panel, sums += padded_channels_ * kWidth) {
      scores_.compute_unscaled(first_panel + panel, count_, tile_.data());
      uint16_t* const weights = weights_.data() + count * kWeights;
      if (!exponentiate(states[panel], sums, weights)) {
        // Weights of zero times values give zeros, or NaN.
        const int64_t packed = read_.sizes.objects * bf16_rows_size<kParts>(read_.sizes.value_channels, count_);
        if (finite_.all_finite<uint16_t>(values_.data(), packed)) continue;
        zero(weights, bf16_columns_size<kParts>(count_));
      }
      panel_sums[count++] = sums;
    }
    if (panels_ > 1) {
      add_block_by_block(panel_sums, count);
    } else if (count > 0) {
      multiply_bf16<kParts, true>(values_.data(), weights_.data(), padded_channels_ / kBf16BlockRows, count_,
                                  panel_sums[0], Prefetch(next_sums, padded_channels_ * kWidth));
    }
  }

 private:
  static constexpr int64_t kWeights = bf16_columns_size<kParts>(kTokens);

  // Adds weighted values to the sums of a few panels, one block of values after another.
  void add_block_by_block(float* const* sums, int64_t count) {
    constexpr int64_t kSums = kBf16BlockRows * kWidth;
    const uint16_t* values = values_.data();
    for (int64_t at = 0; at < padded_channels_ * kWidth;
         at += kSums, values += bf16_rows_size<kParts>(kBf16BlockRows, count_)) {
      for (int64_t i = 0; i < count; ++i) {
        const Prefetch next = i + 1 < count ? Prefetch(sums[i + 1] + at, kSums) : Prefetch();
        multiply_bf16<kParts, true>(values, weights_.data() + i * kWeights, 1, count_, sums[i] + at, next);
      }
    }
  }

  // Turns scores into weights and updates the state; false if all weights are negligible.
  bool exponentiate(SoftmaxState& state, float* sums, uint16_t* weights) {
    const float* const scores = tile_.data();
    const Floats scale = broadcast(scores_.scale());
    Floats running_max[kVectors], tile_max[kVectors];
    find_max(scores, count_, tile_max);
    bool counts = false, rises = false;
    for (int v = 0; v < kVectors; ++v) {
      tile_max[v] = rounded(tile_max[v] * scale);
      running_max[v] = load(state.running_max + v * kLanes);
      counts |= any(~(tile_max[v] - running_max[v] < broadcast(kNegligibleExponent)));
      rises |= any(~(tile_max[v] - running_max[v] <= broadcast(kSlack)));
    }
    if (!counts) return false;
    if (rises) raise_max(state, tile_max, running_max, sums);
    Floats running_sum[kVectors];
    for (int v = 0; v < kVectors; ++v) running_sum[v] = load(state.running_sum + v * kLanes);
    // The reduction covers a multiple of kBf16TileSteps; behind the last token values are zero, and so must weights be.
    for (int64_t j = 0; j < round_up(count_, kBf16TileSteps); j += 2) {
      uint16_t* const out = weights + j / kBf16TileSteps * kColumnTileSize * kParts + j % kBf16TileSteps * kWidth;
#pragma GCC unroll 3
      for (int v = 0; v < kVectors; ++v) {
        const float* const at = scores + j * kWidth + v * kLanes;
        const Floats even = j < count_ ? exponential(rounded(load(at) * scale) - running_max[v]) : broadcast(0.0f);
        const Floats odd =
            j + 1 < count_ ? exponential(rounded(load(at + kWidth) * scale) - running_max[v]) : broadcast(0.0f);
        running_sum[v] += even + odd;
        store_columns<kParts>(reinterpret_cast<__m512>(even), reinterpret_cast<__m512>(odd), out + v * 2 * kLanes);
      }
    }
    for (int v = 0; v < kVectors; ++v) store(state.running_sum + v * kLanes, running_sum[v]);
    return true;
  }

  void raise_max(SoftmaxState& state, const Floats* tile_max, Floats* running_max, float* sums) const {
    Floats rescale[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      const Floats raised = maximum(running_max[v], tile_max[v]);
      rescale[v] = exponential(running_max[v] - raised);
      running_max[v] = raised;
      store(state.running_max + v * kLanes, raised);
      store(state.running_sum + v * kLanes, load(state.running_sum + v * kLanes) * rescale[v]);
    }
    for (int64_t r = 0; r < padded_channels_; ++r) {
#pragma GCC unroll 3
      for (int v = 0; v < kVectors; ++v) {
        float* const at = sums + r * kWidth + v * kLanes;
        store(at, load(at) * rescale[v]);
      }
    }
  }

  const Forward& read_;
  int64_t padded_channels_;
  Bf16ScoreTile<kParts> scores_;
  Buffer<uint16_t> values_;
  int64_t panels_;
  Buffer<float> tile_;
  Buffer<uint16_t> weights_;
  FiniteCheck finite_;
  int64_t batch_ = 0;
  int64_t count_ = 0;
};

}  // namespace STM_ISA
}  // namespace stm

#endif
