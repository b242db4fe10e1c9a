// The reads of read.h on a GPU, for callers with or without torch. All pointers are the GPU's.
//
// An op is a plan, a workspace and a launch:
//
//   const Plan plan = plan_read(forward, machine);
//   if (plan.refusal) ...
//   error = launch_read(forward, plan, machine, workspace of plan.workspace_bytes);
#pragma once

#include <cstddef>
#include <cstdint>

#include "stm_fast/read.h"

namespace stm::cuda {

// A GPU, and the stream that work is queued on.
struct Machine {
  int processors = 1;
  std::size_t shared_bytes = 99 * 1024;
  // A cudaStream_t.
  void* stream = nullptr;
};

// What is decided about a call, once, from its sizes, its dtypes and the GPU.
struct Plan {
  // Why the op cannot run, or null.
  const char* refusal = nullptr;
  // GPU memory that the op needs beside its operands, aligned to 4 bytes.
  int64_t workspace_bytes = 0;
  // Of the op's table of kernels.
  int kernel = 0;
  // Channels of a chunk of keys.
  int depth = 0;
  std::size_t shared_bytes = 0;
  // Pieces of the memory that are read apart and merged.
  int splits = 1;
};

// Why no kernel can run on the current GPU, or null: there is no binary for it, or the driver is older than CUDA's
// runtime.
const char* unusable();

// Launches queue their work and return null, or why they could not.

Plan plan_read(const Forward& forward, const Machine& machine);
[[nodiscard]] const char* launch_read(const Forward& forward, const Plan& plan, const Machine& machine,
                                      void* workspace);

// `usage.lse` must be dense.
Plan plan_usage(const Usage& usage, const Machine& machine);
[[nodiscard]] const char* launch_usage(const Usage& usage, const Plan& plan, const Machine& machine, void* workspace);

// Gradients that are present are computed, each in the dtype of its operand. `backward.lse` must be dense.
Plan plan_backward(const Backward& backward, const Machine& machine);
[[nodiscard]] const char* launch_backward(const Backward& backward, const Plan& plan, const Machine& machine,
                                          void* workspace);

// At most 128 tokens of each query are read.
Plan plan_top_k(const TopK& top_k, const Machine& machine);
[[nodiscard]] const char* launch_top_k(const TopK& top_k, const Plan& plan, const Machine& machine, void* workspace);

// The choices of all queries, sorted by token; equal ones in the order they had.
struct SortedChoices {
  // (batches, queries * top_k), dense: positions in (queries, top_k).
  const int64_t* order = nullptr;
  // (batches, tokens + 1), dense: where each token's choices begin in `order`.
  const int64_t* starts = nullptr;
};

// `choices` are needed for gradients of keys, gains, biases and values.
Plan plan_top_k_backward(const TopKBackward& backward, const Machine& machine);
[[nodiscard]] const char* launch_top_k_backward(const TopKBackward& backward, const SortedChoices& choices,
                                                const Plan& plan, const Machine& machine, void* workspace);

#if defined(STM_EMULATED)
// For tests: every memory is cut into so many splits from now on; 0 restores as many as fill the GPU.
void force_splits(int splits);
#endif

}  // namespace stm::cuda
