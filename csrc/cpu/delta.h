// Delta: what a gradient through the softmax needs of the readout.
#pragma once

#include "cpu/pack.h"
#include "cpu/runtime.h"

namespace stm {
inline namespace STM_ISA {

// delta[b, i] = sum over the value channels of all objects of out * grad_out, minus grad_lse; dense.
class Delta {
 public:
  Delta(const Sizes& sizes, const ObjectMatrix& out, const ObjectMatrix& grad_out, const Vector& grad_lse)
      : sizes_(sizes),
        out_(out),
        grad_out_(grad_out),
        grad_lse_(grad_lse),
        blocks_(divide_up(sizes.queries, kQueryBlock)),
        values_(sizes.batches * sizes.queries) {}

  void run(const Threads& threads) {
    run_tasks(threads, sizes_.batches * blocks_, [this](TaskQueue& tasks) { work(tasks); });
  }

  const float* batch(int64_t index) const { return values_.data() + index * sizes_.queries; }

 private:
  static constexpr int64_t kQueryBlock = 256;

  void work(TaskQueue& tasks) {
    for (int64_t task = tasks.next(); task >= 0; task = tasks.next()) {
      const int64_t batch = task / blocks_, first = task % blocks_ * kQueryBlock;
      const int64_t count = smaller(kQueryBlock, sizes_.queries - first);
      float* const delta = values_.data() + batch * sizes_.queries + first;
      const Vector grad_lse = grad_lse_.batch(batch);
      for (int64_t i = 0; i < count; ++i) delta[i] = grad_lse ? -grad_lse[first + i] : 0.0f;
      for (int64_t object = 0; object < sizes_.objects; ++object) {
        const Matrix out = object_of(out_, object), grad = object_of(grad_out_, object);
        with_type(out.dtype, [&](auto type) {
          using T = decltype(type);
          const T* a = static_cast<const T*>(out.data) + batch * out.batch_stride + first * out.column_stride;
          const T* b = static_cast<const T*>(grad.data) + batch * grad.batch_stride + first * grad.column_stride;
          for (int64_t c = 0; c < sizes_.value_channels; ++c, a += out.channel_stride, b += grad.channel_stride) {
            for (int64_t i = 0; i < count; ++i) {
              delta[i] += to_float(a[i * out.column_stride]) * to_float(b[i * grad.column_stride]);
            }
          }
        });
      }
    }
  }

  Sizes sizes_;
  ObjectMatrix out_, grad_out_;
  Vector grad_lse_;
  int64_t blocks_;
  Buffer<float> values_;
};

}  // namespace STM_ISA
}  // namespace stm
