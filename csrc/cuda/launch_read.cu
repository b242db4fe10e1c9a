#include <iterator>

#include "cuda/copy_width.h"
#include "cuda/dense.h"
#include "cuda/merge.h"
#include "cuda/plan.h"

namespace stm::cuda {
namespace {

// A kernel for keys, as they are multiplied, and values of these dtypes, and for so many value channels a block.
struct DenseKernel {
  Dtype key;
  Dtype value;
  int value_channels;
  Kernel<DenseArguments> kernel;
  std::size_t (*shared_bytes)(int channels, int depth);
};

template <class Key, class Value, int kValueChannels>
constexpr DenseKernel dense() {
  return {kDtypeOf<Key>, kDtypeOf<Value>, kValueChannels,
          kernel_of<dense_kernel<Key, Value, kValueChannels>, DenseArguments>,
          DenseMemory<Key, Value, kValueChannels>::bytes};
}

// For each pair of dtypes the one with most value channels first: every slice of them computes the scores again.
constexpr DenseKernel kDense[] = {
    dense<BFloat16, BFloat16, 512>(), dense<BFloat16, BFloat16, 256>(), dense<Float16, Float16, 512>(),
    dense<Float16, Float16, 256>(),   dense<float, BFloat16, 256>(),    dense<float, BFloat16, 128>(),
    dense<float, Float16, 256>(),     dense<float, Float16, 128>(),     dense<float, float, 256>(),
    dense<float, float, 128>(),
};

// Chooses kernel, depth and shared memory; depth 0 if none fits.
void choose_dense(const Forward& forward, const Machine& machine, Plan& plan) {
  const int channels = round_up(forward.sizes.key_channels, 16);
  const Dtype value = forward.value.dtype, key = key_operand_dtype(forward.scores.key.dtype, value);
  bool whole_keys = false;
  for (int index = 0; index < static_cast<int>(std::size(kDense)); ++index) {
    const DenseKernel& candidate = kDense[index];
    if (candidate.key != key || candidate.value != value) continue;
    const int depth = max_depth(candidate.shared_bytes, channels, machine);
    // The narrower kernel is taken only if one of its slices holds all channels.
    const bool fits_better =
        depth == channels && (!whole_keys || forward.sizes.total_value_channels() <= candidate.value_channels);
    if (!fits_better && (whole_keys || depth <= plan.depth)) continue;
    whole_keys = whole_keys || fits_better;
    plan.kernel = index;
    plan.depth = depth;
    plan.shared_bytes = candidate.shared_bytes(channels, depth);
  }
}

}  // namespace

const char* unusable() { return simt::unusable(merge_kernel); }

Plan plan_read(const Forward& forward, const Machine& machine) {
  const Sizes& sizes = forward.sizes;
  Plan plan;
  plan.refusal = refusal_of(sizes, forward.scores, forward.value, forward.out);
  if (plan.refusal) return plan;
  choose_dense(forward, machine, plan);
  if (plan.depth == 0) {
    plan.refusal = kTooLarge;
    return plan;
  }
  const DenseKernel& dense = kDense[plan.kernel];
  plan.splits = split_count(divide_up(sizes.queries, kQueryTile) *
                                divide_up(sizes.total_value_channels(), dense.value_channels) * sizes.batches,
                            divide_up(sizes.tokens, kTokenTile), dense.kernel, plan.shared_bytes, machine);
  if (plan.splits > 1)
    plan.workspace_bytes = sizes.batches * plan.splits * (sizes.total_value_channels() + 1) * sizes.queries *
                           static_cast<int64_t>(sizeof(float));
  return plan;
}

const char* launch_read(const Forward& forward, const Plan& plan, const Machine& machine, void* workspace) {
  const Sizes& sizes = forward.sizes;
  const DenseKernel& dense = kDense[plan.kernel];
  // Where several splits leave their reads: (batches, splits, value channels, queries) and (batches, splits, queries).
  float* const split_out = static_cast<float*>(workspace);
  float* const split_lse = split_out + sizes.batches * plan.splits * sizes.total_value_channels() * sizes.queries;

  DenseArguments arguments;
  arguments.sizes = sizes;
  arguments.scores = forward.scores;
  arguments.value = forward.value;
  arguments.out = forward.out;
  arguments.lse = forward.lse;
  arguments.splits = plan.splits;
  arguments.depth = plan.depth;
  arguments.query_width = copy_width(forward.scores.query, sizes);
  arguments.key_width = copy_width(forward.scores.key, sizes);
  arguments.value_width = copy_width(forward.value, sizes);
  if (plan.splits > 1) {
    arguments.out_split_stride = sizes.total_value_channels() * sizes.queries;
    arguments.lse_split_stride = sizes.queries;
    arguments.out = {split_out,
                     Dtype::kFloat32,
                     plan.splits * sizes.total_value_channels() * sizes.queries,
                     sizes.value_channels * sizes.queries,
                     sizes.queries,
                     1};
    arguments.lse = {split_lse, plan.splits * sizes.queries, 1};
  }
  const int batches = static_cast<int>(sizes.batches);
  const int grid[3] = {static_cast<int>(divide_up(sizes.queries, kQueryTile) * plan.splits),
                       static_cast<int>(divide_up(sizes.total_value_channels(), dense.value_channels)), batches};
  const char* error = dense.kernel.launch(grid, kThreads, plan.shared_bytes, machine.stream, arguments);
  if (error || plan.splits == 1) return error;

  MergeArguments merge;
  merge.split_out = split_out;
  merge.split_lse = split_lse;
  merge.splits = plan.splits;
  merge.sizes = sizes;
  merge.out = forward.out;
  merge.lse = forward.lse;
  const int merge_grid[3] = {static_cast<int>(divide_up(sizes.queries, kThreads)),
                             static_cast<int>(sizes.total_value_channels()), batches};
  return simt::launch<merge_kernel>(merge_grid, kThreads, 0, machine.stream, merge);
}

}  // namespace stm::cuda
