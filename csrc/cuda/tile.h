// Tiles in shared memory, copied from tensors of any strides.
#pragma once

#include <type_traits>

#include "stm_fast/read.h"
#include "stm_fast/simt.h"

namespace stm::cuda {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;

template <class T>
constexpr Dtype kDtypeOf = Dtype::kFloat32;
template <>
constexpr Dtype kDtypeOf<BFloat16> = Dtype::kBFloat16;
template <>
constexpr Dtype kDtypeOf<Float16> = Dtype::kFloat16;

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

// One batch of columns of rows; a row is an object's channel. In shared memory they are of T. Where they come from they
// are of `dtype`: that of T, or 16-bit numbers where T is float32.
template <class T>
struct Rows {
  const void* data;
  Dtype dtype;
  int64_t object_stride;
  int64_t channel_stride;
  int64_t column_stride;
  int channels;
  int count;
  int64_t columns;
  Unit unit;

  template <class Outside = T>
  STM_DEVICE const Outside* row(int index) const {
    const auto* numbers = static_cast<const Outside*>(data);
    if (index < channels) return numbers + index * channel_stride;
    return numbers + index / channels * object_stride + index % channels * channel_stride;
  }
};

// Four numbers that lie side by side, at a place that is a multiple of their size.
template <class T>
struct alignas(4 * sizeof(T)) Four {
  T numbers[4];
};

// load_tile of 16-bit numbers that become float32: no asynchronous copy can widen them.
template <int kColumns>
STM_DEVICE void load_widened(float* to, const Rows<float>& rows, int first_row, int kept, int64_t first) {
  constexpr int kChunks = kColumns / 4;
  const bool side_by_side = rows.unit.bytes >= static_cast<int>(sizeof(Four<uint16_t>));
  const bool along_rows = rows.channel_stride == 1;
  STM_ROLLED
  for (int chunk = simt::thread(); chunk < kept * kChunks; chunk += kThreads) {
    const int row = along_rows ? chunk % kept : chunk / kChunks;
    const int column = (along_rows ? chunk / kept : chunk % kChunks) * 4;
    const int64_t left = first_row + row < rows.count ? rows.columns - first - column : 0;
    const uint16_t* from = rows.row<uint16_t>(first_row + row) + (first + column) * rows.column_stride;
    Four<uint16_t> narrow{};
    if (side_by_side && left >= 4) {
      narrow = *reinterpret_cast<const Four<uint16_t>*>(from);
    } else {
      STM_UNROLL
      for (int i = 0; i < 4; ++i)
        if (i < left) narrow.numbers[i] = from[i * rows.column_stride];
    }
    Four<float> wide;
    STM_UNROLL
    for (int i = 0; i < 4; ++i) {
      const uint16_t bits = narrow.numbers[i];
      wide.numbers[i] = rows.dtype == Dtype::kBFloat16 ? simt::widen(BFloat16{bits}) : simt::widen(Float16{bits});
    }
    *reinterpret_cast<Four<float>*>(to + row * stride_of<float>(kColumns) + column) = wide;
  }
}

// Copies rows [first_row, first_row + kept) x columns [first, first + kColumns) to `to`, a row every
// stride_of(kColumns) numbers, with zeros where there is nothing. The caller commits the copies and waits for them.
template <int kColumns, class T>
STM_DEVICE void load_tile(T* to, const Rows<T>& rows, int first_row, int kept, int64_t first) {
  if constexpr (std::is_same_v<T, float>) {
    if (rows.dtype != Dtype::kFloat32) return load_widened<kColumns>(to, rows, first_row, kept, first);
  }
  constexpr int stride = stride_of<T>(kColumns);
  const auto copy = [&]<int kBytes>() {
    constexpr int kNumbers = kBytes / static_cast<int>(sizeof(T));
    constexpr int kChunks = kColumns / kNumbers;
    STM_ROLLED
    for (int chunk = simt::thread(); chunk < kept * kChunks; chunk += kThreads) {
      const int row = chunk / kChunks, column = chunk % kChunks * kNumbers;
      const int64_t left = first_row + row < rows.count ? rows.columns - first - column : 0;
      const int valid = left >= kNumbers ? kBytes : left > 0 ? static_cast<int>(left) * static_cast<int>(sizeof(T)) : 0;
      const T* from = valid ? rows.row(first_row + row) + first + column : static_cast<const T*>(rows.data);
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
  const int64_t first = batch * matrix.batch_stride;
  const void* data = static_cast<const T*>(matrix.data) + first;
  if constexpr (std::is_same_v<T, float>) {
    if (matrix.dtype != Dtype::kFloat32) data = static_cast<const uint16_t*>(matrix.data) + first;
  }
  return {data, matrix.dtype, 0, matrix.channel_stride, matrix.column_stride, channels, channels, columns, unit};
}

// Values are never widened.
template <class T>
STM_DEVICE Rows<T> rows_of(const ObjectMatrix& matrix, int64_t batch, int channels, int count, int64_t columns,
                           Unit unit) {
  return {static_cast<const T*>(matrix.data) + batch * matrix.batch_stride,
          kDtypeOf<T>,
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
