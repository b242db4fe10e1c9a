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

// Where rows are: a row is an object's channel. Going from row to row takes no division.
struct RowStrides {
  int64_t object_stride;
  int64_t channel_stride;
  int channels;

  struct Place {
    int64_t offset;
    int channel;
  };

  // Objects whose rows continue one another are one object.
  STM_DEVICE RowStrides(int64_t object, int64_t channel, int channels_of_object, int rows)
      : object_stride(object),
        channel_stride(channel),
        channels(object == channels_of_object * channel ? rows : channels_of_object) {}

  STM_DEVICE Place at(int row) const {
    if (row < channels) return {row * channel_stride, row};
    return {row / channels * object_stride + row % channels * channel_stride, row % channels};
  }

  STM_DEVICE void advance(Place& place, int rows) const {
    place.offset += rows * channel_stride;
    place.channel += rows;
    STM_ROLLED
    while (place.channel >= channels) {
      place.offset += object_stride - channels * channel_stride;
      place.channel -= channels;
    }
  }
};

// One batch of columns of rows. In shared memory they are of T. Where they come from they are of `dtype`: that of T, or
// 16-bit numbers where T is float32.
template <class T>
struct Rows {
  const void* data;
  Dtype dtype;
  RowStrides strides;
  int64_t column_stride;
  int count;
  int64_t columns;
  Unit unit;
};

// Visits chunks of 2^log_numbers columns of the rows [first_row, first_row + kept): calls `visit(place, row, column)`
// with where the row begins outside, and row and column of the tile. Neighbouring threads visit neighbouring numbers,
// whichever way they lie.
template <int kColumns, class T, class Visit>
STM_DEVICE void visit_chunks(const Rows<T>& rows, int log_numbers, int first_row, int kept, Visit visit) {
  const uint32_t thread = simt::anew(static_cast<uint32_t>(simt::thread())), chunks = kColumns >> log_numbers;
  const bool along_rows = rows.strides.channel_stride == 1;
  const int step = along_rows ? 32 : (kThreads / kColumns) << log_numbers;
  const int chunk_step = along_rows ? kWarps : static_cast<int>(chunks);
  const int begin = static_cast<int>(along_rows ? thread % 32 : (thread << log_numbers) / kColumns);
  RowStrides strides = rows.strides;
  strides.channels = static_cast<int>(simt::anew(static_cast<uint32_t>(strides.channels)));
  const RowStrides::Place first = strides.at(first_row + begin);
  STM_ROLLED
  for (int chunk = static_cast<int>(along_rows ? thread / 32 : thread & (chunks - 1)); chunk < static_cast<int>(chunks);
       chunk += chunk_step) {
    RowStrides::Place place = first;
    STM_ROLLED
    for (int row = begin; row < kept; row += step) {
      visit(place.offset, row, chunk << log_numbers);
      strides.advance(place, step);
    }
  }
}

// Four numbers that lie side by side, at a place that is a multiple of their size.
template <class T>
struct alignas(4 * sizeof(T)) Four {
  T numbers[4];
};

// Columns of a tile that begins at `first`, as far as there are any: at most `most`.
STM_DEVICE int left_of(int64_t columns, int64_t first, int most) {
  const int64_t left = columns - first;
  return left < most ? static_cast<int>(left) : most;
}

// load_tile of 16-bit numbers that become float32: no asynchronous copy can widen them.
template <int kColumns>
STM_DEVICE void load_widened(float* to, const Rows<float>& rows, int first_row, int kept, int64_t first) {
  const bool side_by_side = rows.unit.bytes >= static_cast<int>(sizeof(Four<uint16_t>));
  const int columns = left_of(rows.columns, first, kColumns);
  const auto* numbers = static_cast<const uint16_t*>(rows.data) + first * rows.column_stride;
  visit_chunks<kColumns>(rows, 2, first_row, kept, [&](int64_t place, int row, int column) {
    const int left = first_row + row < rows.count ? columns - column : 0;
    const uint16_t* from = numbers + place + column * rows.column_stride;
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
  });
}

