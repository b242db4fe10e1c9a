// Tiles of scores in float32: kTileTokens tokens by one panel of kWidth queries, [token][query].
#pragma once

#include "cpu/affine.h"
#include "cpu/block.h"
#include "cpu/pack.h"
#include "cpu/plan.h"

namespace stm {
inline namespace STM_ISA {

constexpr int64_t kChannelsPerSum = 128;

// Packs queries of one batch and a tile of tokens at a time, and computes their scores.
class Float32ScoreTile {
 public:
  Float32ScoreTile(const Sizes& sizes, const Scores& scores, int64_t max_panels)
      : channels_(sizes.key_channels),
        scores_(scores),
        terms_(scores, max_panels, kTileTokens),
        queries_(max_panels * channels_ * kWidth),
        keys_(kTileTokens * channels_) {}

  void set_batch(int64_t batch) { batch_ = batch; }

  void pack_queries(int64_t first, int64_t count) {
    pack_columns<kWidth>(scores_.query, channels_, batch_, first, count, queries_.data());
    terms_.pack_queries(batch_, first, count);
  }

  void pack_tokens(int64_t first, int64_t count) {
    pack_columns<kRows>(scores_.key, channels_, batch_, first, count, keys_.data());
    terms_.pack_tokens(batch_, first, count);
  }

  // Computes the scores of the `tokens` packed tokens, rounded up to whole groups of kRows, and one panel of queries.
  void compute(int64_t panel, int64_t tokens, float* tile) const {
    const float* const queries = queries_.data() + panel * channels_ * kWidth;
    const float* keys = keys_.data();
    for (int64_t j = 0; j < tokens; j += kRows, keys += channels_ * kRows, tile += kRows * kWidth) {
      Block sum;
      multiply_all(keys, queries, tile, sum);
      if (terms_.present()) {
        add_terms(panel, j, sum);
      } else {
        scale(sum);
      }
      store_block(sum, tile);
    }
  }

  const AffineTerms& terms() const { return terms_; }

 private:
  // Sums over all channels, made of partial sums as in `add_block`; `tile` is workspace.
  STM_INLINE void multiply_all(const float* keys, const float* queries, float* tile, Block& sum) const {
    clear(sum);
    multiply(keys, queries, smaller(channels_, kChannelsPerSum), sum);
    for (int64_t c = kChannelsPerSum; c < channels_; c += kChannelsPerSum) {
      store_block(sum, tile);
      clear(sum);
      multiply(keys + c * kRows, queries + c * kWidth, smaller(channels_ - c, kChannelsPerSum), sum);
      add_block(sum, nullptr, tile);
      load_block(tile, sum);
    }
  }

  STM_INLINE void scale(Block& sum) const {
    const Floats factor = broadcast(scores_.scale);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 3
      for (int v = 0; v < kVectors; ++v) sum[r][v] *= factor;
    }
  }

  STM_INLINE void add_terms(int64_t panel, int64_t first, Block& sum) const {
    const float* const offsets = terms_.offsets(panel);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const AffineTerms::Token token = terms_.token(first + r);
#pragma GCC unroll 3
      for (int v = 0; v < kVectors; ++v) {
        sum[r][v] = AffineTerms::score(sum[r][v], token, load(offsets + v * kLanes));
      }
    }
  }

  int64_t channels_;
  Scores scores_;
  AffineTerms terms_;
  Buffer<float> queries_, keys_;
  int64_t batch_ = 0;
};

}  // namespace STM_ISA
}  // namespace stm
