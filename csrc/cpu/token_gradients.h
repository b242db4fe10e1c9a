// Gradients of a tile's tokens: of their keys and values, gains and biases.
#pragma once

#include "cpu/packed_queries.h"

namespace stm {
inline namespace STM_ISA {

// Sums over queries, to which products are added, and their way to the outputs. Each panel of channels is
// [token][kWidth].
class TokenGradients {
 public:
  TokenGradients(const Backward& read, const Wanted& wanted)
      : read_(read),
        sizes_(read.sizes),
        wanted_(wanted),
        keys_(wanted.key_side ? kPanelSize * divide_up(sizes_.key_channels, kWidth) : 0),
        values_(wanted.value ? sizes_.objects * object_size() : 0),
        row_sums_(wanted.key_side ? kTileTokens * 2 : 0) {}

  void clear() {
    if (wanted_.key_side) {
      zero(keys_.data(), kPanelSize * divide_up(sizes_.key_channels, kWidth));
      zero(row_sums_.data(), kTileTokens * 2);
    }
    if (wanted_.value) zero(values_.data(), sizes_.objects * object_size());
  }

  // Sums of dS times the query keys, and of P times grad_out.
  float* keys() { return keys_.data(); }
  float* values() { return values_.data(); }
  // For each token the sums of dS and of dS * offset.
  float* row_sums() { return row_sums_.data(); }

  void write(int64_t batch, int64_t first, int64_t tokens) const {
    float factors[kTileTokens];
    if (wanted_.value) {
      for (int64_t j = 0; j < tokens; ++j) factors[j] = 1.0f;
      for (int64_t object = 0; object < sizes_.objects; ++object) {
        write_matrix(object_of(read_.gradients.value, object), sizes_.value_channels, batch, first, tokens, factors,
                     values_.data() + object * object_size());
      }
    }
    if (!wanted_.key_side) return;
    const Vector gain = read_.scores.gain.batch(batch);
    if (read_.gradients.key) {
      for (int64_t j = 0; j < tokens; ++j) factors[j] = read_.scores.scale * (gain ? gain[first + j] : 1.0f);
      write_matrix(read_.gradients.key, sizes_.key_channels, batch, first, tokens, factors, keys_.data());
    }
    for (int64_t j = 0; j < tokens; ++j) {
      const float* const sums = row_sums_.data() + j * 2;
      if (read_.gradients.bias) read_.gradients.bias.batch(batch)[first + j] = sums[0];
      if (read_.gradients.gain) {
        const float product = product_with_key(batch, first + j, keys_.data() + j * kWidth);
        read_.gradients.gain.batch(batch)[first + j] = read_.scores.scale * product + sums[1];
      }
    }
  }

 private:
  static constexpr int64_t kPanelSize = kTileTokens * kWidth;

  int64_t object_size() const { return kPanelSize * divide_up(sizes_.value_channels, kWidth); }

  // Returns the product of a token's key with its sums.
  float product_with_key(int64_t batch, int64_t token, const float* sums) const {
    const Matrix& key = read_.scores.key;
    float product = 0;
    with_type(key.dtype, [&](auto type) {
      const auto* x =
          static_cast<const decltype(type)*>(key.data) + batch * key.batch_stride + token * key.column_stride;
      for (int64_t c = 0; c < sizes_.key_channels; ++c) {
        product += sums[channel_offset(c)] * to_float(x[c * key.channel_stride]);
      }
    });
    return product;
  }

  // Returns where a channel is in the sums of a token.
  static int64_t channel_offset(int64_t channel) { return channel / kWidth * kPanelSize + channel % kWidth; }

  // Writes channel by channel: the tokens of a channel are mostly adjacent in the output.
  static void write_matrix(const Matrix& out, int64_t channels, int64_t batch, int64_t first, int64_t tokens,
                           const float* factors, const float* sums) {
    with_type(out.dtype, [&](auto type) {
      auto* to = static_cast<decltype(type)*>(out.data) + batch * out.batch_stride + first * out.column_stride;
      for (int64_t c = 0; c < channels; ++c, to += out.channel_stride) {
        const float* const from = sums + channel_offset(c);
        for (int64_t j = 0; j < tokens; ++j) from_float(factors[j] * from[j * kWidth], to[j * out.column_stride]);
      }
    });
  }

  const Backward& read_;
  Sizes sizes_;
  Wanted wanted_;
  Buffer<float> keys_, values_, row_sums_;
};

}  // namespace STM_ISA
}  // namespace stm
