// Reads to test: sizes, random inputs, and space for gradients.
#pragma once

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "stm_fast/read.h"

using stm::Dtype;

#if defined(__aarch64__)
using Half = __fp16;
#else
using Half = _Float16;
#endif

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr float kPoison = std::numeric_limits<float>::quiet_NaN();

class Random {
 public:
  explicit Random(uint32_t seed) : state_(seed * 2654435761u + 1) {}
  // Approximately normal.
  float operator()() {
    float sum = 0;
    for (int i = 0; i < 12; ++i) sum += next();
    return sum - 6;
  }
  float next() {
    state_ = state_ * 1664525u + 1013904223u;
    return static_cast<float>(state_ >> 8) / 16777216.0f;
  }

 private:
  uint32_t state_;
};

// Numbers of a dtype, (batch, object, channel, column), tokens first or channels first. Behind the columns of each
// channel, and behind the channels of each object, there is space for `spare` more, filled with NaN.
class Array {
 public:
  Array(Dtype dtype, int64_t batches, int64_t objects, int64_t channels, int64_t columns, bool tokens_first = false,
        int64_t spare = 0)
      : dtype_(dtype),
        channels_(channels + spare),
        columns_(columns + spare),
        objects_(objects),
        tokens_first_(tokens_first),
        bytes_(static_cast<std::size_t>(batches * objects * channels_ * columns_) * size(), '\xff') {}

  static Array random(Dtype dtype, int64_t batches, int64_t objects, int64_t channels, int64_t columns,
                      bool tokens_first, Random& random, int64_t spare = 0) {
    Array array(dtype, batches, objects, channels, columns, tokens_first, spare);
    const int64_t outer = tokens_first ? columns : channels, inner = tokens_first ? channels : columns;
    for (int64_t object = 0; object < batches * objects; ++object)
      for (int64_t i = 0; i < outer * inner; ++i)
        array.put(object * array.object_stride() + i / inner * (inner + spare) + i % inner, random());
    return array;
  }

  double at(int64_t batch, int64_t object, int64_t channel, int64_t column) const {
    return get((batch * objects_ + object) * object_stride() + channel * channel_stride() + column * column_stride());
  }

  stm::Matrix matrix() {
    return {bytes_.data(), dtype_, objects_ * object_stride(), channel_stride(), column_stride()};
  }
  stm::ObjectMatrix objects() {
    return {bytes_.data(), dtype_, objects_ * object_stride(), object_stride(), channel_stride(), column_stride()};
  }
  bool operator==(const Array& other) const { return bytes_ == other.bytes_; }

 private:
  std::size_t size() const { return dtype_ == Dtype::kFloat32 ? 4 : 2; }
  int64_t object_stride() const { return channels_ * columns_; }
  int64_t channel_stride() const { return tokens_first_ ? 1 : columns_; }
  int64_t column_stride() const { return tokens_first_ ? channels_ : 1; }

  void put(int64_t index, float value) {
    char* const to = bytes_.data() + static_cast<std::size_t>(index) * size();
    if (dtype_ == Dtype::kFloat32) {
      std::memcpy(to, &value, 4);
    } else if (dtype_ == Dtype::kFloat16) {
      const Half half = static_cast<Half>(value);
      std::memcpy(to, &half, 2);
    } else {
      uint32_t bits;
      std::memcpy(&bits, &value, 4);
      const uint16_t upper = static_cast<uint16_t>(bits >> 16);
      std::memcpy(to, &upper, 2);
    }
  }

  double get(int64_t index) const {
    const char* const from = bytes_.data() + static_cast<std::size_t>(index) * size();
    if (dtype_ == Dtype::kFloat32) {
      float value;
      std::memcpy(&value, from, 4);
      return value;
    }
    uint16_t half;
    std::memcpy(&half, from, 2);
    if (dtype_ == Dtype::kFloat16) {
      Half value;
      std::memcpy(&value, from, 2);
      return static_cast<double>(value);
    }
    const uint32_t bits = static_cast<uint32_t>(half) << 16;
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
  }

  Dtype dtype_;
  int64_t channels_, columns_, objects_;
  bool tokens_first_;
  std::vector<char> bytes_;
};

using Numbers = std::vector<float>;

inline stm::Vector vector(Numbers& x, int64_t columns) { return {x.empty() ? nullptr : x.data(), columns, 1}; }

