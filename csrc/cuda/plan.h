// What the plans of all ops have in common.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/copy_width.h"
#include "cuda/ops.h"
#include "cuda/tile.h"

namespace stm::cuda {

constexpr int64_t divide_up(int64_t size, int64_t block) { return (size + block - 1) / block; }

// The dtype of keys in the kernel that reads them beside values of a dtype. 16-bit keys beside float32 or the other
// 16-bit values have no kernels of their own: they become float32 in shared memory.
inline Dtype key_operand_dtype(Dtype key, Dtype value) { return key == value ? key : Dtype::kFloat32; }

// How a kernel is launched, and how many of its blocks a multiprocessor holds.
template <class Arguments>
struct Kernel {
  const char* (*launch)(const int (&grid)[3], int threads, std::size_t shared_bytes, void* stream,
                        const Arguments& arguments);
  int (*resident_blocks)(int threads, std::size_t shared_bytes);
};

template <auto kKernel, class Arguments>
constexpr Kernel<Arguments> kernel_of{simt::launch<kKernel, Arguments>, simt::resident_blocks<kKernel>};

constexpr const char* kTooLarge = "the kernels need more shared memory than the GPU has";

// Why an op cannot run on any GPU, or null.
const char* refusal_of(const Sizes& sizes, const Scores& scores);
const char* refusal_of(const Sizes& sizes, const Scores& scores, const ObjectMatrix& value, const ObjectMatrix& out);

// Channels of a chunk such that `shared_bytes(channels, depth)` fits: all of them, else 128, 64, 32 or 16; 0 if none
// fits.
int max_depth(std::size_t (*shared_bytes)(int channels, int depth), int channels, const Machine& machine);

// Splits of a memory of so many tiles, read by so many blocks a split on a GPU that holds `resident_blocks` at once.
int split_count(int64_t blocks_per_split, int64_t tiles, int64_t resident_blocks);

template <class Arguments>
int split_count(int64_t blocks_per_split, int64_t tiles, const Kernel<Arguments>& kernel, std::size_t shared_bytes,
                const Machine& machine) {
  return split_count(blocks_per_split, tiles,
                     int64_t{machine.processors} * kernel.resident_blocks(kThreads, shared_bytes));
}

inline ObjectMatrix as_object(const Matrix& matrix) {
  return {matrix.data, matrix.dtype, matrix.batch_stride, 0, matrix.channel_stride, matrix.column_stride};
}

inline ObjectMatrix as_object(const Vector& vector) {
  return {vector.data, Dtype::kFloat32, vector.batch_stride, 0, 0, vector.stride};
}

inline bool wants_query_side(const Gradients& gradients) { return gradients.query || gradients.offset; }
inline bool wants_key_side(const Gradients& gradients) { return gradients.key || gradients.gain || gradients.bias; }

// Returns what `function`, a template over the number type of a dtype, returns.
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
const char* launch_delta(const Sizes& sizes, const ObjectMatrix& out, const ObjectMatrix& grad_out,
                         const Vector& grad_lse, float* delta, const Machine& machine);

}  // namespace stm::cuda
