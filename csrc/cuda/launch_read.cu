#include <iterator>

#include "cuda/dense.h"
#include "cuda/plan.h"

namespace stm::cuda {
namespace {

// A kernel for the dtypes of keys, as they are multiplied, and values, and the rows that a block holds.
struct Dense {
  Dtype key;
  Dtype value;
  int rows;
  Kernel<DenseArguments> kernel;
  std::size_t (*shared_bytes)(int channels, int depth);
};

template <class Key, class Value, int kRows>
constexpr Dense dense() {
  return {kDtypeOf<Key>, kDtypeOf<Value>, kRows, kernel_of<dense_kernel<Key, Value, kRows>, DenseArguments>,
          DenseMemory<Key, Value, kRows>::bytes};
}

// All of them, those with most rows first: scores are made again for every slice of rows.
constexpr Dense kDense[] = {
    dense<BFloat16, BFloat16, 512>(), dense<BFloat16, BFloat16, 256>(), dense<Float16, Float16, 512>(),
    dense<Float16, Float16, 256>(),   dense<float, BFloat16, 256>(),    dense<float, BFloat16, 128>(),
    dense<float, Float16, 256>(),     dense<float, Float16, 128>(),     dense<float, float, 256>(),
    dense<float, float, 128>(),
};

struct Choice {
  const Dense* dense = nullptr;
  int depth = 0;
};

Choice choose(const Forward& forward, const Machine& machine) {
  const int channels = whole(forward.sizes.key_channels, 16);
  const Dtype value = forward.value.dtype, key = multiplied_as(forward.scores.key.dtype, value);
  Choice whole_keys, deepest;
  for (const Dense& candidate : kDense) {
    if (candidate.key != key || candidate.value != value) continue;
    const int depth = depth_of(candidate.shared_bytes, channels, machine);
    // A slice that is half empty is not worth its registers.
    if (depth == channels && (!whole_keys.dense || forward.sizes.rows() <= candidate.rows))
      whole_keys = {&candidate, depth};
    if (depth > deepest.depth) deepest = {&candidate, depth};
  }
  return whole_keys.dense ? whole_keys : deepest;
}

struct ReadPlan {
  const Dense* dense = nullptr;
  int depth = 0;
  std::size_t shared_bytes = 0;
  int parts = 1;
};

ReadPlan plan(const Forward& forward, const Machine& machine, int parts) {
  const Sizes& sizes = forward.sizes;
  const auto [dense, depth] = choose(forward, machine);
  if (!dense) return {};
  const std::size_t shared_bytes = dense->shared_bytes(whole(sizes.key_channels, 16), depth);
  const int64_t programs = blocks(sizes.queries, kQueryTile) * blocks(sizes.rows(), dense->rows) * sizes.batches;
  return {dense, depth, shared_bytes,
          split(parts, programs, blocks(sizes.tokens, kTokenTile), places(dense->kernel, shared_bytes, machine))};
}

}  // namespace

const char* unusable() { return simt::unusable(merge_kernel); }

int64_t read_workspace(const Forward& forward, const Machine& machine, int parts) {
  parts = plan(forward, machine, parts).parts;
  const Sizes& sizes = forward.sizes;
  return parts == 1 ? 0 : sizes.batches * parts * (sizes.rows() + 1) * sizes.queries;
}

const char* read(const Forward& forward, const Machine& machine, float* workspace, int parts) {
  if (const char* reason = unreadable(forward.sizes, forward.scores, forward.value, forward.out)) return reason;
  const ReadPlan planned = plan(forward, machine, parts);
  if (!planned.dense) return kTooLarge;
  const Sizes& sizes = forward.sizes;
  parts = planned.parts;

  DenseArguments arguments;
  arguments.sizes = sizes;
  arguments.scores = forward.scores;
  arguments.value = forward.value;
  arguments.out = forward.out;
  arguments.lse = forward.lse;
  arguments.parts = parts;
  arguments.depth = planned.depth;
  arguments.query_unit = unit_of(forward.scores.query, sizes);
  arguments.key_unit = unit_of(forward.scores.key, sizes);
  arguments.value_unit = unit_of(forward.value, sizes);
  float* part_lse = workspace + sizes.batches * parts * sizes.rows() * sizes.queries;
  if (parts > 1) {
    arguments.out_part_stride = sizes.rows() * sizes.queries;
    arguments.lse_part_stride = sizes.queries;
    arguments.out = {workspace,
                     Dtype::kFloat32,
                     parts * sizes.rows() * sizes.queries,
                     sizes.value_channels * sizes.queries,
                     sizes.queries,
                     1};
    arguments.lse = {part_lse, parts * sizes.queries, 1};
  }
  const int batches = static_cast<int>(sizes.batches);
  const int grid[3] = {static_cast<int>(blocks(sizes.queries, kQueryTile) * parts),
                       static_cast<int>(blocks(sizes.rows(), planned.dense->rows)), batches};
  const char* error = planned.dense->kernel.launch(grid, kThreads, planned.shared_bytes, machine.stream, arguments);
  if (error || parts == 1) return error;

  MergeArguments merge;
  merge.part_out = workspace;
  merge.part_lse = part_lse;
  merge.parts = parts;
  merge.sizes = sizes;
  merge.out = forward.out;
  merge.lse = forward.lse;
  const int merge_grid[3] = {static_cast<int>(blocks(sizes.queries, kThreads)), static_cast<int>(sizes.rows()),
                             batches};
  return simt::launch<merge_kernel>(merge_grid, kThreads, 0, machine.stream, merge);
}

}  // namespace stm::cuda
