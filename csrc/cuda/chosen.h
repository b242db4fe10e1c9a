// Weighted sums of chosen columns: what the read of the best tokens and its gradients have in common.
//
// A block makes 64 channels of 32 sums. Neighbouring threads write neighbouring numbers in any layout; they read
// neighbours where channels lie side by side. Where tokens do, the channels of a chosen token are far apart and each of
// them costs a sector of 32 bytes, unless neighbouring queries chose neighbouring tokens.
#pragma once

#include "cuda/tile.h"

namespace stm::cuda {

constexpr int kSumStride = kSumColumns + 1;

// The choices of a block's 32 queries in shared memory: the first choice of all queries, then the second.
struct Choices {
  int* tokens;
  float* weights;
  int k;

  static constexpr std::size_t bytes(int k) {
    return static_cast<std::size_t>(k) * kSumStride * (sizeof(int) + sizeof(float));
  }

  STM_DEVICE Choices(char* memory, int choices_per_query)
      : tokens(reinterpret_cast<int*>(memory)),
        weights(reinterpret_cast<float*>(memory) + choices_per_query * kSumStride),
        k(choices_per_query) {}

  // Loads the choices of `queries` queries from (queries, k), dense; those of other queries have weight 0.
  template <class WeightOf>
  STM_DEVICE void load(const int64_t* indices, int queries, WeightOf weight_of) const {
    for (int query = simt::warp(); query < kSumColumns; query += kWarps) {
      for (int choice = simt::lane(); choice < k; choice += 32) {
        const int64_t at = static_cast<int64_t>(query) * k + choice;
        const int64_t token = query < queries ? indices[at] : 0;
        tokens[choice * kSumStride + query] = static_cast<int>(token);
        weights[choice * kSumStride + query] = query < queries ? weight_of(at, token) : 0;
      }
    }
    simt::sync_block();
  }
};

// Stores `sums` times `scale`, of the channels from `first_channel` on; `begin` is the offset of their first column in
// channel 0.
STM_DEVICE void store_sums(const ObjectMatrix& out, int64_t begin, const ChannelStrides& strides, int first_channel,
                           int channels, int columns, const float* sums, float scale = 1) {
  const bool along_channels = out.channel_stride == 1;
  const int channel_step = along_channels ? 32 : kWarps, column_step = along_channels ? kWarps : 32;
  const int first = along_channels ? simt::lane() : simt::warp();
  ChannelStrides::Position position = strides.at(first_channel + first);
  for (int channel = first; channel < kSumChannels && first_channel + channel < channels; channel += channel_step) {
    for (int column = along_channels ? simt::warp() : simt::lane(); column < columns; column += column_step)
      store(out, begin + position.offset + column * out.column_stride, scale * sums[channel * kSumStride + column]);
    strides.advance(position, channel_step);
  }
}

// Where columns lie side by side: a lane has a query, a warp eight channels, which are loaded at the same time.
template <class T>
STM_DEVICE void sum_by_query(float* sums, const Choices& choices, const T* data, int64_t column_stride,
                             const ChannelStrides& strides, int first_channel, int channels) {
  constexpr int kChannelsPerWarp = kSumChannels / kWarps;
  const int first = simt::warp() * kChannelsPerWarp;
  ChannelStrides::Position position = strides.at(first_channel + first);
  int64_t offsets[kChannelsPerWarp];
  STM_UNROLL
  for (int64_t& offset : offsets) {
    offset = position.offset;
    strides.advance(position, 1);
  }
  float sum[kChannelsPerWarp] = {};
  const int left = channels - first_channel - first;
  for (int choice = 0; choice < choices.k; ++choice) {
    const float weight = choices.weights[choice * kSumStride + simt::lane()];
    if (weight == 0) continue;
    const T* from = data + choices.tokens[choice * kSumStride + simt::lane()] * column_stride;
    STM_UNROLL
    for (int i = 0; i < kChannelsPerWarp; ++i)
      if (i < left) sum[i] += weight * simt::widen(from[offsets[i]]);
  }
  STM_UNROLL
  for (int i = 0; i < kChannelsPerWarp; ++i) sums[(first + i) * kSumStride + simt::lane()] = sum[i];
}

// Where channels lie side by side: lanes go along the channels of a query, kCount numbers each at once.
template <int kCount, class T>
STM_DEVICE void sum_by_channel(float* sums, const Choices& choices, const T* data, int64_t column_stride,
                               const ChannelStrides& strides, int first_channel, int channels) {
  constexpr int kLanes = kSumChannels / kCount < 32 ? kSumChannels / kCount : 32;
  constexpr int kGroups = kSumChannels / kCount / kLanes;
  constexpr int kQueriesAtOnce = 32 / kLanes;
  constexpr int kQueriesPerWarp = kSumColumns / kWarps;
  const int first = simt::lane() % kLanes * kCount;
  int64_t offsets[kGroups];
  STM_UNROLL
  for (int group = 0; group < kGroups; ++group) offsets[group] = strides.at(first_channel + first + group * 32).offset;
  STM_UNROLL
  for (int begin = 0; begin < kQueriesPerWarp; begin += kQueriesAtOnce) {
    const int query = simt::warp() * kQueriesPerWarp + begin + simt::lane() / kLanes;
    float sum[kGroups][kCount] = {};
    for (int choice = 0; choice < choices.k; ++choice) {
      const float weight = choices.weights[choice * kSumStride + query];
      if (weight == 0) continue;
      const T* from = data + choices.tokens[choice * kSumStride + query] * column_stride;
      STM_UNROLL
      for (int group = 0; group < kGroups; ++group) {
        if (first_channel + first + group * 32 >= channels) continue;
        const auto pack = *reinterpret_cast<const Pack<T, kCount>*>(from + offsets[group]);
        STM_UNROLL
        for (int i = 0; i < kCount; ++i) sum[group][i] += weight * simt::widen(pack.numbers[i]);
      }
    }
    STM_UNROLL
    for (int group = 0; group < kGroups; ++group) {
      STM_UNROLL
      for (int i = 0; i < kCount; ++i) sums[(first + group * 32 + i) * kSumStride + query] = sum[group][i];
    }
  }
}

// Sums the columns that 32 queries chose, of the channels from `first_channel` on: [channel][query]. `channel_width`
// says how many channels may be loaded at once.
template <class T>
STM_DEVICE void sum_chosen(float* sums, const Choices& choices, const T* data, int64_t column_stride,
                           CopyWidth channel_width, const ChannelStrides& strides, int first_channel, int channels) {
  if (channel_width.bytes == 16) {
    sum_by_channel<16 / sizeof(T)>(sums, choices, data, column_stride, strides, first_channel, channels);
  } else if (strides.channel_stride == 1) {
    sum_by_channel<1>(sums, choices, data, column_stride, strides, first_channel, channels);
  } else {
    sum_by_query(sums, choices, data, column_stride, strides, first_channel, channels);
  }
  simt::sync_block();
}

constexpr std::size_t kSumBytes = sizeof(float) * kSumChannels * kSumStride;

constexpr std::size_t chosen_bytes(int k) { return Choices::bytes(k) + kSumBytes; }

}  // namespace stm::cuda
