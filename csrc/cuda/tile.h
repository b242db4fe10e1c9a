// Tiles in shared memory, copied from tensors of any strides.
#pragma once

#include "stm_fast/read.h"
#include "stm_fast/simt.h"

namespace stm::cuda {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;

// Numbers between the beginnings of a tile's rows: 16 bytes more than a row has, so that the rows of a matrix lie in
// different banks.
template <class T>
constexpr int stride_of(int columns) {
  return columns + 16 / static_cast<int>(sizeof(T));
}

constexpr int whole(int64_t size, int block) { return static_cast<int>((size + block - 1) / block) * block; }

// Numbers that are copied at once: as many as `bytes` (16, 8, 4) hold, or one at a time where it is 0.
struct Unit {
  int bytes = 0;
};

// One batch of columns of rows; a row is an object's channel.
template <class T>
struct Rows {
  const T* data;
  int64_t object_stride;
  int64_t channel_stride;
  int64_t column_stride;
  int channels;
  int count;
  int64_t columns;
  Unit unit;

  STM_DEVICE const T* row(int index) const {
    if (index < channels) return data + index * channel_stride;
    return data + index / channels * object_stride + index % channels * channel_stride;
  }
};

// Copies rows [first_row, first_row + kept) x columns [first, first + kColumns) to `to`, a row every
// stride_of(kColumns) numbers, with zeros where there is nothing. The caller commits the copies and waits for them.
template <int kColumns, class T>
STM_DEVICE void load_tile(T* to, const Rows<T>& rows, int first_row, int kept, int64_t first) {
  constexpr int stride = stride_of<T>(kColumns);
  const auto copy = [&]<int kBytes>() {
    constexpr int kNumbers = kBytes / static_cast<int>(sizeof(T));
    constexpr int kChunks = kColumns / kNumbers;
    STM_ROLLED
    for (int chunk = simt::thread(); chunk < kept * kChunks; chunk += kThreads) {
      const int row = chunk / kChunks, column = chunk % kChunks * kNumbers;
      const int64_t left = first_row + row < rows.count ? rows.columns - first - column : 0;
      const int valid = left >= kNumbers ? kBytes : left > 0 ? static_cast<int>(left) * static_cast<int>(sizeof(T)) : 0;
      const T* from = valid ? rows.row(first_row + row) + first + column : rows.data;
      simt::copy_async<kBytes>(to + row * stride + column, from, valid);
    }
  };
  switch (rows.unit.bytes) {
    case 16:
      return copy.template operator()<16>();
    case 8:
      return copy.template operator()<8>();
    case 4:
      return copy.template operator()<4>();
  }
  // Neighbouring threads read neighbouring numbers, whichever way they lie.
  const bool along_rows = rows.channel_stride == 1;
  STM_ROLLED
  for (int index = simt::thread(); index < kept * kColumns; index += kThreads) {
    const int row = along_rows ? index % kept : index / kColumns;
    const int column = along_rows ? index / kept : index % kColumns;
    const bool inside = first_row + row < rows.count && first + column < rows.columns;
    to[row * stride + column] = inside ? rows.row(first_row + row)[(first + column) * rows.column_stride] : T{};
  }
}

template <class T>
STM_DEVICE Rows<T> rows_of(const Matrix& matrix, int64_t batch, int channels, int64_t columns, Unit unit) {
  return {static_cast<const T*>(matrix.data) + batch * matrix.batch_stride,
          0,
          matrix.channel_stride,
          matrix.column_stride,
          channels,
          channels,
          columns,
          unit};
}

template <class T>
STM_DEVICE Rows<T> rows_of(const ObjectMatrix& matrix, int64_t batch, int channels, int count, int64_t columns,
                           Unit unit) {
  return {static_cast<const T*>(matrix.data) + batch * matrix.batch_stride,
          matrix.object_stride,
          matrix.channel_stride,
          matrix.column_stride,
          channels,
          count,
          columns,
          unit};
}

// Two neighbours in shared memory, of which the first has an even place.
template <class T>
STM_DEVICE void put_pair(T* to, float first, float second) {
  const uint32_t word = simt::pack<T>(first, second);
  __builtin_memcpy(to, &word, sizeof word);
}
template <>
STM_DEVICE void put_pair<float>(float* to, float first, float second) {
  to[0] = first;
  to[1] = second;
}

// Where a row's column is in a batch.
STM_DEVICE int64_t place_of(const ObjectMatrix& matrix, int channels, int row, int64_t column) {
  return row / channels * matrix.object_stride + row % channels * matrix.channel_stride + column * matrix.column_stride;
}

STM_DEVICE void store(const ObjectMatrix& matrix, int64_t place, float x) {
  switch (matrix.dtype) {
    case Dtype::kFloat32:
      static_cast<float*>(matrix.data)[place] = x;
      return;
    case Dtype::kBFloat16:
      static_cast<BFloat16*>(matrix.data)[place] = simt::narrow<BFloat16>(x);
      return;
    case Dtype::kFloat16:
      static_cast<Float16*>(matrix.data)[place] = simt::narrow<Float16>(x);
      return;
  }
}

}  // namespace stm::cuda
