// Tiles of scores whose products are made in bfloat16 units; otherwise as in scores.h.
//
// Every pass over a memory takes its scores from here or all take them from there, so that a backward pass and usage
// see the very scores that the log-sum-exp was made of.
#pragma once

#include "cpu/pairs.h"

#if defined(__AVX512BF16__)

#include "cpu/scores.h"

namespace stm {
inline namespace STM_ISA {

template <int kParts>
class PairScores {
 public:
  PairScores(const Sizes& sizes, const Scores& scores, int64_t most_panels, int64_t tile_tokens = kTileTokens)
      : channels_(sizes.key_channels),
        scores_(scores),
        terms_(scores, most_panels, tile_tokens),
        queries_(most_panels * pair_columns_size<kParts>(channels_)),
        keys_(pair_rows_size<kParts>(tile_tokens, channels_)) {}

  void take_batch(int64_t batch) { batch_ = batch; }

  void take_queries(int64_t first, int64_t count) {
    const Matrix& query = scores_.query;
    panels_ = divide_up(count, kWidth);
    // The largest score is then that of the largest product.
    const float sign = scale() == scores_.scale || terms_.present() ? 1.0f : -1.0f;
    with_type(query.dtype, [&](auto type) {
      const auto* from = static_cast<const decltype(type)*>(query.data) + batch_ * query.batch_stride;
      for (int64_t done = 0; done < count; done += kWidth) {
        pack_pair_columns<kParts>(from + (first + done) * query.column_stride, smaller<int64_t>(kWidth, count - done),
                                  query.column_stride, channels_, query.channel_stride, sign,
                                  queries_.data() + done / kWidth * pair_columns_size<kParts>(channels_));
      }
    });
    terms_.take_queries(batch_, first, count);
  }

  void take_tokens(int64_t first, int64_t count) {
    const Matrix& key = scores_.key;
    with_type(key.dtype, [&](auto type) {
      const auto* from = static_cast<const decltype(type)*>(key.data) + batch_ * key.batch_stride;
      pack_pair_rows<kParts>(from + first * key.column_stride, count, key.column_stride, channels_, key.channel_stride,
                             keys_.data());
    });
    terms_.take_tokens(batch_, first, count);
  }

  // Scores of the `tokens` taken tokens against a panel of the taken queries; what follows them in the tile is garbage.
  void compute(int64_t panel, int64_t tokens, float* tile) const {
    compute_unscaled(panel, tokens, tile);
    if (terms_.present()) return;
    const Floats factor = broadcast(scale());
    for (int64_t x = 0; x < tokens * kWidth; x += kLanes) store(tile + x, load(tile + x) * factor);
  }

  // The same, but for a factor that is left to the caller: scale().
  void compute_unscaled(int64_t panel, int64_t tokens, float* tile) const {
    const int64_t size = pair_columns_size<kParts>(channels_), next = panel + 1 < panels_ ? panel + 1 : 0;
    multiply_pairs<kParts, false>(keys_.data(), queries_.data() + panel * size, divide_up(tokens, kPairBlock),
                                  channels_, tile, Ahead(queries_.data() + next * size, size));
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
  int64_t panels_ = 0;  // taken
  Scores scores_;
  AffineTerms terms_;
  Buffer<uint16_t> queries_, keys_;
  TileUnit unit_;
  int64_t batch_ = 0;
};

}  // namespace STM_ISA
}  // namespace stm

#endif
