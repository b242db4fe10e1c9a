// What kernels must compute, by the formula in double precision, and how far their results are from it.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "problem.h"

inline int failures = 0;
// Failures that a test provokes are not printed.
inline bool silent = false;

inline void expect(bool holds, const std::string& what) {
  if (holds) return;
  ++failures;
  if (!silent) std::printf("FAILED: %s\n", what.c_str());
}

// The largest difference, relative to the largest true number.
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

// Turns the scores of one query into softmax weights and returns their log-sum-exp. Tokens that were not chosen have a
// score of -inf.
inline double softmax(std::vector<double>& scores) {
  double max = -kInfinity, sum = 0;
  for (double x : scores) max = std::max(max, x);
  if (max == -kInfinity) {
    std::fill(scores.begin(), scores.end(), 0.0);
    return -kInfinity;
  }
  for (double& x : scores) sum += x = std::exp(x - max);
  for (double& x : scores) x /= sum;
  return max + std::log(sum);
}

// Computes the gradients of one backward pass by the formula, query by query from the softmax weights, and the errors
// of those of the kernels.
class TrueGradients {
 public:
  TrueGradients(const Case& c, const Inputs& inputs, const GradientOutputs& found, int64_t batch)
      : c_(c),
        inputs_(inputs),
        found_(found),
        batch_(batch),
        value_(size(c.sizes.tokens * c.sizes.total_value_channels())),
        key_(size(c.sizes.tokens * c.sizes.key_channels)),
        gain_(size(c.sizes.tokens)),
        bias_(gain_) {}

  void add_query(int64_t i, const std::vector<double>& weights) {
    const stm::Sizes& s = c_.sizes;
    const std::size_t query = size(batch_ * s.queries + i);
    double delta = -inputs_.upstream_lse[query], offset = 0;
    std::vector<double> grad_weights(weights.size()), sums(size(s.key_channels));
    for (int64_t v = 0; v < s.total_value_channels(); ++v) {
      const double grad_out = inputs_.upstream.at(batch_, v / s.value_channels, v % s.value_channels, i);
      for (int64_t j = 0; j < s.tokens; ++j) {
        if (weights[size(j)] == 0) continue;
        const double value = inputs_.value.at(batch_, v / s.value_channels, v % s.value_channels, j);
        grad_weights[size(j)] += grad_out * value;
        delta += grad_out * weights[size(j)] * value;
        value_[size(v * s.tokens + j)] += grad_out * weights[size(j)];
      }
    }
    for (int64_t j = 0; j < s.tokens; ++j) {
      if (weights[size(j)] == 0) continue;
      const double grad_score = weights[size(j)] * (grad_weights[size(j)] - delta);
      const double gain = c_.affine ? inputs_.gain[size(batch_ * s.tokens + j)] : 1;
      double product = 0;
      for (int64_t k = 0; k < s.key_channels; ++k) {
        const double q = inputs_.query.at(batch_, 0, k, i), key = inputs_.key.at(batch_, 0, k, j);
        sums[size(k)] += inputs_.scale * gain * grad_score * key;
        key_[size(k * s.tokens + j)] += inputs_.scale * gain * grad_score * q;
        product += q * key;
      }
      offset += gain * grad_score;
      bias_[size(j)] += grad_score;
      if (c_.affine) gain_[size(j)] += grad_score * (inputs_.scale * product + inputs_.offset[query]);
    }
    for (int64_t k = 0; k < s.key_channels; ++k) query_error.add(found_.query.at(batch_, 0, k, i), sums[size(k)]);
    if (c_.affine) offset_error.add(found_.offset[query], offset);
  }

  void finish(Error& value, Error& key, Error& gain, Error& bias) const {
    const stm::Sizes& s = c_.sizes;
    for (int64_t j = 0; j < s.tokens; ++j) {
      for (int64_t v = 0; v < s.total_value_channels(); ++v) {
        value.add(found_.value.at(batch_, v / s.value_channels, v % s.value_channels, j),
                  value_[size(v * s.tokens + j)]);
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
  const GradientOutputs& found_;
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

// All that the kernels compute.
struct Results {
  Array out;
  Numbers lse, usage;
  Array best_out;
  Numbers best_lse;
  std::vector<int64_t> indices;
  Numbers weights;
  GradientOutputs gradients, best_gradients;

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

// Checks the tokens that a query chose, and their weights. Of nearly equal scores, either token may have been chosen.
inline void check_choice(const Case& c, const Results& r, std::size_t query, const std::vector<double>& scores,
                         const std::vector<std::size_t>& order, const std::vector<double>& chosen, double bound,
                         Error& weights, const std::string& where) {
  const std::size_t each = static_cast<std::size_t>(c.top_k), count = std::min(each, order.size());
  for (std::size_t k = 0; k < each; ++k) {
    const int64_t index = r.indices[query * each + k];
    const double weight = r.weights[query * each + k];
    if (k >= count) {
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
  // Of bfloat16 inputs, which are exact in the formula, only weights and gradients of scores are rounded to 8 bits.
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
