// Packing: from any dtype and strides to the dense float32 layout that products read.
//
// A packed operand is [group][depth][kGroup]: `kGroup` rows or columns are adjacent at each step of the reduction. The
// last group is padded with zeros.
#pragma once

#include "cpu/simd.h"

namespace stm {
inline namespace STM_ISA {

// Number of floats of a packed operand.
constexpr int64_t packed_size(int64_t count, int64_t depth, int group) {
  return (count + group - 1) / group * depth * group;
}

template <int kGroup, class T>
STM_INLINE void pack_group(const T* x, int64_t count, int64_t stride, int64_t depth, int64_t depth_stride, float* out) {
  if (count < kGroup) {
    for (int64_t k = 0; k < depth; ++k, x += depth_stride, out += kGroup) {
      for (int64_t i = 0; i < kGroup; ++i) out[i] = i < count ? to_float(x[i * stride]) : 0.0f;
    }
  } else if (stride == 1) {
    for (int64_t k = 0; k < depth; ++k, x += depth_stride, out += kGroup) {
      for (int i = 0; i < kGroup; ++i) out[i] = to_float(x[i]);
    }
  } else if (depth_stride == 1) {
    // Transposes small blocks in registers, so that memory is read and written in runs.
    constexpr int kBlock = 8;
    static_assert(kGroup % 4 == 0);
    int64_t k = 0;
    for (; k + kBlock <= depth; k += kBlock) {
      for (int first = 0; first < kGroup; first += 4) {
        float block[4][kBlock];
        for (int i = 0; i < 4; ++i) {
          const T* row = x + (first + i) * stride + k;
          for (int j = 0; j < kBlock; ++j) block[i][j] = to_float(row[j]);
        }
        float* to = out + k * kGroup + first;
        for (int j = 0; j < kBlock; ++j) {
          for (int i = 0; i < 4; ++i) to[j * kGroup + i] = block[i][j];
        }
      }
    }
    for (int64_t rest = depth % kBlock; rest > 0; --rest, ++k) {
      for (int i = 0; i < kGroup; ++i) out[k * kGroup + i] = to_float(x[i * stride + k]);
    }
  } else {
    for (int64_t k = 0; k < depth; ++k, x += depth_stride, out += kGroup) {
      for (int i = 0; i < kGroup; ++i) out[i] = to_float(x[i * stride]);
    }
  }
}

template <int kGroup, class T>
void pack_typed(const T* x, int64_t count, int64_t stride, int64_t depth, int64_t depth_stride, float* out) {
  for (int64_t first = 0; first < count; first += kGroup) {
    const int64_t group = smaller<int64_t>(kGroup, count - first);
    pack_group<kGroup>(x + first * stride, group, stride, depth, depth_stride, out);
    out += depth * kGroup;
  }
}

// Packs `count` rows or columns, `stride` apart, whose reduction has `depth` steps, `depth_stride` apart.
template <int kGroup>
void pack(const void* x, Dtype dtype, int64_t start, int64_t count, int64_t stride, int64_t depth, int64_t depth_stride,
          float* out) {
  with_type(dtype, [&](auto type) {
    pack_typed<kGroup>(static_cast<const decltype(type)*>(x) + start, count, stride, depth, depth_stride, out);
  });
}

// Columns [first, first + count) of a matrix; the reduction runs over its channels.
template <int kGroup>
void pack_columns(const Matrix& x, int64_t channels, int64_t batch, int64_t first, int64_t count, float* out) {
  pack<kGroup>(x.data, x.dtype, batch * x.batch_stride + first * x.column_stride, count, x.column_stride, channels,
               x.channel_stride, out);
}

// Channels of a matrix as rows; the reduction runs over columns [first, first + count).
template <int kGroup>
void pack_channels(const Matrix& x, int64_t channels, int64_t batch, int64_t first, int64_t count, float* out) {
  pack<kGroup>(x.data, x.dtype, batch * x.batch_stride + first * x.column_stride, channels, x.channel_stride, count,
               x.column_stride, out);
}

inline Matrix object_of(const ObjectMatrix& x, int64_t object) {
  const int64_t size = x.dtype == Dtype::kFloat32 ? 4 : 2;
  char* data = static_cast<char*>(x.data) + object * x.object_stride * size;
  return {data, x.dtype, x.batch_stride, x.channel_stride, x.column_stride};
}

}  // namespace STM_ISA
}  // namespace stm
