// The affine terms of scores: gain[j] * (scale * product + offset[i]) + bias[j].
#pragma once

#include "cpu/runtime.h"
#include "cpu/simd.h"

namespace stm {
inline namespace STM_ISA {

// Offsets of the packed queries and factors of the packed tokens. Holds nothing where all three are absent.
class AffineTerms {
 public:
  // The factors of one token, for all queries.
  struct Token {
    Floats gain, scale, bias;
  };

  AffineTerms(const Scores& scores, int64_t max_panels, int64_t tile_tokens)
      : scores_(scores),
        present_(scores.gain || scores.offset || scores.bias),
        tile_tokens_(tile_tokens),
        offsets_(present_ ? max_panels * kWidth : 0),
        factors_(present_ ? kFactors * tile_tokens : 0) {}

  bool present() const { return present_; }

  void pack_queries(int64_t batch, int64_t first, int64_t count) {
    if (!present_) return;
    const Vector offset = scores_.offset.batch(batch);
    for (int64_t i = 0; i < round_up(count, kWidth); ++i) {
      offsets_.data()[i] = offset && i < count ? offset[first + i] : 0.0f;
    }
  }

  void pack_tokens(int64_t batch, int64_t first, int64_t count) {
    if (!present_) return;
    const Vector gain = scores_.gain.batch(batch), bias = scores_.bias.batch(batch);
    float* const factors = factors_.data();
    for (int64_t j = 0; j < round_up(count, kRows); ++j) {
      factors[j] = gain && j < count ? gain[first + j] : 1.0f;
      factors[tile_tokens_ + j] = factors[j] * scores_.scale;
      factors[2 * tile_tokens_ + j] = bias && j < count ? bias[first + j] : 0.0f;
    }
  }

  // The following may be called only where terms are present.
  const float* offsets(int64_t panel) const { return offsets_.data() + panel * kWidth; }
  const float* gains() const { return factors_.data(); }

  STM_INLINE Token token(int64_t j) const {
    const float* const at = gains() + j;
    return {broadcast(at[0]), broadcast(at[tile_tokens_]), broadcast(at[2 * tile_tokens_])};
  }

  // Returns the scores of a token, given its products with some queries.
  static STM_INLINE Floats score(Floats products, const Token& token, Floats offsets) {
    return products * token.scale + (offsets * token.gain + token.bias);
  }

 private:
  static constexpr int64_t kFactors = 3;  // gain, gain times scale, bias

  Scores scores_;
  bool present_;
  int64_t tile_tokens_;
  Buffer<float> offsets_, factors_;
};

}  // namespace STM_ISA
}  // namespace stm
