// Tiles of scores whose products are made in bfloat16 units; otherwise as in scores.h.
//
// Every pass over a memory takes its scores from here or all take them from there, so that a backward pass and usage
// see the very scores that the log-sum-exp was made of.
#pragma once

#include "cpu/pairs.h"

#if defined(__AVX512BF16__)

#include "cpu/runtime.h"
#include "cpu/scores.h"

namespace stm {
inline namespace STM_ISA {

template <int kParts>
class PairScores {
 public:
  PairScores(const Sizes& sizes, const Scores& scores, int64_t most_panels, int64_t slots = 1,
             int64_t tile_tokens = kTileTokens)
      : channels_(sizes.key_channels),
        tile_tokens_(tile_tokens),
        scores_(scores),
        affine_(scores.gain || scores.offset || scores.bias),
        queries_(most_panels * pair_columns_size<kParts>(channels_)),
        keys_(slots * pair_rows_size<kParts>(tile_tokens, channels_)),
        offsets_(affine_ ? most_panels * kWidth : 0),
        factors_(affine_ ? slots * 3 * tile_tokens : 0) {}

  void take_batch(int64_t batch) { batch_ = batch; }

  void take_queries(int64_t first, int64_t count) {
    const Matrix& query = scores_.query;
    // The largest score is then that of the largest product.
    const float sign = scale() == scores_.scale || affine_ ? 1.0f : -1.0f;
    with_type(query.dtype, [&](auto type) {
      const auto* from = static_cast<const decltype(type)*>(query.data) + batch_ * query.batch_stride;
      for (int64_t done = 0; done < count; done += kWidth) {
        pack_pair_columns<kParts>(from + (first + done) * query.column_stride, smaller<int64_t>(kWidth, count - done),
                                  query.column_stride, channels_, query.channel_stride, sign,
                                  queries_.data() + done / kWidth * pair_columns_size<kParts>(channels_));
      }
    });
    if (!affine_) return;
    const Vector offset = scores_.offset.batch(batch_);
    for (int64_t i = 0; i < round_up(count, kWidth); ++i) {
      offsets_.data()[i] = offset && i < count ? offset[first + i] : 0.0f;
    }
  }

  void take_tokens(int64_t first, int64_t count, int64_t slot = 0) {
    const Matrix& key = scores_.key;
    with_type(key.dtype, [&](auto type) {
      const auto* from = static_cast<const decltype(type)*>(key.data) + batch_ * key.batch_stride;
      pack_pair_rows<kParts>(from + first * key.column_stride, count, key.column_stride, channels_, key.channel_stride,
                             keys_.data() + slot * pair_rows_size<kParts>(tile_tokens_, channels_));
    });
    if (!affine_) return;
    const Vector gain = scores_.gain.batch(batch_), bias = scores_.bias.batch(batch_);
    float* const factors = factors_.data() + slot * 3 * tile_tokens_;
    for (int64_t j = 0; j < count; ++j) {
      factors[j] = gain ? gain[first + j] : 1.0f;
      factors[tile_tokens_ + j] = factors[j] * scores_.scale;
      factors[2 * tile_tokens_ + j] = bias ? bias[first + j] : 0.0f;
    }
  }

  // Scores of a slot's `tokens` tokens against a panel of the taken queries; what follows them in the tile is garbage.
  void compute(int64_t panel, int64_t tokens, float* tile, int64_t slot = 0) const {
    compute_unscaled(panel, tokens, tile, slot);
    if (affine_) return;
    const Floats factor = broadcast(scale());
    for (int64_t x = 0; x < tokens * kWidth; x += kLanes) store(tile + x, load(tile + x) * factor);
  }

  // The same, but for a factor that is left to the caller: scale().
  void compute_unscaled(int64_t panel, int64_t tokens, float* tile, int64_t slot = 0) const {
    multiply_pairs<kParts, false>(keys_.data() + slot * pair_rows_size<kParts>(tile_tokens_, channels_),
                                  queries_.data() + panel * pair_columns_size<kParts>(channels_),
                                  divide_up(tokens, kPairBlock), channels_, tile);
    if (affine_) finish(gains(slot), offsets(panel), tokens, tile);
  }

  float scale() const { return affine_ ? 1.0f : __builtin_fabsf(scores_.scale); }
  bool affine() const { return affine_; }
  // What follows is there for affine scores only.
  const float* offsets(int64_t panel) const { return offsets_.data() + panel * kWidth; }
  const float* gains(int64_t slot) const { return factors_.data() + slot * 3 * tile_tokens_; }

 private:
  void finish(const float* factors, const float* offsets, int64_t tokens, float* tile) const {
    for (int64_t j = 0; j < tokens; ++j) {
      const Floats gain = broadcast(factors[j]), scale = broadcast(factors[tile_tokens_ + j]);
      const Floats bias = broadcast(factors[2 * tile_tokens_ + j]);
#pragma GCC unroll 3
      for (int v = 0; v < kVectors; ++v) {
        float* const at = tile + j * kWidth + v * kLanes;
        store(at, load(at) * scale + (load(offsets + v * kLanes) * gain + bias));
      }
    }
  }

  int64_t channels_, tile_tokens_;
  Scores scores_;
  bool affine_;
  Buffer<uint16_t> queries_, keys_;
  Buffer<float> offsets_;
  Buffer<float> factors_;  // gains, gains times the scale, biases of a slot's tokens
  TileUnit unit_;
  int64_t batch_ = 0;
};

}  // namespace STM_ISA
}  // namespace stm

#endif
