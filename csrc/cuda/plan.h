// What all launches have in common: what is refused, how kernels are launched, and into how many parts a memory is
// split.
#pragma once

#include <algorithm>
#include <initializer_list>

#include "cuda/engine.h"
#include "cuda/tile.h"

namespace stm::cuda {

// Blocks along a grid's second and third side.
constexpr int64_t kMaxBlocks = 65535;
// Queries and tokens: tiles are counted in 32 bits.
constexpr int64_t kMaxItems = (int64_t{1} << 31) - (1 << 20);

constexpr int64_t blocks(int64_t size, int64_t block) { return (size + block - 1) / block; }

// The dtype of keys in the kernel that reads them beside values of a dtype. What has no kernel of its own, 16-bit keys
// beside float32 or the other 16-bit values, becomes float32 in shared memory.
inline Dtype multiplied_as(Dtype key, Dtype value) { return key == value ? key : Dtype::kFloat32; }

// How a kernel is launched, and how many blocks of it a processor holds.
template <class Arguments>
struct Kernel {
  const char* (*launch)(const int (&grid)[3], int threads, std::size_t shared_bytes, void* stream,
                        const Arguments& arguments);
  int (*resident)(int threads, std::size_t shared_bytes);
};

template <auto kKernel, class Arguments>
constexpr Kernel<Arguments> kernel_of{simt::launch<kKernel, Arguments>, simt::resident<kKernel>};

// Why a read cannot be done whatever the GPU, or null.
inline const char* unreadable(const Sizes& sizes, const Scores& scores) {
  for (int64_t size : {sizes.batches, sizes.queries, sizes.tokens, sizes.key_channels})
    if (size < 1) return "batches, queries, tokens and channels must be at least 1";
  if (sizes.batches > kMaxBlocks) return "there are more than 65535 batches";
  if (sizes.key_channels > kMaxBlocks) return "there are more than 65535 key channels";
  if (std::max(sizes.queries, sizes.tokens) > kMaxItems) return "there are about 2^31 queries or tokens";
  if (scores.key.dtype != scores.query.dtype) return "queries and keys are of different dtypes";
  return nullptr;
}

inline const char* unreadable(const Sizes& sizes, const Scores& scores, const ObjectMatrix& value,
                              const ObjectMatrix& out) {
  if (sizes.rows() < 1) return "objects and value channels must be at least 1";
  if (sizes.rows() > kMaxBlocks) return "there are more than 65535 value channels of all objects";
  if (out.dtype != value.dtype) return "the readout, its gradient and the values are of different dtypes";
  return unreadable(sizes, scores);
}

constexpr const char* kTooLarge = "the kernels need more shared memory than the GPU has";

// Channels of chunks, so that `shared_bytes(channels, depth)` fits: all of them if they do, else the most of a few; 0
// if none fits.
inline int depth_of(std::size_t (*shared_bytes)(int channels, int depth), int channels, const Machine& machine) {
  for (int depth : {channels, 128, 64, 32, 16})
    if (depth <= channels && shared_bytes(channels, depth) <= machine.shared_bytes) return depth;
  return 0;
}

// Parts of a memory of so many tiles for so many programs a part: as asked, or, if that is 0, as many as leave less
// than a tenth of the GPU idle in the last wave, or the least of it. `places` is how many blocks it holds at once.
inline int split(int asked, int64_t programs, int64_t tiles, int64_t places) {
  constexpr int64_t kMinTiles = 8;
  if (asked || programs == 0) return std::max(asked, 1);
  const int64_t most = std::max<int64_t>(1, std::min(tiles / kMinTiles, blocks(2 * places, programs)));
  int best = 1;
  double least_idle = 1;
  for (int64_t parts = 1; parts <= most; ++parts) {
    const int64_t waves = blocks(parts * programs, places);
    const double idle = 1 - static_cast<double>(parts * programs) / static_cast<double>(waves * places);
    if (idle < least_idle) best = static_cast<int>(parts), least_idle = idle;
    if (idle < 0.1) break;
  }
  return best;
}

template <class Arguments>
int64_t places(const Kernel<Arguments>& kernel, std::size_t shared_bytes, const Machine& machine) {
  return int64_t{machine.processors} * kernel.resident(kThreads, shared_bytes);
}

constexpr int bytes_of(Dtype dtype) { return dtype == Dtype::kFloat32 ? 4 : 2; }

struct Dimension {
  int64_t size;
  int64_t stride;
};

// The most bytes, up to 16, in which numbers lie side by side in the dimension of `stride`, while the first address and
// all steps along the other dimensions are whole.
inline Unit unit_of(const void* data, Dtype dtype, int64_t stride, std::initializer_list<Dimension> others) {
  if (stride != 1) return {};
  for (int bytes : {16, 8, 4}) {
    bool whole = reinterpret_cast<uintptr_t>(data) % static_cast<unsigned>(bytes) == 0;
    for (const Dimension& other : others)
      whole = whole && (other.size == 1 || other.stride * bytes_of(dtype) % bytes == 0);
    if (whole) return {bytes};
  }
  return {};
}

// Of columns: queries or tokens.
inline Unit unit_of(const Matrix& matrix, const Sizes& sizes) {
  return unit_of(matrix.data, matrix.dtype, matrix.column_stride,
                 {{sizes.batches, matrix.batch_stride}, {sizes.key_channels, matrix.channel_stride}});
}

inline Unit unit_of(const ObjectMatrix& matrix, const Sizes& sizes) {
  return unit_of(matrix.data, matrix.dtype, matrix.column_stride,
                 {{sizes.batches, matrix.batch_stride},
                  {sizes.objects, matrix.object_stride},
                  {sizes.value_channels, matrix.channel_stride}});
}

// Of the channels of each column: 16 bytes or nothing.
inline Unit channel_unit_of(const ObjectMatrix& matrix, const Sizes& sizes, int64_t columns, int64_t channels) {
  const Unit unit = unit_of(
      matrix.data, matrix.dtype, matrix.channel_stride,
      {{sizes.batches, matrix.batch_stride}, {sizes.objects, matrix.object_stride}, {columns, matrix.column_stride}});
  return unit.bytes == 16 && channels * bytes_of(matrix.dtype) % 16 == 0 ? unit : Unit{};
}

inline ObjectMatrix as_object(const Matrix& matrix) {
  return {matrix.data, matrix.dtype, matrix.batch_stride, 0, matrix.channel_stride, matrix.column_stride};
}

inline ObjectMatrix as_object(const Vector& vector) {
  return {vector.data, Dtype::kFloat32, vector.batch_stride, 0, 0, vector.stride};
}

inline bool wants_query_side(const Gradients& gradients) { return gradients.query || gradients.offset; }
inline bool wants_key_side(const Gradients& gradients) { return gradients.key || gradients.gain || gradients.bias; }

// What `function` returns, a template over the type of a dtype's numbers.
template <class Function>
const char* with_dtype(Dtype dtype, Function function) {
  switch (dtype) {
    case Dtype::kBFloat16:
      return function.template operator()<BFloat16>();
    case Dtype::kFloat16:
      return function.template operator()<Float16>();
    default:
      return function.template operator()<float>();
  }
}

// Queues delta `(batches, queries)`: for each query the sum of grad_out times out, minus grad_lse.
const char* queue_delta(const Sizes& sizes, const ObjectMatrix& out, const ObjectMatrix& grad_out,
                        const Vector& grad_lse, float* delta, const Machine& machine);

}  // namespace stm::cuda