// load_tile by asynchronous copies of as many bytes as the unit has.
template <int kColumns, class T>
STM_DEVICE void copy_tile(T* to, const Rows<T>& rows, int first_row, int kept, int64_t first) {
  constexpr int kSize = static_cast<int>(sizeof(T)), kRowBytes = kColumns * kSize, kStride = stride_of<T>(kColumns);
  static_assert(kThreads % kColumns == 0);
  const uint32_t bytes = simt::anew(static_cast<uint32_t>(rows.unit.bytes));
  const int log_bytes = bytes == 16 ? 4 : bytes == 8 ? 3 : 2;
  const int columns = left_of(rows.columns, first, kColumns);
  const auto* data = static_cast<const T*>(rows.data);
  if (columns == kColumns && first_row + kept <= rows.count && rows.count <= rows.strides.channels) {
    // A whole tile of evenly spaced rows, as nearly all are: nothing is asked of a single copy.
    const uint32_t byte = simt::anew(static_cast<uint32_t>(simt::thread())) << log_bytes;
    const int begin = static_cast<int>(byte / kRowBytes), column = static_cast<int>(byte % kRowBytes) / kSize;
    const int step = (kThreads << log_bytes) / kRowBytes;
    const int64_t from_step = step * rows.strides.channel_stride;
    const T* from = data + (first_row + begin) * rows.strides.channel_stride + first + column;
    T* put = to + begin * kStride + column;
    const auto copy = [&]<int kBytes>() {
      STM_UNROLL_BY(4)
      for (int row = begin; row < kept; row += step) {
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
  visit_chunks<kColumns>(rows, log_numbers, first_row, kept, [&](int64_t place, int row, int column) {
    const int left = first_row + row < rows.count ? (columns - column) * kSize : 0, most = 1 << log_bytes;
    const int valid = left >= most ? most : left > 0 ? left : 0;
    const T* from = valid ? data + place + first + column : data;
    T* put = to + row * kStride + column;
    if (log_bytes == 4) {
      simt::copy_async<16>(put, from, valid);
    } else if (log_bytes == 3) {
      simt::copy_async<8>(put, from, valid);
    } else {
      simt::copy_async<4>(put, from, valid);
    }
  });
}

// Copies rows [first_row, first_row + kept) x columns [first, first + kColumns) to `to`, a row every
// stride_of(kColumns) numbers, with zeros where there is nothing. The caller commits the copies and waits for them.
template <int kColumns, class T>
STM_DEVICE void load_tile(T* to, const Rows<T>& rows, int first_row, int kept, int64_t first) {
  if constexpr (std::is_same_v<T, float>) {
    if (rows.dtype != Dtype::kFloat32) return load_widened<kColumns>(to, rows, first_row, kept, first);
  }
  if (rows.unit.bytes) return copy_tile<kColumns>(to, rows, first_row, kept, first);
  const int columns = left_of(rows.columns, first, kColumns);
  const auto* numbers = static_cast<const T*>(rows.data) + first * rows.column_stride;
  visit_chunks<kColumns>(rows, 0, first_row, kept, [&](int64_t place, int row, int column) {
    const bool inside = first_row + row < rows.count && column < columns;
    to[row * stride_of<T>(kColumns) + column] = inside ? numbers[place + column * rows.column_stride] : T{};
  });
}

template <class T>
STM_DEVICE Rows<T> rows_of(const Matrix& matrix, int64_t batch, int channels, int64_t columns, Unit unit) {
  const int64_t first = batch * matrix.batch_stride;
  const void* data = static_cast<const T*>(matrix.data) + first;
  if constexpr (std::is_same_v<T, float>) {
    if (matrix.dtype != Dtype::kFloat32) data = static_cast<const uint16_t*>(matrix.data) + first;
  }
  return {data,    matrix.dtype, {0, matrix.channel_stride, channels, channels}, matrix.column_stride, channels,
          columns, unit};
}

// Where the `count` rows of one batch of values, readouts or their gradients are.
STM_DEVICE RowStrides strides_of(const ObjectMatrix& matrix, int channels, int count) {
  return {matrix.object_stride, matrix.channel_stride, channels, count};
}

// Values are never widened.
template <class T>
STM_DEVICE Rows<T> rows_of(const ObjectMatrix& matrix, int64_t batch, int channels, int count, int64_t columns,
                           Unit unit) {
  return {static_cast<const T*>(matrix.data) + batch * matrix.batch_stride,
          kDtypeOf<T>,
          strides_of(matrix, channels, count),
          matrix.column_stride,
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

// Calls `function`, a template over the type of a dtype's numbers.
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

STM_DEVICE void store(const ObjectMatrix& matrix, int64_t place, float x) {
  with_numbers_of(matrix.dtype, [&]<class Out>() { static_cast<Out*>(matrix.data)[place] = simt::narrow<Out>(x); });
}

}  // namespace stm::cuda
