// Tiles of scores in split bf16; otherwise as in float32_score_tile.h.
//
// All passes over a memory take their scores from the same of the two, so that a backward pass and usage see exactly
// the scores that the log-sum-exp was made of.
#pragma once

#include "cpu/multiply_bf16.h"
#include "cpu/pack_bf16.h"

#if defined(__AVX512BF16__)

#include "cpu/affine.h"

namespace stm {
inline namespace STM_ISA {

template <int kParts>
class Bf16ScoreTile {
 public:
  Bf16ScoreTile(const Sizes& sizes, const Scores& scores, int64_t max_panels, int64_t tile_tokens = kTileTokens)
      : channels_(sizes.key_channels),
        scores_(scores),
        terms_(scores, max_panels, tile_tokens),
        queries_(max_panels * bf16_columns_size<kParts>(channels_)),
        keys_(bf16_rows_size<kParts>(tile_tokens, channels_)) {}

  void set_batch(int64_t batch) { batch_ = batch; }

  void pack_queries(int64_t first, int64_t count) {
    const Matrix& query = scores_.query;
    panels_ = divide_up(count, kWidth);
    // With a positive scale the largest product has the largest score.
    const float sign = scale() == scores_.scale || terms_.present() ? 1.0f : -1.0f;
    with_type(query.dtype, [&](auto type) {
      const auto* from = static_cast<const decltype(type)*>(query.data) + batch_ * query.batch_stride;
      for (int64_t done = 0; done < count; done += kWidth) {
        pack_bf16_columns<kParts>(from + (first + done) * query.column_stride, smaller<int64_t>(kWidth, count - done),
                                  query.column_stride, channels_, query.channel_stride, sign,
                                  queries_.data() + done / kWidth * bf16_columns_size<kParts>(channels_));
      }
    });
    terms_.pack_queries(batch_, first, count);
  }

  void pack_tokens(int64_t first, int64_t count) {
    const Matrix& key = scores_.key;
    with_type(key.dtype, [&](auto type) {
      const auto* from = static_cast<const decltype(type)*>(key.data) + batch_ * key.batch_stride;
      pack_bf16_rows<kParts>(from + first * key.column_stride, count, key.column_stride, channels_, key.channel_stride,
                             keys_.data());
    });
    terms_.pack_tokens(batch_, first, count);
  }

  // Computes the scores of the `tokens` packed tokens and one panel of queries. What follows them in the tile is
  // undefined.
  void compute(int64_t panel, int64_t tokens, float* tile) const {
    compute_unscaled(panel, tokens, tile);
    if (terms_.present()) return;
    const Floats factor = broadcast(scale());
    for (int64_t x = 0; x < tokens * kWidth; x += kLanes) store(tile + x, load(tile + x) * factor);
  }

  // Computes the same, except for the factor scale(), which is left to the caller.
  void compute_unscaled(int64_t panel, int64_t tokens, float* tile) const {
    const int64_t size = bf16_columns_size<kParts>(channels_), next = panel + 1 < panels_ ? panel + 1 : 0;
    multiply_bf16<kParts, false>(keys_.data(), queries_.data() + panel * size, divide_up(tokens, kBf16BlockRows),
                                 channels_, tile, Prefetch(queries_.data() + next * size, size));
    if (terms_.present()) add_terms(panel, tokens, tile);
  }

  float scale() const { return terms_.present() ? 1.0f : __builtin_fabsf(scores_.scale); }
  const AffineTerms& terms() const { return terms_; }

 private:
  void add_terms(int64_t panel, int64_t tokens, float* tile) const {
    const float* const offsets = terms_.offsets(panel);
    for (int64_t j = 0; j < tokens; ++j) {
      const AffineTerms::Token token = terms_.token(j);
#pragma GCC unroll 3
      for (int v = 0; v < kVectors; ++v) {
        float* const at = tile + j * kWidth + v * kLanes;
        store(at, AffineTerms::score(load(at), token, load(offsets + v * kLanes)));
      }
    }
  }

  int64_t channels_;
  int64_t panels_ = 0;  // of the packed queries
  Scores scores_;
  AffineTerms terms_;
  Buffer<uint16_t> queries_, keys_;
  TileConfig tile_config_;
  int64_t batch_ = 0;
};

}  // namespace STM_ISA
}  // namespace stm

#endif