inline bool same(const Numbers& a, const Numbers& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

struct Case {
  const char* name;
  stm::Sizes sizes;
  Dtype key = Dtype::kFloat32, value = Dtype::kFloat32;
  bool affine = false, tokens_first = false, last_batch_masked = false;
  int64_t top_k = 5;
  // Space behind the tokens of keys and values, as in a bank that is not full.
  int64_t spare = 0;
};

// The gradients of one backward pass; those of a side may be left out.
struct GradientOutputs {
  Array query, key, value;
  Numbers gain, offset, bias;

  explicit GradientOutputs(const Case& c)
      : query(c.key, c.sizes.batches, 1, c.sizes.key_channels, c.sizes.queries),
        key(c.key, c.sizes.batches, 1, c.sizes.key_channels, c.sizes.tokens),
        value(c.value, c.sizes.batches, c.sizes.objects, c.sizes.value_channels, c.sizes.tokens),
        gain(c.affine ? static_cast<std::size_t>(c.sizes.batches * c.sizes.tokens) : 0, kPoison),
        offset(c.affine ? static_cast<std::size_t>(c.sizes.batches * c.sizes.queries) : 0, kPoison),
        bias(gain) {}

  stm::Gradients wanted(const stm::Sizes& sizes, bool query_side, bool key_side, bool value_side) {
    stm::Gradients g;
    if (query_side) {
      g.query = query.matrix();
      g.offset = vector(offset, sizes.queries);
    }
    if (key_side) {
      g.key = key.matrix();
      g.gain = vector(gain, sizes.tokens);
      g.bias = vector(bias, sizes.tokens);
    }
    if (value_side) g.value = value.objects();
    return g;
  }

  bool operator==(const GradientOutputs& x) const {
    return query == x.query && key == x.key && value == x.value && same(gain, x.gain) && same(offset, x.offset) &&
           same(bias, x.bias);
  }
};

struct Inputs {
  Array query, key, value, upstream;
  Numbers upstream_lse, gain, offset, bias;
  float scale;

  Inputs(const Case& c, Random& random)
      : query(Array::random(c.key, c.sizes.batches, 1, c.sizes.key_channels, c.sizes.queries, c.tokens_first, random)),
        key(Array::random(c.key, c.sizes.batches, 1, c.sizes.key_channels, c.sizes.tokens, c.tokens_first, random,
                          c.spare)),
        value(Array::random(c.value, c.sizes.batches, c.sizes.objects, c.sizes.value_channels, c.sizes.tokens,
                            c.tokens_first, random, c.spare)),
        upstream(Array::random(c.value, c.sizes.batches, c.sizes.objects, c.sizes.value_channels, c.sizes.queries,
                               c.tokens_first, random)),
        scale(1 / std::sqrt(static_cast<float>(c.sizes.key_channels))) {
    for (int64_t i = 0; i < c.sizes.batches * c.sizes.queries; ++i) upstream_lse.push_back(random());
    if (!c.affine) return;
    for (int64_t i = 0; i < c.sizes.batches * c.sizes.queries; ++i) offset.push_back(random());
    for (int64_t j = 0; j < c.sizes.batches * c.sizes.tokens; ++j) {
      gain.push_back(0.5f + random.next());
      const bool masked = random.next() < 0.2f || (c.last_batch_masked && j >= (c.sizes.batches - 1) * c.sizes.tokens);
      bias.push_back(masked ? -std::numeric_limits<float>::infinity() : random());
    }
  }

  stm::Scores scores(const stm::Sizes& sizes) {
    return {query.matrix(),
            key.matrix(),
            vector(gain, sizes.tokens),
            vector(offset, sizes.queries),
            vector(bias, sizes.tokens),
            scale};
  }

  double score(const stm::Sizes& sizes, int64_t batch, int64_t i, int64_t j) const {
    double product = 0;
    for (int64_t c = 0; c < sizes.key_channels; ++c) product += query.at(batch, 0, c, i) * key.at(batch, 0, c, j);
    if (gain.empty()) return scale * product;
    const auto token = static_cast<std::size_t>(batch * sizes.tokens + j);
    return gain[token] * (scale * product + offset[static_cast<std::size_t>(batch * sizes.queries + i)]) + bias[token];
  }
};
