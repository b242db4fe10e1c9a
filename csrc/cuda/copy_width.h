// How many bytes of an operand one asynchronous copy may move.
#pragma once

#include <initializer_list>

#include "cuda/tile.h"

namespace stm::cuda {

constexpr int bytes_of(Dtype dtype) { return dtype == Dtype::kFloat32 ? 4 : 2; }

struct Dimension {
  int64_t size;
  int64_t stride;
};

// The widest copies along the dimension of `stride`: its numbers must lie side by side, and the first address and all
// steps along the other dimensions must be multiples of the width.
inline CopyWidth copy_width(const void* data, Dtype dtype, int64_t stride, std::initializer_list<Dimension> others) {
  if (stride != 1) return {};
  for (int bytes : {16, 8, 4}) {
    bool aligned = reinterpret_cast<uintptr_t>(data) % static_cast<unsigned>(bytes) == 0;
    for (const Dimension& other : others)
      aligned = aligned && (other.size == 1 || other.stride * bytes_of(dtype) % bytes == 0);
    if (aligned) return {bytes};
  }
  return {};
}

// Along columns: queries or tokens.
inline CopyWidth copy_width(const Matrix& matrix, const Sizes& sizes) {
  return copy_width(matrix.data, matrix.dtype, matrix.column_stride,
                    {{sizes.batches, matrix.batch_stride}, {sizes.key_channels, matrix.channel_stride}});
}

inline CopyWidth copy_width(const ObjectMatrix& matrix, const Sizes& sizes) {
  return copy_width(matrix.data, matrix.dtype, matrix.column_stride,
                    {{sizes.batches, matrix.batch_stride},
                     {sizes.objects, matrix.object_stride},
                     {sizes.value_channels, matrix.channel_stride}});
}

// Along the channels of each column: 16 bytes or none.
inline CopyWidth channel_copy_width(const ObjectMatrix& matrix, const Sizes& sizes, int64_t columns, int64_t channels) {
  const CopyWidth width = copy_width(
      matrix.data, matrix.dtype, matrix.channel_stride,
      {{sizes.batches, matrix.batch_stride}, {sizes.objects, matrix.object_stride}, {columns, matrix.column_stride}});
  return width.bytes == 16 && channels * bytes_of(matrix.dtype) % 16 == 0 ? width : CopyWidth{};
}

}  // namespace stm::cuda
