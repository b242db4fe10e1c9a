// The exact merge of reads of disjoint splits of a memory.
#pragma once

#include "cuda/scores.h"

namespace stm::cuda {

struct MergeArguments {
  // (batches, splits, value channels of all objects, queries) and (batches, splits, queries), dense.
  const float* split_out = nullptr;
  const float* split_lse = nullptr;
  int splits = 1;
  Sizes sizes;
  ObjectMatrix out;
  Vector lse;
};

// Merges the reads of all splits into the read of the whole memory. A thread makes one number.
STM_KERNEL void merge_kernel(const MergeArguments arguments) {
  const Sizes& sizes = arguments.sizes;
  const int64_t query = static_cast<int64_t>(simt::block_x()) * kThreads + simt::thread();
  const int channel = simt::block_y();
  const int64_t batch = simt::block_z();
  if (query >= sizes.queries) return;
  const float* split_lse = arguments.split_lse + batch * arguments.splits * sizes.queries + query;
  const float* split_out =
      arguments.split_out + (batch * arguments.splits * sizes.total_value_channels() + channel) * sizes.queries + query;
  float max_lse = kMinusInfinity;
  for (int split = 0; split < arguments.splits; ++split) {
    const float lse = split_lse[split * sizes.queries];
    max_lse = lse > max_lse || lse != lse ? lse : max_lse;
  }
  const float origin = max_lse == kMinusInfinity ? 0 : max_lse;
  float weight_sum = 0, readout = 0;
  for (int split = 0; split < arguments.splits; ++split) {
    const float weight = simt::exp2((split_lse[split * sizes.queries] - origin) * kLog2E);
    weight_sum += weight;
    readout += weight * split_out[split * sizes.total_value_channels() * sizes.queries];
  }
  const ObjectMatrix& out = arguments.out;
  const ChannelStrides strides =
      strides_of(out, static_cast<int>(sizes.value_channels), static_cast<int>(sizes.total_value_channels()));
  store(out, batch * out.batch_stride + strides.at(channel).offset + query * out.column_stride,
        readout / (weight_sum == 0 ? 1 : weight_sum));
  if (channel == 0)
    arguments.lse.data[batch * arguments.lse.batch_stride + query * arguments.lse.stride] =
        origin + simt::log2(weight_sum) * kLn2;
}

}  // namespace stm::cuda
