// Tiles of scores: kTileTokens tokens by one panel of kWidth queries, [token][query].
#pragma once

#include "cpu/block.h"
#include "cpu/pack.h"
#include "cpu/plan.h"
#include "cpu/runtime.h"

namespace stm {
inline namespace STM_ISA {

constexpr int64_t kTileTokens = 96;
static_assert(kTileTokens % kRows == 0);

// Scores of some queries of one batch against a tile of tokens at a time. Several tiles can be held, in numbered slots.
class ScoreTiles {
 public:
  ScoreTiles(const Sizes& sizes, const Scores& scores, int64_t most_panels, int64_t slots = 1)
      : channels_(sizes.key_channels),
        scores_(scores),
        affine_(scores.gain || scores.offset || scores.bias),
        queries_(most_panels * channels_ * kWidth),
        offsets_(affine_ ? most_panels * kWidth : 0),
        keys_(slots * kTileTokens * channels_),
        factors_(affine_ ? slots * 3 * kTileTokens : 0) {}

  void take_batch(int64_t batch) { batch_ = batch; }

  void take_queries(int64_t first, int64_t count) {
    pack_columns<kWidth>(scores_.query, channels_, batch_, first, count, queries_.data());
    if (!affine_) return;
    const Vector offset = scores_.offset.batch(batch_);
    for (int64_t i = 0; i < round_up(count, kWidth); ++i) {
      offsets_.data()[i] = offset && i < count ? offset[first + i] : 0.0f;
    }
  }

  void take_tokens(int64_t first, int64_t count, int64_t slot = 0) {
    pack_columns<kRows>(scores_.key, channels_, batch_, first, count, keys_.data() + slot * kTileTokens * channels_);
    if (!affine_) return;
    const Vector gain = scores_.gain.batch(batch_), bias = scores_.bias.batch(batch_);
    float* const factors = factors_.data() + slot * 3 * kTileTokens;
    for (int64_t j = 0; j < round_up(count, kRows); ++j) {
      factors[j] = gain && j < count ? gain[first + j] : 1.0f;
      factors[kTileTokens + j] = factors[j] * scores_.scale;
      factors[2 * kTileTokens + j] = bias && j < count ? bias[first + j] : 0.0f;
    }
  }

  // Scores of a slot's `tokens` tokens, rounded up to whole groups of kRows, against a panel of the taken queries.
  void compute(int64_t panel, int64_t tokens, float* tile, int64_t slot = 0) const {
    const float* keys = keys_.data() + slot * kTileTokens * channels_;
    const int64_t groups = divide_up(tokens, kRows);
    if (affine_) {
      compute_affine(keys, gains(slot), queries(panel), offsets(panel), groups, tile);
    } else {
      compute_plain(keys, queries(panel), groups, tile);
    }
  }

  bool affine() const { return affine_; }
  const float* queries(int64_t panel) const { return queries_.data() + panel * channels_ * kWidth; }
  // What follows is there for affine scores only.
  const float* offsets(int64_t panel) const { return offsets_.data() + panel * kWidth; }
  const float* gains(int64_t slot) const { return factors_.data() + slot * 3 * kTileTokens; }

 private:
  void compute_plain(const float* keys, const float* queries, int64_t groups, float* tile) const {
    const Floats scale = broadcast(scores_.scale);
    for (int64_t g = 0; g < groups; ++g, keys += channels_ * kRows, tile += kRows * kWidth) {
      Block sum;
      clear(sum);
      multiply(keys, queries, channels_, sum);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 3
        for (int v = 0; v < kVectors; ++v) sum[r][v] *= scale;
      }
      store_block(sum, tile);
    }
  }

  void compute_affine(const float* keys, const float* gains, const float* queries, const float* offsets, int64_t groups,
                      float* tile) const {
    for (int64_t g = 0; g < groups; ++g, keys += channels_ * kRows, gains += kRows, tile += kRows * kWidth) {
      Block sum;
      clear(sum);
      multiply(keys, queries, channels_, sum);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const Floats gain = broadcast(gains[r]), scale = broadcast(gains[kTileTokens + r]);
        const Floats bias = broadcast(gains[2 * kTileTokens + r]);
#pragma GCC unroll 3
        for (int v = 0; v < kVectors; ++v) {
          sum[r][v] = sum[r][v] * scale + (load(offsets + v * kLanes) * gain + bias);
        }
      }
      store_block(sum, tile);
    }
  }

  int64_t channels_;
  Scores scores_;
  bool affine_;
  Buffer<float> queries_, offsets_, keys_;
  Buffer<float> factors_;  // gains, gains times the scale, biases of a slot's tokens
  int64_t batch_ = 0;
};

}  // namespace STM_ISA
}  // namespace stm
