// The readout of a read of the best tokens: the weighted sum of the chosen values.
#pragma once

#include "cuda/chosen.h"

namespace stm::cuda {

struct GatherArguments {
  Sizes sizes;
  ObjectMatrix value;
  ObjectMatrix out;
  // (batches, queries, k), dense.
  const int64_t* indices = nullptr;
  const float* weights = nullptr;
  int k = 1;
  CopyWidth channel_width;
};

template <class Value>
STM_KERNEL void gather_kernel(const GatherArguments arguments) {
  const Sizes& sizes = arguments.sizes;
  const ObjectMatrix &value = arguments.value, &out = arguments.out;
  const int64_t first_query = static_cast<int64_t>(simt::block_x()) * kSumColumns, batch = simt::block_z();
  const int first_channel = simt::block_y() * kSumChannels;
  const int queries = remaining(sizes.queries, first_query, kSumColumns);
  const int per_object = static_cast<int>(sizes.value_channels),
            channels = static_cast<int>(sizes.total_value_channels());
  char* const shared = simt::shared_memory();
  float* const sums = reinterpret_cast<float*>(shared);
  const Choices choices(shared + kSumBytes, arguments.k);
  const int64_t first_choice = (batch * sizes.queries + first_query) * arguments.k;
  choices.load(arguments.indices + first_choice, queries,
               [&](int64_t choice, int64_t) { return arguments.weights[first_choice + choice]; });
  sum_chosen(sums, choices, static_cast<const Value*>(value.data) + batch * value.batch_stride, value.column_stride,
             arguments.channel_width, strides_of(value, per_object, channels), first_channel, channels);
  store_sums(out, batch * out.batch_stride + first_query * out.column_stride, strides_of(out, per_object, channels),
             first_channel, channels, queries, sums);
}

}  // namespace stm::cuda
