// Reads to be done, what kernels make of them, and how far that is from the formula in double precision.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <string>
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

inline int failures = 0;
// Of failures that are meant to happen nothing is said.
inline bool silent = false;

inline void expect(bool holds, const std::string& what) {
  if (holds) return;
  ++failures;
  if (!silent) std::printf("FAILED: %s\n", what.c_str());
}

class Random {
 public:
  explicit Random(uint32_t seed) : state_(seed * 2654435761u + 1) {}
  // About normal.
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

// Numbers of a dtype, (batch, object, channel, column), tokens first or channels first. Behind the columns of a
// channel, and behind the channels of an object, there is room for `spare` more, filled with NaN.
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
  // Room behind the tokens of keys and values, as in a bank that is not full.
  int64_t spare = 0;
};

// Room for the gradients of one backward pass; those of one side may be left out.
struct GradientRoom {
  Array query, key, value;
  Numbers gain, offset, bias;

  explicit GradientRoom(const Case& c)
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

  bool operator==(const GradientRoom& x) const {
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

// The largest difference, beside the largest true number.
class Error {
 public:
  void add(double found, double truth) {
    if (found == truth) return;
    if (!std::isfinite(truth)) {
      largest_ = kInfinity;
      return;
    }
    const double difference = std::fabs(found - truth);
    largest_ = std::max(largest_, difference == difference ? difference : kInfinity);
    scale_ = std::max(scale_, std::fabs(truth));
  }
  void merge(const Error& other) {
    largest_ = std::max(largest_, other.largest_);
    scale_ = std::max(scale_, other.scale_);
  }
  bool within(double relative) const { return largest_ <= relative * std::max(scale_, 1.0); }
  double relative() const { return largest_ / std::max(scale_, 1.0); }

 private:
  double largest_ = 0, scale_ = 0;
};

// Softmax weights of one query, of the chosen tokens only where some are chosen; the log-sum-exp is returned.
inline double softmax(std::vector<double>& scores) {
  double highest = -kInfinity, total = 0;
  for (double x : scores) highest = std::max(highest, x);
  if (highest == -kInfinity) {
    std::fill(scores.begin(), scores.end(), 0.0);
    return -kInfinity;
  }
  for (double& x : scores) total += x = std::exp(x - highest);
  for (double& x : scores) x /= total;
  return highest + std::log(total);
}

// The gradients of one backward pass by the formula, summed query by query from the softmax weights, and how far those
// of the kernels are from them.
class TrueGradients {
 public:
  TrueGradients(const Case& c, const Inputs& inputs, const GradientRoom& found, int64_t batch)
      : c_(c),
        inputs_(inputs),
        found_(found),
        batch_(batch),
        value_(size(c.sizes.tokens * c.sizes.rows())),
        key_(size(c.sizes.tokens * c.sizes.key_channels)),
        gain_(size(c.sizes.tokens)),
        bias_(gain_) {}

  void add_query(int64_t i, const std::vector<double>& weights) {
    const stm::Sizes& s = c_.sizes;
    const std::size_t query = size(batch_ * s.queries + i);
    double delta = -inputs_.upstream_lse[query], offset = 0;
    std::vector<double> slopes(weights.size()), sums(size(s.key_channels));
    for (int64_t row = 0; row < s.rows(); ++row) {
      const double up = inputs_.upstream.at(batch_, row / s.value_channels, row % s.value_channels, i);
      for (int64_t j = 0; j < s.tokens; ++j) {
        if (weights[size(j)] == 0) continue;
        const double value = inputs_.value.at(batch_, row / s.value_channels, row % s.value_channels, j);
        slopes[size(j)] += up * value;
        delta += up * weights[size(j)] * value;
        value_[size(row * s.tokens + j)] += up * weights[size(j)];
      }
    }
    for (int64_t j = 0; j < s.tokens; ++j) {
      if (weights[size(j)] == 0) continue;
      const double slope = weights[size(j)] * (slopes[size(j)] - delta);
      const double gain = c_.affine ? inputs_.gain[size(batch_ * s.tokens + j)] : 1;
      double product = 0;
      for (int64_t k = 0; k < s.key_channels; ++k) {
        const double q = inputs_.query.at(batch_, 0, k, i), key = inputs_.key.at(batch_, 0, k, j);
        sums[size(k)] += inputs_.scale * gain * slope * key;
        key_[size(k * s.tokens + j)] += inputs_.scale * gain * slope * q;
        product += q * key;
      }
      offset += gain * slope;
      bias_[size(j)] += slope;
      if (c_.affine) gain_[size(j)] += slope * (inputs_.scale * product + inputs_.offset[query]);
    }
    for (int64_t k = 0; k < s.key_channels; ++k) query_error.add(found_.query.at(batch_, 0, k, i), sums[size(k)]);
    if (c_.affine) offset_error.add(found_.offset[query], offset);
  }

  void finish(Error& value, Error& key, Error& gain, Error& bias) const {
    const stm::Sizes& s = c_.sizes;
    for (int64_t j = 0; j < s.tokens; ++j) {
      for (int64_t row = 0; row < s.rows(); ++row) {
        value.add(found_.value.at(batch_, row / s.value_channels, row % s.value_channels, j),
                  value_[size(row * s.tokens + j)]);
      }
      for (int64_t k = 0; k < s.key_channels; ++k) {
        key.add(found_.key.at(batch_, 0, k, j), key_[size(k * s.tokens + j)]);
      }
      if (!c_.affine) continue;
      bias.add(found_.bias[size(batch_ * s.tokens + j)], bias_[size(j)]);
      gain.add(found_.gain[size(batch_ * s.tokens + j)], gain_[size(j)]);
    }
  }

  Error query_error, offset_error;

 private:
  static std::size_t size(int64_t x) { return static_cast<std::size_t>(x); }

  const Case& c_;
  const Inputs& inputs_;
  const GradientRoom& found_;
  int64_t batch_;
  std::vector<double> value_, key_, gain_, bias_;
};

// Errors of the gradients of one backward pass.
struct GradientErrors {
  Error query, offset, value, key, gain, bias;

  void add(const TrueGradients& truth) {
    query.merge(truth.query_error);
    offset.merge(truth.offset_error);
    truth.finish(value, key, gain, bias);
  }

  void expect_within(double bound, const std::string& where) const {
    const std::pair<const char*, const Error&> errors[] = {{"queries", query}, {"offsets", offset}, {"values", value},
                                                           {"keys", key},      {"gains", gain},     {"biases", bias}};
    for (const auto& [what, error] : errors) {
      expect(error.within(bound), where + "gradient of " + what + " differs by " + std::to_string(error.relative()));
    }
  }
};

// Everything that is computed by the kernels.
struct Results {
  Array out;
  Numbers lse, usage;
  Array best_out;
  Numbers best_lse;
  std::vector<int64_t> indices;
  Numbers weights;
  GradientRoom gradients, best_gradients;

  explicit Results(const Case& c)
      : out(c.value, c.sizes.batches, c.sizes.objects, c.sizes.value_channels, c.sizes.queries),
        lse(count(c.sizes.queries, c), kPoison),
        usage(count(c.sizes.tokens, c), kPoison),
        best_out(out),
        best_lse(lse),
        indices(static_cast<std::size_t>(c.sizes.batches * c.sizes.queries * c.top_k), -7),
        weights(indices.size(), kPoison),
        gradients(c),
        best_gradients(c) {}

  static std::size_t count(int64_t columns, const Case& c) {
    return static_cast<std::size_t>(columns * c.sizes.batches);
  }

  bool operator==(const Results& x) const {
    return out == x.out && same(lse, x.lse) && same(usage, x.usage) && best_out == x.best_out &&
           same(best_lse, x.best_lse) && indices == x.indices && same(weights, x.weights) && gradients == x.gradients &&
           best_gradients == x.best_gradients;
  }
};

// The tokens that a query chose and their weights. Of scores that are nearly equal either may have been chosen.
inline void check_choice(const Case& c, const Results& r, std::size_t query, const std::vector<double>& scores,
                         const std::vector<std::size_t>& order, const std::vector<double>& chosen, double bound,
                         Error& weights, const std::string& where) {
  const std::size_t each = static_cast<std::size_t>(c.top_k), held = std::min(each, order.size());
  for (std::size_t k = 0; k < each; ++k) {
    const int64_t index = r.indices[query * each + k];
    const double weight = r.weights[query * each + k];
    if (k >= held) {
      expect(index == 0 && weight == 0, where + ": a place that the memory leaves free is not empty");
      continue;
    }
    weights.add(weight, chosen[order[k]]);
    if (weight == 0) continue;
    const bool inside = index >= 0 && static_cast<std::size_t>(index) < order.size();
    expect(inside && std::fabs(scores[static_cast<std::size_t>(index)] - scores[order[k]]) <=
                         bound * std::max(1.0, std::fabs(scores[order[k]])),
           where + ": another token was chosen");
  }
}

inline void check(const Case& c, const Inputs& inputs, const Results& r, const std::string& where) {
  const stm::Sizes& s = c.sizes;
  const bool narrow = c.key != Dtype::kFloat32 || c.value != Dtype::kFloat32;
  // Of bfloat16 inputs, which are exact in the formula, only weights and slopes are rounded to 8 bits.
  const double bound = narrow ? 1e-2 : 1e-5;
  Error out, lse, usage, best, best_lse, best_weights;
  GradientErrors dense_errors, best_errors;
  for (int64_t b = 0; b < s.batches; ++b) {
    std::vector<double> used(static_cast<std::size_t>(s.tokens));
    TrueGradients dense(c, inputs, r.gradients, b), through_best(c, inputs, r.best_gradients, b);
    for (int64_t i = 0; i < s.queries; ++i) {
      const auto query = static_cast<std::size_t>(b * s.queries + i);
      std::vector<double> weights(static_cast<std::size_t>(s.tokens));
      for (int64_t j = 0; j < s.tokens; ++j) weights[static_cast<std::size_t>(j)] = inputs.score(s, b, i, j);
      const std::vector<double> scores(weights);
      std::vector<double> chosen(weights);
      lse.add(r.lse[query], softmax(weights));

      std::vector<std::size_t> order(weights.size());
      for (std::size_t j = 0; j < order.size(); ++j) order[j] = j;
      std::sort(order.begin(), order.end(),
                [&](std::size_t a, std::size_t z) { return scores[a] != scores[z] ? scores[a] > scores[z] : a < z; });
      for (std::size_t k = static_cast<std::size_t>(c.top_k); k < order.size(); ++k) chosen[order[k]] = -kInfinity;
      best_lse.add(r.best_lse[query], softmax(chosen));
      check_choice(c, r, query, scores, order, chosen, bound, best_weights, where);

      for (int64_t o = 0; o < s.objects; ++o) {
        for (int64_t v = 0; v < s.value_channels; ++v) {
          double read = 0, read_best = 0;
          for (int64_t j = 0; j < s.tokens; ++j) {
            const double value = inputs.value.at(b, o, v, j);
            read += weights[static_cast<std::size_t>(j)] * value;
            read_best += chosen[static_cast<std::size_t>(j)] * value;
          }
          out.add(r.out.at(b, o, v, i), read);
          best.add(r.best_out.at(b, o, v, i), read_best);
        }
      }
      for (std::size_t j = 0; j < used.size(); ++j) used[j] += weights[j];
      dense.add_query(i, weights);
      through_best.add_query(i, chosen);
    }
    for (std::size_t j = 0; j < used.size(); ++j) {
      usage.add(r.usage[static_cast<std::size_t>(b * s.tokens) + j], used[j]);
    }
    dense_errors.add(dense);
    best_errors.add(through_best);
  }
  const std::pair<const char*, const Error&> errors[] = {{"readout", out},
                                                         {"log-sum-exp", lse},
                                                         {"usage", usage},
                                                         {"top-k readout", best},
                                                         {"top-k log-sum-exp", best_lse},
                                                         {"top-k weights", best_weights}};
  for (const auto& [what, error] : errors) {
    expect(error.within(bound), where + ": " + what + " differs by " + std::to_string(error.relative()));
  }
  dense_errors.expect_within(bound, where + ": ");
  best_errors.expect_within(bound, where + ", top-k: ");
}
