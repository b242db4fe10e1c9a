// The CPU kernels without torch, against the formula in double precision: for machines that have no torch, and for
// sanitizers. Every instruction set that the machine executes is tested. Exits with the number of failed checks.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "cpu/engine_choice.h"

namespace {

using stm::Dtype;

#if defined(__aarch64__)
using Half = __fp16;
#else
using Half = _Float16;
#endif

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr float kPoison = std::numeric_limits<float>::quiet_NaN();

int failures = 0;

void expect(bool holds, const std::string& what) {
  if (holds) return;
  ++failures;
  std::printf("FAILED: %s\n", what.c_str());
}

void run_threads(int workers, void (*body)(void*, int), void* context) {
  std::vector<std::thread> threads;
  for (int worker = 1; worker < workers; ++worker) threads.emplace_back(body, context, worker);
  body(context, 0);
  for (std::thread& thread : threads) thread.join();
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

// Numbers of a dtype, (batch, object, channel, column), tokens first or channels first.
class Array {
 public:
  Array(Dtype dtype, int64_t batches, int64_t objects, int64_t channels, int64_t columns, bool tokens_first = false)
      : dtype_(dtype),
        channels_(channels),
        columns_(columns),
        objects_(objects),
        tokens_first_(tokens_first),
        bytes_(static_cast<std::size_t>(batches * objects * channels * columns) * size(), '\xff') {}

  static Array random(Dtype dtype, int64_t batches, int64_t objects, int64_t channels, int64_t columns,
                      bool tokens_first, Random& random) {
    Array array(dtype, batches, objects, channels, columns, tokens_first);
    for (int64_t i = 0; i < batches * objects * channels * columns; ++i) array.put(i, random());
    return array;
  }

  double at(int64_t batch, int64_t object, int64_t channel, int64_t column) const {
    return get(((batch * objects_ + object) * channels_ * columns_) + channel * channel_stride() +
               column * column_stride());
  }

  stm::Matrix matrix() {
    return {bytes_.data(), dtype_, objects_ * channels_ * columns_, channel_stride(), column_stride()};
  }
  stm::ObjectMatrix objects() {
    return {bytes_.data(),        dtype_,           objects_ * channels_ * columns_,
            channels_ * columns_, channel_stride(), column_stride()};
  }
  bool operator==(const Array& other) const { return bytes_ == other.bytes_; }

 private:
  std::size_t size() const { return dtype_ == Dtype::kFloat32 ? 4 : 2; }
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

stm::Vector vector(Numbers& x, int64_t columns) { return {x.empty() ? nullptr : x.data(), columns, 1}; }

struct Case {
  const char* name;
  stm::Sizes sizes;
  Dtype key = Dtype::kFloat32, value = Dtype::kFloat32;
  bool affine = false, tokens_first = false, last_batch_masked = false;
  int64_t top_k = 5;
};

const Case kCases[] = {
    {"one of all", {1, 1, 1, 1, 1, 1}},
    {"odd sizes", {2, 53, 301, 37, 2, 19}},
    {"odd sizes, affine, tokens first", {2, 53, 301, 37, 2, 19}, Dtype::kFloat32, Dtype::kFloat32, true, true},
    {"several splits", {1, 7, 4500, 16, 1, 9}, Dtype::kFloat32, Dtype::kFloat32, true},
    {"many queries", {1, 1100, 120, 8, 1, 12}},
    {"nothing left by the mask", {2, 20, 130, 8, 1, 6}, Dtype::kFloat32, Dtype::kFloat32, true, false, true},
    {"bfloat16", {1, 50, 310, 64, 2, 40}, Dtype::kBFloat16, Dtype::kBFloat16},
    {"bfloat16, tokens first", {1, 50, 310, 64, 2, 40}, Dtype::kBFloat16, Dtype::kBFloat16, true, true},
    {"float32 keys, bfloat16 values", {1, 50, 310, 64, 1, 40}, Dtype::kFloat32, Dtype::kBFloat16},
    {"float16", {1, 50, 310, 33, 1, 17}, Dtype::kFloat16, Dtype::kFloat16},
    {"more wanted than there are", {1, 9, 3, 4, 1, 2}, Dtype::kFloat32, Dtype::kFloat32, false, false, false, 30},
};

// Everything that is computed, by the kernels or by the formula.
struct Results {
  Array out;
  Numbers lse, usage;
  Array best_out;
  Numbers best_lse;
  std::vector<int64_t> indices;
  Numbers weights;
  Array grad_query, grad_key, grad_value;
  Numbers grad_gain, grad_offset, grad_bias;

  explicit Results(const Case& c)
      : out(c.value, c.sizes.batches, c.sizes.objects, c.sizes.value_channels, c.sizes.queries),
        lse(count(c.sizes.queries, c), kPoison),
        usage(count(c.sizes.tokens, c), kPoison),
        best_out(out),
        best_lse(lse),
        indices(static_cast<std::size_t>(c.sizes.batches * c.sizes.queries * c.top_k), -7),
        weights(indices.size(), kPoison),
        grad_query(c.key, c.sizes.batches, 1, c.sizes.key_channels, c.sizes.queries),
        grad_key(c.key, c.sizes.batches, 1, c.sizes.key_channels, c.sizes.tokens),
        grad_value(c.value, c.sizes.batches, c.sizes.objects, c.sizes.value_channels, c.sizes.tokens),
        grad_gain(c.affine ? usage.size() : 0, kPoison),
        grad_offset(c.affine ? lse.size() : 0, kPoison),
        grad_bias(grad_gain) {}

  static std::size_t count(int64_t columns, const Case& c) {
    return static_cast<std::size_t>(columns * c.sizes.batches);
  }

  bool operator==(const Results& x) const {
    const auto same = [](const Numbers& a, const Numbers& b) {
      return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
    };
    return out == x.out && same(lse, x.lse) && same(usage, x.usage) && best_out == x.best_out &&
           same(best_lse, x.best_lse) && indices == x.indices && same(weights, x.weights) &&
           grad_query == x.grad_query && grad_key == x.grad_key && grad_value == x.grad_value &&
           same(grad_gain, x.grad_gain) && same(grad_offset, x.grad_offset) && same(grad_bias, x.grad_bias);
  }
};

struct Inputs {
  Array query, key, value, upstream;
  Numbers gain, offset, bias;
  float scale;

  Inputs(const Case& c, Random& random)
      : query(Array::random(c.key, c.sizes.batches, 1, c.sizes.key_channels, c.sizes.queries, c.tokens_first, random)),
        key(Array::random(c.key, c.sizes.batches, 1, c.sizes.key_channels, c.sizes.tokens, c.tokens_first, random)),
        value(Array::random(c.value, c.sizes.batches, c.sizes.objects, c.sizes.value_channels, c.sizes.tokens,
                            c.tokens_first, random)),
        upstream(Array::random(c.value, c.sizes.batches, c.sizes.objects, c.sizes.value_channels, c.sizes.queries,
                               c.tokens_first, random)),
        scale(1 / std::sqrt(static_cast<float>(c.sizes.key_channels))) {
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

Results compute(const Case& c, Inputs& inputs, const stm::Engine& engine, int workers) {
  Results r(c);
  const stm::Threads threads{workers, run_threads};
  const stm::Sizes& sizes = c.sizes;
  const stm::Scores scores = inputs.scores(sizes);
  const stm::Vector lse = vector(r.lse, sizes.queries);
  engine.forward({sizes, scores, inputs.value.objects(), r.out.objects(), lse}, threads);
  engine.usage({sizes, scores, lse, vector(r.usage, sizes.tokens)}, threads);
  engine.top_k({sizes, scores, inputs.value.objects(), r.best_out.objects(), vector(r.best_lse, sizes.queries), c.top_k,
                r.indices.data(), r.weights.data()},
               threads);
  const stm::Gradients gradients{r.grad_query.matrix(),
                                 vector(r.grad_offset, sizes.queries),
                                 r.grad_key.matrix(),
                                 vector(r.grad_gain, sizes.tokens),
                                 vector(r.grad_bias, sizes.tokens),
                                 r.grad_value.objects()};
  engine.backward(
      {sizes, scores, inputs.value.objects(), r.out.objects(), lse, inputs.upstream.objects(), {}, gradients}, threads);
  return r;
}

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
  bool within(double relative) const { return largest_ <= relative * std::max(scale_, 1.0); }
  double relative() const { return largest_ / std::max(scale_, 1.0); }

 private:
  double largest_ = 0, scale_ = 0;
};

// Softmax weights of one query, of the chosen tokens only where some are chosen; the log-sum-exp is returned.
double softmax(std::vector<double>& scores) {
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

void check(const Case& c, const Inputs& inputs, const Results& r, const std::string& where) {
  const stm::Sizes& s = c.sizes;
  const bool narrow = c.key != Dtype::kFloat32 || c.value != Dtype::kFloat32;
  const double bound = narrow ? 2e-2 : 2e-5;
  Error out, lse, usage, best, best_lse, grad_value, grad_query, grad_key, grad_bias, grad_offset, grad_gain;
  for (int64_t b = 0; b < s.batches; ++b) {
    std::vector<double> used(static_cast<std::size_t>(s.tokens)), bias_sums(used), gain_sums(used);
    std::vector<double> value_sums(static_cast<std::size_t>(s.tokens * s.rows()));
    std::vector<double> key_sums(static_cast<std::size_t>(s.tokens * s.key_channels));
    for (int64_t i = 0; i < s.queries; ++i) {
      const auto query = static_cast<std::size_t>(b * s.queries + i);
      std::vector<double> weights(static_cast<std::size_t>(s.tokens));
      for (int64_t j = 0; j < s.tokens; ++j) weights[static_cast<std::size_t>(j)] = inputs.score(s, b, i, j);
      std::vector<double> chosen(weights);
      lse.add(r.lse[query], softmax(weights));

      std::vector<std::size_t> order(weights.size());
      for (std::size_t j = 0; j < order.size(); ++j) order[j] = j;
      std::sort(order.begin(), order.end(),
                [&](std::size_t a, std::size_t z) { return chosen[a] != chosen[z] ? chosen[a] > chosen[z] : a < z; });
      for (std::size_t k = static_cast<std::size_t>(c.top_k); k < order.size(); ++k) chosen[order[k]] = -kInfinity;
      best_lse.add(r.best_lse[query], softmax(chosen));

      double slopes_total = 0, delta = 0;
      std::vector<double> slopes(weights.size());
      for (int64_t o = 0; o < s.objects; ++o) {
        for (int64_t v = 0; v < s.value_channels; ++v) {
          double read = 0, read_best = 0;
          const double up = inputs.upstream.at(b, o, v, i);
          for (int64_t j = 0; j < s.tokens; ++j) {
            const auto token = static_cast<std::size_t>(j);
            const double value = inputs.value.at(b, o, v, j);
            read += weights[token] * value;
            read_best += chosen[token] * value;
            slopes[token] += up * value;
            value_sums[static_cast<std::size_t>((o * s.value_channels + v) * s.tokens + j)] += up * weights[token];
          }
          delta += up * read;
          out.add(r.out.at(b, o, v, i), read);
          best.add(r.best_out.at(b, o, v, i), read_best);
        }
      }
      std::vector<double> query_sums(static_cast<std::size_t>(s.key_channels));
      for (int64_t j = 0; j < s.tokens; ++j) {
        const auto token = static_cast<std::size_t>(j), place = static_cast<std::size_t>(b * s.tokens + j);
        used[token] += weights[token];
        const double slope = weights[token] == 0 ? 0 : weights[token] * (slopes[token] - delta);
        const double gain = c.affine ? inputs.gain[place] : 1;
        double product = 0;
        for (int64_t k = 0; k < s.key_channels; ++k) {
          const double q = inputs.query.at(b, 0, k, i), key = inputs.key.at(b, 0, k, j);
          query_sums[static_cast<std::size_t>(k)] += inputs.scale * gain * slope * key;
          key_sums[static_cast<std::size_t>(k * s.tokens + j)] += inputs.scale * gain * slope * q;
          product += q * key;
        }
        slopes_total += gain * slope;
        bias_sums[token] += slope;
        if (c.affine) gain_sums[token] += slope * (inputs.scale * product + inputs.offset[query]);
      }
      for (int64_t k = 0; k < s.key_channels; ++k) {
        grad_query.add(r.grad_query.at(b, 0, k, i), query_sums[static_cast<std::size_t>(k)]);
      }
      if (c.affine) grad_offset.add(r.grad_offset[query], slopes_total);
    }
    for (int64_t j = 0; j < s.tokens; ++j) {
      const auto token = static_cast<std::size_t>(j), place = static_cast<std::size_t>(b * s.tokens + j);
      usage.add(r.usage[place], used[token]);
      for (int64_t row = 0; row < s.rows(); ++row) {
        grad_value.add(r.grad_value.at(b, row / s.value_channels, row % s.value_channels, j),
                       value_sums[static_cast<std::size_t>(row * s.tokens + j)]);
      }
      for (int64_t k = 0; k < s.key_channels; ++k) {
        grad_key.add(r.grad_key.at(b, 0, k, j), key_sums[static_cast<std::size_t>(k * s.tokens + j)]);
      }
      if (!c.affine) continue;
      grad_bias.add(r.grad_bias[place], bias_sums[token]);
      grad_gain.add(r.grad_gain[place], gain_sums[token]);
    }
  }
  const std::pair<const char*, const Error&> errors[] = {{"readout", out},
                                                         {"log-sum-exp", lse},
                                                         {"usage", usage},
                                                         {"top-k readout", best},
                                                         {"top-k log-sum-exp", best_lse},
                                                         {"gradient of values", grad_value},
                                                         {"gradient of queries", grad_query},
                                                         {"gradient of keys", grad_key},
                                                         {"gradient of biases", grad_bias},
                                                         {"gradient of offsets", grad_offset},
                                                         {"gradient of gains", grad_gain}};
  for (const auto& [what, error] : errors) {
    expect(error.within(bound), where + ": " + what + " differs by " + std::to_string(error.relative()));
  }
}

}  // namespace

int main() {
  for (const stm::Engine* engine : stm::engines()) {
    for (const Case& c : kCases) {
      Random random(7);
      Inputs inputs(c, random);
      const std::string where = std::string(engine->name) + ", " + c.name;
      const Results alone = compute(c, inputs, *engine, 1);
      check(c, inputs, alone, where);
      expect(alone == compute(c, inputs, *engine, 3), where + ": three threads give other bits than one");
    }
    std::printf("%s: %zu cases\n", engine->name, std::size(kCases));
  }
  std::printf(failures == 0 ? "all passed\n" : "%d checks failed\n", failures);
  return std::min(failures, 125);
}
