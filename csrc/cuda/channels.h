// Where the channels of queries, keys, values and their gradients lie in global memory.
#pragma once

#include <type_traits>

#include "stm_fast/read.h"
#include "stm_fast/simt.h"

namespace stm::cuda {

template <class T>
constexpr Dtype kDtypeOf = Dtype::kFloat32;
template <>
constexpr Dtype kDtypeOf<BFloat16> = Dtype::kBFloat16;
template <>
constexpr Dtype kDtypeOf<Float16> = Dtype::kFloat16;

// Bytes that one copy may move: 16, 8 or 4, or 0 where numbers must be copied one at a time.
struct CopyWidth {
  int bytes = 0;
};

// Offsets of the channels of all objects, which count as one sequence of channels. Stepping from channel to channel
// takes no division.
struct ChannelStrides {
  int64_t object_stride;
  int64_t channel_stride;
  int channels_per_object;

  struct Position {
    int64_t offset;
    int channel;
  };

  // Objects whose channels continue one another are one object.
  STM_DEVICE ChannelStrides(int64_t object, int64_t channel, int channels_of_object, int all_channels)
      : object_stride(object),
        channel_stride(channel),
        channels_per_object(object == channels_of_object * channel ? all_channels : channels_of_object) {}

  STM_DEVICE Position at(int channel) const {
    if (channel < channels_per_object) return {channel * channel_stride, channel};
    return {channel / channels_per_object * object_stride + channel % channels_per_object * channel_stride,
            channel % channels_per_object};
  }

  STM_DEVICE void advance(Position& position, int channels) const {
    position.offset += channels * channel_stride;
    position.channel += channels;
    STM_ROLLED
    while (position.channel >= channels_per_object) {
      position.offset += object_stride - channels_per_object * channel_stride;
      position.channel -= channels_per_object;
    }
  }
};

// One batch of channels x columns. They are T in shared memory; in global memory they have `dtype`: that of T, or 16
// bits where T is float32.
template <class T>
struct Channels {
  const void* data;
  Dtype dtype;
  ChannelStrides strides;
  int64_t column_stride;
  int count;
  int64_t columns;
  CopyWidth width;
};

template <class T>
STM_DEVICE Channels<T> channels_of(const Matrix& matrix, int64_t batch, int channels, int64_t columns,
                                   CopyWidth width) {
  const int64_t first = batch * matrix.batch_stride;
  const void* data = static_cast<const T*>(matrix.data) + first;
  if constexpr (std::is_same_v<T, float>) {
    if (matrix.dtype != Dtype::kFloat32) data = static_cast<const uint16_t*>(matrix.data) + first;
  }
  return {data,    matrix.dtype, {0, matrix.channel_stride, channels, channels}, matrix.column_stride, channels,
          columns, width};
}

// Of one batch of values, readouts or their gradients, with `count` channels of all objects.
STM_DEVICE ChannelStrides strides_of(const ObjectMatrix& matrix, int channels_per_object, int count) {
  return {matrix.object_stride, matrix.channel_stride, channels_per_object, count};
}

// Values are never widened.
template <class T>
STM_DEVICE Channels<T> channels_of(const ObjectMatrix& matrix, int64_t batch, int channels_per_object, int count,
                                   int64_t columns, CopyWidth width) {
  return {static_cast<const T*>(matrix.data) + batch * matrix.batch_stride,
          kDtypeOf<T>,
          strides_of(matrix, channels_per_object, count),
          matrix.column_stride,
          count,
          columns,
          width};
}

// Calls `function`, a template over the number type of a dtype.
template <class Function>
STM_DEVICE void with_numbers_of(Dtype dtype, Function function) {
  switch (dtype) {
    case Dtype::kFloat32:
      return function.template operator()<float>();
    case Dtype::kBFloat16:
      return function.template operator()<BFloat16>();
    case Dtype::kFloat16:
      return function.template operator()<Float16>();
  }
}

STM_DEVICE void store(const ObjectMatrix& matrix, int64_t offset, float x) {
  with_numbers_of(matrix.dtype, [&]<class Out>() { static_cast<Out*>(matrix.data)[offset] = simt::narrow<Out>(x); });
}

}  // namespace stm::cuda
