// Tiles in shared memory, copied from tensors of any strides.
#pragma once

#include "cuda/channels.h"
#include "cuda/tile_sizes.h"

namespace stm::cuda {

// Numbers from one channel of a tile to the next: 16 bytes more than its columns, so that the channels of an ldmatrix
// lie in different banks.
template <class T>
constexpr int stride_of(int columns) {
  return columns + 16 / static_cast<int>(sizeof(T));
}

constexpr int round_up(int64_t size, int block) { return static_cast<int>((size + block - 1) / block) * block; }

// How many of at most `max` columns there are from `first` on; not positive behind the last.
STM_DEVICE int remaining(int64_t columns, int64_t first, int max) {
  const int64_t left = columns - first;
  return left < max ? static_cast<int>(left) : max;
}

// Numbers side by side that are loaded or stored at once.
template <class T, int kCount>
struct alignas(kCount * sizeof(T)) Pack {
  T numbers[kCount];
};

// Visits the channels [first_channel, first_channel + count) in chunks of 2^log_numbers columns. Calls
// `visit(offset, channel, column)` with the channel's offset in global memory and the place in the tile. Neighbouring
// threads visit neighbouring numbers, whether columns or channels lie side by side.
template <int kColumns, class T, class Visit>
STM_DEVICE void visit_chunks(const Channels<T>& source, int log_numbers, int first_channel, int count, Visit visit) {
  const uint32_t thread = simt::opaque(static_cast<uint32_t>(simt::thread())), chunks = kColumns >> log_numbers;
  const bool along_channels = source.strides.channel_stride == 1;
  const int step = along_channels ? 32 : (kThreads / kColumns) << log_numbers;
  const int chunk_step = along_channels ? kWarps : static_cast<int>(chunks);
  const int begin = static_cast<int>(along_channels ? thread % 32 : (thread << log_numbers) / kColumns);
  ChannelStrides strides = source.strides;
  strides.channels_per_object = static_cast<int>(simt::opaque(static_cast<uint32_t>(strides.channels_per_object)));
  const ChannelStrides::Position first = strides.at(first_channel + begin);
  STM_ROLLED
  for (int chunk = static_cast<int>(along_channels ? thread / 32 : thread & (chunks - 1));
       chunk < static_cast<int>(chunks); chunk += chunk_step) {
    ChannelStrides::Position position = first;
    STM_ROLLED
    for (int channel = begin; channel < count; channel += step) {
      visit(position.offset, channel, chunk << log_numbers);
      strides.advance(position, step);
    }
  }
}

// load_tile of 16-bit numbers that become float32: no asynchronous copy can widen them.
template <int kColumns>
STM_DEVICE void load_widened(float* to, const Channels<float>& source, int first_channel, int count, int64_t first) {
  using Packed = Pack<uint16_t, 4>;
  const bool side_by_side = source.width.bytes >= static_cast<int>(sizeof(Packed));
  const int columns = remaining(source.columns, first, kColumns);
  const auto* numbers = static_cast<const uint16_t*>(source.data) + first * source.column_stride;
  visit_chunks<kColumns>(source, 2, first_channel, count, [&](int64_t offset, int channel, int column) {
    const int left = first_channel + channel < source.count ? columns - column : 0;
    const uint16_t* from = numbers + offset + column * source.column_stride;
    Packed narrow{};
    if (side_by_side && left >= 4) {
      narrow = *reinterpret_cast<const Packed*>(from);
    } else {
      STM_UNROLL
      for (int i = 0; i < 4; ++i)
        if (i < left) narrow.numbers[i] = from[i * source.column_stride];
    }
    Pack<float, 4> wide;
    STM_UNROLL
    for (int i = 0; i < 4; ++i) {
      const uint16_t bits = narrow.numbers[i];
      wide.numbers[i] = source.dtype == Dtype::kBFloat16 ? simt::widen(BFloat16{bits}) : simt::widen(Float16{bits});
    }
    *reinterpret_cast<Pack<float, 4>*>(to + channel * stride_of<float>(kColumns) + column) = wide;
  });
}

// load_tile by asynchronous copies of the source's width.
template <int kColumns, class T>
STM_DEVICE void copy_tile(T* to, const Channels<T>& source, int first_channel, int count, int64_t first) {
  constexpr int kSize = static_cast<int>(sizeof(T)), kChannelBytes = kColumns * kSize, kStride = stride_of<T>(kColumns);
  static_assert(kThreads % kColumns == 0);
  const uint32_t bytes = simt::opaque(static_cast<uint32_t>(source.width.bytes));
  const int log_bytes = bytes == 16 ? 4 : bytes == 8 ? 3 : 2;
  const int columns = remaining(source.columns, first, kColumns);
  const auto* data = static_cast<const T*>(source.data);
  if (columns == kColumns && first_channel + count <= source.count &&
      source.count <= source.strides.channels_per_object) {
    // A whole tile of evenly spaced channels, as nearly all are: no copy checks anything.
    const uint32_t byte = simt::opaque(static_cast<uint32_t>(simt::thread())) << log_bytes;
    const int begin = static_cast<int>(byte / kChannelBytes), column = static_cast<int>(byte % kChannelBytes) / kSize;
    const int step = (kThreads << log_bytes) / kChannelBytes;
    const int64_t from_step = step * source.strides.channel_stride;
    const T* from = data + (first_channel + begin) * source.strides.channel_stride + first + column;
    T* put = to + begin * kStride + column;
    const auto copy = [&]<int kBytes>() {
      STM_UNROLL_BY(4)
      for (int channel = begin; channel < count; channel += step) {
        simt::copy_async<kBytes>(put, from);
        from += from_step;
        put += step * kStride;
      }
    };
    if (log_bytes == 4) {
      copy.template operator()<16>();
    } else if (log_bytes == 3) {
      copy.template operator()<8>();
    } else {
      copy.template operator()<4>();
    }
    return;
  }
  const int log_numbers = log_bytes - (kSize == 4 ? 2 : 1);
  visit_chunks<kColumns>(source, log_numbers, first_channel, count, [&](int64_t offset, int channel, int column) {
    const int left = first_channel + channel < source.count ? (columns - column) * kSize : 0, width = 1 << log_bytes;
    const int valid = left >= width ? width : left > 0 ? left : 0;
    const T* from = valid ? data + offset + first + column : data;
    T* put = to + channel * kStride + column;
    if (log_bytes == 4) {
      simt::copy_async<16>(put, from, valid);
    } else if (log_bytes == 3) {
      simt::copy_async<8>(put, from, valid);
    } else {
      simt::copy_async<4>(put, from, valid);
    }
  });
}

// Copies channels [first_channel, first_channel + count) x columns [first, first + kColumns) to `to`, a channel every
// stride_of(kColumns) numbers, with zeros where there is nothing. The caller commits the copies and waits for them.
template <int kColumns, class T>
STM_DEVICE void load_tile(T* to, const Channels<T>& source, int first_channel, int count, int64_t first) {
  if constexpr (std::is_same_v<T, float>) {
    if (source.dtype != Dtype::kFloat32) return load_widened<kColumns>(to, source, first_channel, count, first);
  }
  if (source.width.bytes) return copy_tile<kColumns>(to, source, first_channel, count, first);
  const int columns = remaining(source.columns, first, kColumns);
  const auto* numbers = static_cast<const T*>(source.data) + first * source.column_stride;
  visit_chunks<kColumns>(source, 0, first_channel, count, [&](int64_t offset, int channel, int column) {
    const bool inside = first_channel + channel < source.count && column < columns;
    to[channel * stride_of<T>(kColumns) + column] = inside ? numbers[offset + column * source.column_stride] : T{};
  });
}

// Stores two neighbours in shared memory, of which the first has an even place.
template <class T>
STM_DEVICE void store_pair(T* to, float first, float second) {
  const uint32_t word = simt::pack<T>(first, second);
  __builtin_memcpy(to, &word, sizeof word);
}
template <>
STM_DEVICE void store_pair<float>(float* to, float first, float second) {
  to[0] = first;
  to[1] = second;
}

}  // namespace stm::cuda
