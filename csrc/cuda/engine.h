// The reads of read.h on a GPU; nothing here knows torch. Pointers are the GPU's.
#pragma once

#include <cstddef>
#include <cstdint>

#include "stm_fast/read.h"

namespace stm::cuda {

// What a launch needs to know of the GPU, and where it is queued.
struct Machine {
  int processors = 1;
  std::size_t shared_bytes = 99 * 1024;
  // A cudaStream_t.
  void* stream = nullptr;
};

// Why no kernel can run on the current GPU, or null: there is no binary for it, or the driver is older than CUDA's
// runtime.
const char* unusable();

// Numbers of float32 that a read needs beside its operands; none if one block a tile of queries fills the GPU.
// `parts` is into how many the memory is split; 0: as many as fill the GPU.
int64_t read_workspace(const Forward& forward, const Machine& machine, int parts = 0);

// Queues a read. Returns null, or why it cannot be: the kernels do not fit, or what CUDA says.
[[nodiscard]] const char* read(const Forward& forward, const Machine& machine, float* workspace, int parts = 0);

// Queues usage; lse must be dense.
[[nodiscard]] const char* usage(const Usage& usage, const Machine& machine);

// Numbers of float32 that the gradients need beside their operands.
int64_t backward_workspace(const Backward& backward, const Machine& machine, int parts = 0);

// Queues the gradients that are wanted, each of the dtype of what it is of; lse must be dense.
[[nodiscard]] const char* backward(const Backward& backward, const Machine& machine, float* workspace, int parts = 0);

// Bytes, in multiples of 4, that a read of the best tokens needs beside its operands.
int64_t top_k_workspace(const TopK& top_k, const Machine& machine, int parts = 0);

// Queues a read of the best tokens: at most 128 of fewer than 2^31.
[[nodiscard]] const char* top_k(const TopK& top_k, const Machine& machine, void* workspace, int parts = 0);

// The choices of all queries, sorted by token; equal ones in the order they had.
struct SortedChoices {
  // (batches, queries * top_k), dense: places in (queries, top_k).
  const int64_t* order = nullptr;
  // (batches, tokens + 1), dense: where each token's choices begin in `order`.
  const int64_t* starts = nullptr;
};

// Numbers of float32 that the gradients need beside their operands.
int64_t top_k_backward_workspace(const TopKBackward& backward);

// Queues the gradients that are wanted; `choices` are for those of keys and values.
[[nodiscard]] const char* top_k_backward(const TopKBackward& backward, const SortedChoices& choices,
                                         const Machine& machine, float* workspace);

}  // namespace stm::cuda
