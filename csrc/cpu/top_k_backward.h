// Gradients of the read of the k best tokens, through the chosen tokens only.
//
// A task owns a channel of a gradient and adds to it query by query, token by token, so no two tasks add to the same
// number and the order of sums is always the same. Sums over channels are made of a fixed number of partial sums.
#pragma once

#include "cpu/delta.h"

namespace stm {
inline namespace STM_ISA {

constexpr int64_t kPartialSums = 16;

class TopKBackwardPass {
 public:
  TopKBackwardPass(const TopKBackward& read, const Threads& threads)
      : read_(read),
        sizes_(read.sizes),
        choices_(sizes_.queries * read.top_k),
        delta_(sizes_, read.out, read.grad_out, read.grad_lse),
        grad_scores_(sizes_.batches * choices_),
        products_(read.gradients.gain ? sizes_.batches * choices_ : 0) {
    delta_.run(threads);
  }

  void run(const Threads& threads) {
    const Gradients& wanted = read_.gradients;
    if (wanted.value) {
      run_tasks(threads, sizes_.batches * sizes_.total_value_channels(),
                [this](TaskQueue& tasks) { add_values(tasks); });
    }
    if (!(wanted.query || wanted.offset || wanted.key || wanted.gain || wanted.bias)) return;
    for (int64_t batch = 0; batch < sizes_.batches; ++batch) compute_grad_scores(batch, threads);
    if (wanted.query || wanted.key) {
      run_tasks(threads, sizes_.batches * sizes_.key_channels, [this](TaskQueue& tasks) { add_channels(tasks); });
    }
    for (int64_t batch = 0; batch < sizes_.batches; ++batch) add_factors(batch);
  }

 private:
  const int64_t* indices(int64_t batch) const { return read_.indices + batch * choices_; }
  const float* weights(int64_t batch) const { return read_.weights + batch * choices_; }

  // out[i, k] += sum over channels c from `first` to `last` of a[c, i] * b[c, index[i, k]], for one batch.
  template <class A, class B>
  void add_products(const A* a, const Matrix& a_matrix, const B* b, const Matrix& b_matrix, int64_t batch,
                    int64_t first, int64_t last, float* out) const {
    for (int64_t c = first; c < last; ++c) {
      const A* left = a + batch * a_matrix.batch_stride + c * a_matrix.channel_stride;
      const B* right = b + batch * b_matrix.batch_stride + c * b_matrix.channel_stride;
      const int64_t* index = indices(batch);
      const float* weight = weights(batch);
      float* to = out;
      for (int64_t i = 0; i < sizes_.queries; ++i) {
        const float x = to_float(left[i * a_matrix.column_stride]);
        for (int64_t k = 0; k < read_.top_k; ++k, ++index, ++weight, ++to) {
          if (*weight != 0) *to += x * to_float(right[*index * b_matrix.column_stride]);
        }
      }
    }
  }

  void add_products(const Matrix& a, const Matrix& b, int64_t batch, int64_t first, int64_t last, float* out) const {
    with_type(a.dtype, [&](auto left) {
      with_type(b.dtype, [&](auto right) {
        add_products(static_cast<const decltype(left)*>(a.data), a, static_cast<const decltype(right)*>(b.data), b,
                     batch, first, last, out);
      });
    });
  }

  // out[i, k] = sum over channels, where `add(first, last, sums)` adds channels `first` to `last` to sums[i, k].
  template <class Add>
  void sum_over(int64_t channels, const Threads& threads, float* out, Add add) const {
    const int64_t partials = smaller(kPartialSums, channels);
    Buffer<float> sums(partials * choices_);
    zero(sums.data(), partials * choices_);
    run_tasks(threads, partials, [&](TaskQueue& tasks) {
      for (int64_t partial = tasks.next(); partial >= 0; partial = tasks.next()) {
        add(channels * partial / partials, channels * (partial + 1) / partials, sums.data() + partial * choices_);
      }
    });
    for (int64_t x = 0; x < choices_; ++x) {
      float total = 0;
      for (int64_t partial = 0; partial < partials; ++partial) total += sums.data()[partial * choices_ + x];
      out[x] = total;
    }
  }

  // The same for grad_out and values; `first` and `last` count the value channels of all objects.
  void add_value_products(int64_t batch, int64_t first, int64_t last, float* out) const {
    for (int64_t object = first / sizes_.value_channels; object * sizes_.value_channels < last; ++object) {
      const int64_t start = object * sizes_.value_channels;
      add_products(object_of(read_.grad_out, object), object_of(read_.value, object), batch,
                   larger<int64_t>(0, first - start), smaller(sizes_.value_channels, last - start), out);
    }
  }

  // grad_scores = weight * (sum over value channels of grad_out * value - delta).
  void compute_grad_scores(int64_t batch, const Threads& threads) {
    float* grad = grad_scores_.data() + batch * choices_;
    sum_over(sizes_.total_value_channels(), threads, grad,
             [&](int64_t first, int64_t last, float* sums) { add_value_products(batch, first, last, sums); });
    const float* weight = weights(batch);
    for (int64_t i = 0; i < sizes_.queries; ++i) {
      for (int64_t k = 0; k < read_.top_k; ++k, ++grad, ++weight) {
        *grad = *weight == 0 ? 0.0f : *weight * (*grad - delta_.batch(batch)[i]);
      }
    }
    if (!read_.gradients.gain) return;
    sum_over(sizes_.key_channels, threads, products_.data() + batch * choices_,
             [&](int64_t first, int64_t last, float* sums) {
               add_products(read_.scores.query, read_.scores.key, batch, first, last, sums);
             });
  }

  void add_values(TaskQueue& tasks) const {
    Buffer<float> sums(sizes_.tokens);
    for (int64_t task = tasks.next(); task >= 0; task = tasks.next()) {
      const int64_t batch = task / sizes_.total_value_channels(), index = task % sizes_.total_value_channels();
      const int64_t object = index / sizes_.value_channels, channel = index % sizes_.value_channels;
      const Matrix grad = object_of(read_.grad_out, object);
      zero(sums.data(), sizes_.tokens);
      scatter(grad, batch, channel, weights(batch), sums.data());
      write_channel(object_of(read_.gradients.value, object), batch, channel, sums.data(), sizes_.tokens, 1.0f, {});
    }
  }

  // sums[index[i, k]] += x[channel, i] * factor[i, k].
  void scatter(const Matrix& x, int64_t batch, int64_t channel, const float* factor, float* sums) const {
    const int64_t* index = indices(batch);
    with_type(x.dtype, [&](auto type) {
      const auto* from =
          static_cast<const decltype(type)*>(x.data) + batch * x.batch_stride + channel * x.channel_stride;
      for (int64_t i = 0; i < sizes_.queries; ++i) {
        const float value = to_float(from[i * x.column_stride]);
        for (int64_t k = 0; k < read_.top_k; ++k, ++index, ++factor) {
          if (*factor != 0) sums[*index] += value * *factor;
        }
      }
    });
  }

  static void write_channel(const Matrix& out, int64_t batch, int64_t channel, const float* sums, int64_t count,
                            float scale, const Vector& factor) {
    with_type(out.dtype, [&](auto type) {
      auto* to = static_cast<decltype(type)*>(out.data) + batch * out.batch_stride + channel * out.channel_stride;
      for (int64_t j = 0; j < count; ++j) {
        from_float(sums[j] * (scale * (factor ? factor[j] : 1.0f)), to[j * out.column_stride]);
      }
    });
  }

  void add_channels(TaskQueue& tasks) const {
    Buffer<float> sums(larger(sizes_.tokens, sizes_.queries));
    for (int64_t task = tasks.next(); task >= 0; task = tasks.next()) {
      const int64_t batch = task / sizes_.key_channels, channel = task % sizes_.key_channels;
      const float* const grad_scores = grad_scores_.data() + batch * choices_;
      const Vector gain = read_.scores.gain.batch(batch);
      if (read_.gradients.key) {
        zero(sums.data(), sizes_.tokens);
        scatter(read_.scores.query, batch, channel, grad_scores, sums.data());
        write_channel(read_.gradients.key, batch, channel, sums.data(), sizes_.tokens, read_.scores.scale, gain);
      }
      if (read_.gradients.query) {
        gather(read_.scores.key, batch, channel, gain, grad_scores, sums.data());
        write_channel(read_.gradients.query, batch, channel, sums.data(), sizes_.queries, read_.scores.scale, {});
      }
    }
  }

  // sums[i] = over k of x[channel, index[i, k]] * gain * factor[i, k].
  void gather(const Matrix& x, int64_t batch, int64_t channel, const Vector& gain, const float* factor,
              float* sums) const {
    const int64_t* index = indices(batch);
    with_type(x.dtype, [&](auto type) {
      const auto* from =
          static_cast<const decltype(type)*>(x.data) + batch * x.batch_stride + channel * x.channel_stride;
      for (int64_t i = 0; i < sizes_.queries; ++i) {
        float total = 0;
        for (int64_t k = 0; k < read_.top_k; ++k, ++index, ++factor) {
          if (*factor != 0) total += to_float(from[*index * x.column_stride]) * (gain ? gain[*index] : 1.0f) * *factor;
        }
        sums[i] = total;
      }
    });
  }

  void add_factors(int64_t batch) const {
    const Vector gain = read_.scores.gain.batch(batch), offset = read_.scores.offset.batch(batch);
    const Vector grad_gain = read_.gradients.gain.batch(batch), grad_bias = read_.gradients.bias.batch(batch);
    const Vector grad_offset = read_.gradients.offset.batch(batch);
    for (int64_t j = 0; j < sizes_.tokens; ++j) {
      if (grad_gain) grad_gain[j] = 0;
      if (grad_bias) grad_bias[j] = 0;
    }
    const int64_t* const index = indices(batch);
    const float* const grad_scores = grad_scores_.data() + batch * choices_;
    for (int64_t i = 0; i < sizes_.queries; ++i) {
      float total = 0;
      for (int64_t x = i * read_.top_k; x < (i + 1) * read_.top_k; ++x) {
        if (grad_scores[x] == 0) continue;
        total += grad_scores[x] * (gain ? gain[index[x]] : 1.0f);
        if (grad_bias) grad_bias[index[x]] += grad_scores[x];
        if (grad_gain) {
          const float product = read_.scores.scale * products_.data()[batch * choices_ + x];
          grad_gain[index[x]] += grad_scores[x] * (product + (offset ? offset[i] : 0.0f));
        }
      }
      if (grad_offset) grad_offset[i] = total;
    }
  }

  const TopKBackward& read_;
  Sizes sizes_;
  int64_t choices_;
  Delta delta_;
  Buffer<float> grad_scores_, products_;
};

}  // namespace STM_ISA
}  // namespace stm
