// The sum of gradients that the splits of a memory made, in the order of the splits.
#pragma once

#include "cuda/tile.h"

namespace stm::cuda {

struct SumArguments {
  // (batches, splits, channels, columns), dense.
  const float* split_data = nullptr;
  int splits = 1;
  int channels = 1;
  int64_t columns = 0;
  ObjectMatrix out;
};

// Adds what the splits made, in order. A thread makes one number.
STM_KERNEL void sum_kernel(const SumArguments arguments) {
  const int64_t column = static_cast<int64_t>(simt::block_x()) * kThreads + simt::thread(), batch = simt::block_z();
  const int channel = simt::block_y();
  if (column >= arguments.columns) return;
  const float* from =
      arguments.split_data + (batch * arguments.splits * arguments.channels + channel) * arguments.columns;
  float sum = 0;
  for (int split = 0; split < arguments.splits; ++split)
    sum += from[split * arguments.channels * arguments.columns + column];
  const ChannelStrides strides = strides_of(arguments.out, arguments.channels, arguments.channels);
  store(arguments.out,
        batch * arguments.out.batch_stride + strides.at(channel).offset + column * arguments.out.column_stride, sum);
}

}  // namespace stm::cuda
