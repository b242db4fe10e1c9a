// Delta, which gradients of scores need of every query.
#pragma once

#include "cuda/tile.h"

namespace stm::cuda {

struct DeltaArguments {
  Sizes sizes;
  ObjectMatrix out;
  ObjectMatrix grad_out;
  Vector grad_lse;
  float* delta = nullptr;
};

// Computes delta `(batches, queries)`: the sum of grad_out times out over the value channels, minus grad_lse. A lane
// has a query, a warp every eighth channel.
template <class Value>
STM_KERNEL void delta_kernel(const DeltaArguments arguments) {
  const Sizes& sizes = arguments.sizes;
  float* const sums = reinterpret_cast<float*>(simt::shared_memory());
  const int64_t query = static_cast<int64_t>(simt::block_x()) * 32 + simt::lane(), batch = simt::block_z();
  const int per_object = static_cast<int>(sizes.value_channels),
            channels = static_cast<int>(sizes.total_value_channels());
  const Value* out = static_cast<const Value*>(arguments.out.data) + batch * arguments.out.batch_stride;
  const Value* grad = static_cast<const Value*>(arguments.grad_out.data) + batch * arguments.grad_out.batch_stride;
  float sum = 0;
  if (query < sizes.queries && simt::warp() < channels) {
    const ChannelStrides of_out = strides_of(arguments.out, per_object, channels);
    const ChannelStrides of_grad = strides_of(arguments.grad_out, per_object, channels);
    ChannelStrides::Position out_position = of_out.at(simt::warp()), grad_position = of_grad.at(simt::warp());
    out += query * arguments.out.column_stride;
    grad += query * arguments.grad_out.column_stride;
    for (int channel = simt::warp(); channel < channels; channel += kWarps) {
      sum += simt::widen(out[out_position.offset]) * simt::widen(grad[grad_position.offset]);
      of_out.advance(out_position, kWarps);
      of_grad.advance(grad_position, kWarps);
    }
  }
  sums[simt::thread()] = sum;
  simt::sync_block();
  if (simt::warp() != 0 || query >= sizes.queries) return;
  const Vector& grad_lse = arguments.grad_lse;
  float total = grad_lse ? -grad_lse.data[batch * grad_lse.batch_stride + query * grad_lse.stride] : 0;
  for (int warp = 0; warp < kWarps; ++warp) total += sums[warp * 32 + simt::lane()];
  arguments.delta[batch * sizes.queries + query] = total;
}

}  // namespace stm::cuda
