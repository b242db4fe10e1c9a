#include "cuda/engine.h"

#include <algorithm>
#include <initializer_list>
#include <iterator>

#include "cuda/dense.h"
#include "cuda/gradients.h"
#include "cuda/top_k.h"
#include "cuda/top_k_backward.h"

namespace stm::cuda {
namespace {

// Blocks along a grid's second and third side.
constexpr int64_t kMostBlocks = 65535;
// Queries and tokens: tiles are counted in 32 bits.
constexpr int64_t kMostItems = (int64_t{1} << 31) - (1 << 20);

int64_t blocks(int64_t size, int64_t block) { return (size + block - 1) / block; }

// The dtype of keys in the kernel that reads them beside values of a dtype. What has no kernel of its own, 16-bit keys
// beside float32 or the other 16-bit values, becomes float32 in shared memory.
Dtype multiplied_as(Dtype key, Dtype value) { return key == value ? key : Dtype::kFloat32; }

// A kernel for the dtypes of keys, as they are multiplied, and values, and the rows that a block holds.
struct Dense {
  Dtype key;
  Dtype value;
  int rows;
  void (*kernel)(DenseArguments);
  std::size_t (*shared_bytes)(int channels, int depth);
};

template <class Key, class Value, int kRows>
constexpr Dense dense() {
  return {kDtypeOf<Key>, kDtypeOf<Value>, kRows, dense_kernel<Key, Value, kRows>,
          DenseMemory<Key, Value, kRows>::bytes};
}

// All of them, those with most rows first: scores are made again for every slice of rows.
constexpr Dense kDense[] = {
    dense<BFloat16, BFloat16, 512>(), dense<BFloat16, BFloat16, 256>(), dense<Float16, Float16, 512>(),
    dense<Float16, Float16, 256>(),   dense<float, BFloat16, 256>(),    dense<float, BFloat16, 128>(),
    dense<float, Float16, 256>(),     dense<float, Float16, 128>(),     dense<float, float, 256>(),
    dense<float, float, 128>(),
};

struct Gradient {
  Dtype key;
  Dtype value;
  Side side;
  int rows;
  void (*kernel)(GradientArguments);
  std::size_t shared_bytes;
};

template <class Key, class Value, Side kSide>
constexpr Gradient gradient() {
  using Traits = GradientTraits<Key, Value, kSide>;
  return {kDtypeOf<Key>,       kDtypeOf<Value>, kSide, Traits::kRows, gradient_kernel<Key, Value, kSide>,
          Traits::kSharedBytes};
}

constexpr Gradient kGradients[] = {
    gradient<BFloat16, BFloat16, Side::kQuery>(), gradient<BFloat16, BFloat16, Side::kKey>(),
    gradient<BFloat16, BFloat16, Side::kValue>(), gradient<BFloat16, BFloat16, Side::kUsage>(),
    gradient<Float16, Float16, Side::kQuery>(),   gradient<Float16, Float16, Side::kKey>(),
    gradient<Float16, Float16, Side::kValue>(),   gradient<Float16, Float16, Side::kUsage>(),
    gradient<float, BFloat16, Side::kQuery>(),    gradient<float, BFloat16, Side::kKey>(),
    gradient<float, BFloat16, Side::kValue>(),    gradient<float, Float16, Side::kQuery>(),
    gradient<float, Float16, Side::kKey>(),       gradient<float, Float16, Side::kValue>(),
    gradient<float, float, Side::kQuery>(),       gradient<float, float, Side::kKey>(),
    gradient<float, float, Side::kValue>(),       gradient<float, float, Side::kUsage>(),
};

const Gradient& find(Dtype key, Dtype value, Side side) {
  return *std::find_if(std::begin(kGradients), std::end(kGradients), [&](const Gradient& candidate) {
    return candidate.key == multiplied_as(key, value) && candidate.value == value && candidate.side == side;
  });
}

struct Candidates {
  Dtype key;
  int most;
  void (*kernel)(CandidatesArguments);
  void (*choose)(ChooseArguments);
  std::size_t (*shared_bytes)(int channels, int depth);
};

template <class Key, int kSlots>
constexpr Candidates candidates() {
  return {kDtypeOf<Key>, 32 * kSlots, candidates_kernel<Key, kSlots>, choose_kernel<kSlots>, candidates_bytes<Key>};
}

constexpr Candidates kCandidates[] = {
    candidates<BFloat16, 1>(), candidates<BFloat16, 4>(), candidates<Float16, 1>(),
    candidates<Float16, 4>(),  candidates<float, 1>(),    candidates<float, 4>(),
};

const Candidates* find(Dtype key, int64_t k) {
  for (const Candidates& candidate : kCandidates)
    if (candidate.key == key && k <= candidate.most) return &candidate;
  return nullptr;
}

// Why a read cannot be done whatever the GPU, or null.
const char* unreadable(const Sizes& sizes, const Scores& scores) {
  for (int64_t size : {sizes.batches, sizes.queries, sizes.tokens, sizes.key_channels})
    if (size < 1) return "batches, queries, tokens and channels must be at least 1";
  if (sizes.batches > kMostBlocks) return "there are more than 65535 batches";
  if (sizes.key_channels > kMostBlocks) return "there are more than 65535 key channels";
  if (std::max(sizes.queries, sizes.tokens) > kMostItems) return "there are about 2^31 queries or tokens";
  if (scores.key.dtype != scores.query.dtype) return "queries and keys are of different dtypes";
  return nullptr;
}

const char* unreadable(const Sizes& sizes, const Scores& scores, const ObjectMatrix& value, const ObjectMatrix& out) {
  if (sizes.rows() < 1) return "objects and value channels must be at least 1";
  if (sizes.rows() > kMostBlocks) return "there are more than 65535 value channels of all objects";
  if (out.dtype != value.dtype) return "the readout, its gradient and the values are of different dtypes";
  return unreadable(sizes, scores);
}

constexpr const char* kTooLarge = "the kernels need more shared memory than the GPU has";

// Channels of chunks, so that `shared_bytes(channels, depth)` fits: all of them if they do, else the most of a few; 0
// if none fits.
int depth_of(std::size_t (*shared_bytes)(int channels, int depth), int channels, const Machine& machine) {
  for (int depth : {channels, 128, 64, 32, 16})
    if (depth <= channels && shared_bytes(channels, depth) <= machine.shared_bytes) return depth;
  return 0;
}

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

// Parts of a memory of so many tiles for so many programs a part: as asked, or, if that is 0, as many as leave less
// than a tenth of the processors idle in the last wave, or the least idle of them.
int split(int asked, int64_t programs, int64_t tiles, int64_t processors) {
  constexpr int64_t kLeastTiles = 8;
  if (asked || programs == 0) return std::max(asked, 1);
  const int64_t most = std::max<int64_t>(1, std::min(tiles / kLeastTiles, blocks(2 * processors, programs)));
  int best = 1;
  double least_idle = 1;
  for (int64_t parts = 1; parts <= most; ++parts) {
    const int64_t waves = blocks(parts * programs, processors);
    const double idle = 1 - static_cast<double>(parts * programs) / static_cast<double>(waves * processors);
    if (idle < least_idle) best = static_cast<int>(parts), least_idle = idle;
    if (idle < 0.1) break;
  }
  return best;
}

int read_parts(const Forward& forward, const Machine& machine, const Dense& dense, int asked) {
  const Sizes& sizes = forward.sizes;
  const int64_t programs = blocks(sizes.queries, kQueryTile) * blocks(sizes.rows(), dense.rows) * sizes.batches;
  return split(asked, programs, blocks(sizes.tokens, kTokenTile), machine.processors);
}

int query_parts(const Backward& backward, const Machine& machine, const Gradient& gradient, int asked) {
  const Sizes& sizes = backward.sizes;
  const int64_t programs = blocks(sizes.queries, kSideTile) * blocks(sizes.key_channels, gradient.rows) * sizes.batches;
  return split(asked, programs, blocks(sizes.tokens, kSideTile), machine.processors);
}

int top_k_parts(const Sizes& sizes, const Machine& machine, int asked) {
  const int64_t programs = blocks(sizes.queries, kBestQueries) * sizes.batches;
  return split(asked, programs, blocks(sizes.tokens, kBestTokens), machine.processors);
}

int bytes_of(Dtype dtype) { return dtype == Dtype::kFloat32 ? 4 : 2; }

// The most bytes, up to 16, in which columns lie side by side and every stride and the first address are whole.
Unit unit_of(const void* data, Dtype dtype, int64_t column_stride, std::initializer_list<int64_t> strides) {
  if (column_stride != 1) return {};
  for (int bytes : {16, 8, 4}) {
    bool whole = reinterpret_cast<uintptr_t>(data) % static_cast<unsigned>(bytes) == 0;
    for (int64_t stride : strides) whole = whole && stride * bytes_of(dtype) % bytes == 0;
    if (whole) return {bytes};
  }
  return {};
}

Unit unit_of(const Matrix& matrix) {
  return unit_of(matrix.data, matrix.dtype, matrix.column_stride, {matrix.batch_stride, matrix.channel_stride});
}

Unit unit_of(const ObjectMatrix& matrix) {
  return unit_of(matrix.data, matrix.dtype, matrix.column_stride,
                 {matrix.batch_stride, matrix.object_stride, matrix.channel_stride});
}

bool wants_query_side(const Gradients& gradients) { return gradients.query || gradients.offset; }
bool wants_key_side(const Gradients& gradients) { return gradients.key || gradients.gain || gradients.bias; }

GradientArguments gradient_arguments(const Sizes& sizes, const Scores& scores, const float* lse) {
  GradientArguments arguments;
  arguments.sizes = sizes;
  arguments.scores = scores;
  arguments.lse = lse;
  arguments.query_unit = unit_of(scores.query);
  arguments.key_unit = unit_of(scores.key);
  return arguments;
}

ObjectMatrix as_object(const Matrix& matrix) {
  return {matrix.data, matrix.dtype, matrix.batch_stride, 0, matrix.channel_stride, matrix.column_stride};
}

ObjectMatrix as_object(const Vector& vector) {
  return {vector.data, Dtype::kFloat32, vector.batch_stride, 0, 0, vector.stride};
}

const char* launch(const Gradient& gradient, int64_t own_items, int64_t rows, const Machine& machine,
                   const GradientArguments& arguments) {
  if (gradient.shared_bytes > machine.shared_bytes) return kTooLarge;
  const int slices = gradient.rows ? static_cast<int>(blocks(rows, gradient.rows)) : 1;
  const int grid[3] = {static_cast<int>(blocks(own_items, kSideTile) * arguments.parts), slices,
                       static_cast<int>(arguments.sizes.batches)};
  return simt::launch(gradient.kernel, grid, kThreads, gradient.shared_bytes, machine.stream, arguments);
}

const char* sum_parts(const float* data, int parts, int64_t channels, int64_t columns, int64_t batches,
                      const ObjectMatrix& out, const Machine& machine) {
  const SumArguments arguments{data, parts, static_cast<int>(channels), columns, out};
  const int grid[3] = {static_cast<int>(blocks(columns, kThreads)), static_cast<int>(channels),
                       static_cast<int>(batches)};
  return simt::launch(sum_kernel, grid, kThreads, 0, machine.stream, arguments);
}

const char* query_side(const Backward& backward, const Machine& machine, GradientArguments arguments,
                       const Gradient& gradient, float* workspace, int parts) {
  const Sizes& sizes = backward.sizes;
  const int64_t channels = sizes.key_channels, queries = sizes.queries;
  const ObjectMatrix out = as_object(backward.gradients.query);
  const Vector& offset = backward.gradients.offset;
  arguments.parts = parts;
  arguments.out = out;
  arguments.sums = offset;
  float* part_sums = workspace + sizes.batches * parts * channels * queries;
  if (parts > 1) {
    arguments.out = {workspace, Dtype::kFloat32, parts * channels * queries, 0, queries, 1};
    arguments.out_part_stride = channels * queries;
    if (offset) arguments.sums = {part_sums, parts * queries, 1};
    arguments.sums_part_stride = queries;
  }
  const char* error = launch(gradient, queries, channels, machine, arguments);
  if (error || parts == 1) return error;
  if (out) error = sum_parts(workspace, parts, channels, queries, sizes.batches, out, machine);
  if (error || !offset) return error;
  return sum_parts(part_sums, parts, 1, queries, sizes.batches, as_object(offset), machine);
}

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

const char* queue_delta(const DeltaArguments& arguments, const Machine& machine) {
  const int grid[3] = {static_cast<int>(blocks(arguments.sizes.queries, 32)), 1,
                       static_cast<int>(arguments.sizes.batches)};
  return with_dtype(arguments.out.dtype, [&]<class Value>() {
    return simt::launch(delta_kernel<Value>, grid, kThreads, kThreads * sizeof(float), machine.stream, arguments);
  });
}

}  // namespace

const char* unusable() { return simt::unusable(merge_kernel); }

int64_t read_workspace(const Forward& forward, const Machine& machine, int parts) {
  const Dense* dense = choose(forward, machine).dense;
  parts = dense ? read_parts(forward, machine, *dense, parts) : 1;
  const Sizes& sizes = forward.sizes;
  return parts == 1 ? 0 : sizes.batches * parts * (sizes.rows() + 1) * sizes.queries;
}

const char* read(const Forward& forward, const Machine& machine, float* workspace, int parts) {
  if (const char* reason = unreadable(forward.sizes, forward.scores, forward.value, forward.out)) return reason;
  const auto [dense, depth] = choose(forward, machine);
  if (!dense) return kTooLarge;
  const Sizes& sizes = forward.sizes;
  parts = read_parts(forward, machine, *dense, parts);

  DenseArguments arguments;
  arguments.sizes = sizes;
  arguments.scores = forward.scores;
  arguments.value = forward.value;
  arguments.out = forward.out;
  arguments.lse = forward.lse;
  arguments.parts = parts;
  arguments.depth = depth;
  arguments.query_unit = unit_of(forward.scores.query);
  arguments.key_unit = unit_of(forward.scores.key);
  arguments.value_unit = unit_of(forward.value);
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
  const int channels = whole(sizes.key_channels, 16);
  const int batches = static_cast<int>(sizes.batches);
  const int grid[3] = {static_cast<int>(blocks(sizes.queries, kQueryTile) * parts),
                       static_cast<int>(blocks(sizes.rows(), dense->rows)), batches};
  const char* error =
      simt::launch(dense->kernel, grid, kThreads, dense->shared_bytes(channels, depth), machine.stream, arguments);
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
  return simt::launch(merge_kernel, merge_grid, kThreads, 0, machine.stream, merge);
}

const char* usage(const Usage& usage, const Machine& machine) {
  if (const char* reason = unreadable(usage.sizes, usage.scores)) return reason;
  const Dtype dtype = usage.scores.query.dtype;
  GradientArguments arguments = gradient_arguments(usage.sizes, usage.scores, usage.lse.data);
  arguments.sums = usage.usage;
  return launch(find(dtype, dtype, Side::kUsage), usage.sizes.tokens, 0, machine, arguments);
}

int64_t backward_workspace(const Backward& backward, const Machine& machine, int parts) {
  const Sizes& sizes = backward.sizes;
  const Gradient& gradient = find(backward.scores.query.dtype, backward.value.dtype, Side::kQuery);
  parts = wants_query_side(backward.gradients) ? query_parts(backward, machine, gradient, parts) : 1;
  return sizes.batches * sizes.queries * (1 + (parts > 1 ? parts * (sizes.key_channels + 1) : 0));
}

const char* backward(const Backward& backward, const Machine& machine, float* workspace, int parts) {
  for (const ObjectMatrix& rows : {backward.out, backward.grad_out})
    if (const char* reason = unreadable(backward.sizes, backward.scores, backward.value, rows)) return reason;
  const Sizes& sizes = backward.sizes;
  const Gradients& gradients = backward.gradients;
  const Dtype key = backward.scores.query.dtype, value = backward.value.dtype;
  const Gradient &of_query = find(key, value, Side::kQuery), &of_key = find(key, value, Side::kKey),
                 &of_value = find(key, value, Side::kValue);
  GradientArguments arguments = gradient_arguments(sizes, backward.scores, backward.lse.data);
  arguments.value = backward.value;
  arguments.grad_out = backward.grad_out;
  arguments.value_unit = unit_of(backward.value);
  arguments.grad_unit = unit_of(backward.grad_out);
  const char* error = nullptr;
  const bool query_side_wanted = wants_query_side(gradients), key_side_wanted = wants_key_side(gradients);
  if (query_side_wanted || key_side_wanted) {
    error = queue_delta({sizes, backward.out, backward.grad_out, backward.grad_lse, workspace}, machine);
    arguments.delta = workspace;
    workspace += sizes.batches * sizes.queries;
  }
  if (!error && query_side_wanted)
    error =
        query_side(backward, machine, arguments, of_query, workspace, query_parts(backward, machine, of_query, parts));
  if (!error && key_side_wanted) {
    arguments.out = as_object(gradients.key);
    arguments.sums = gradients.bias;
    arguments.gain_grad = gradients.gain;
    error = launch(of_key, sizes.tokens, sizes.key_channels, machine, arguments);
  }
  if (!error && gradients.value) {
    arguments.out = gradients.value;
    error = launch(of_value, sizes.tokens, sizes.rows(), machine, arguments);
  }
  return error;
}

int64_t top_k_workspace(const TopK& top_k, const Machine& machine, int parts) {
  return top_k.sizes.batches * top_k_parts(top_k.sizes, machine, parts) * top_k.sizes.queries * top_k.top_k * 8;
}

const char* top_k(const TopK& top_k, const Machine& machine, void* workspace, int parts) {
  if (const char* reason = unreadable(top_k.sizes, top_k.scores, top_k.value, top_k.out)) return reason;
  if (top_k.top_k < 1) return "at least one token of each query is read";
  const Sizes& sizes = top_k.sizes;
  const Candidates* found = find(top_k.scores.query.dtype, top_k.top_k);
  if (!found) return "at most 128 tokens of each query are read";
  const int channels = whole(sizes.key_channels, 16), k = static_cast<int>(top_k.top_k);
  const int batches = static_cast<int>(sizes.batches);
  const int depth = depth_of(found->shared_bytes, channels, machine);
  if (depth == 0) return kTooLarge;
  parts = top_k_parts(sizes, machine, parts);
  int* const orders = static_cast<int*>(workspace);
  int* const tokens = orders + sizes.batches * parts * sizes.queries * k;

  const CandidatesArguments candidates{
      sizes, top_k.scores, orders, tokens, parts, k, depth, unit_of(top_k.scores.query), unit_of(top_k.scores.key)};
  const int grid[3] = {static_cast<int>(blocks(sizes.queries, kBestQueries) * parts), 1, batches};
  const char* error =
      simt::launch(found->kernel, grid, kThreads, found->shared_bytes(channels, depth), machine.stream, candidates);
  if (error) return error;
  const ChooseArguments choose{sizes, orders, tokens, parts, k, top_k.indices, top_k.weights, top_k.lse};
  const int choose_grid[3] = {static_cast<int>(blocks(sizes.queries, kWarps)), 1, batches};
  error = simt::launch(found->choose, choose_grid, kThreads, 0, machine.stream, choose);
  if (error) return error;
  const GatherArguments gather{sizes, top_k.value, top_k.out, top_k.indices, top_k.weights, k};
  const int gather_grid[3] = {static_cast<int>(blocks(sizes.queries, 32)),
                              static_cast<int>(blocks(sizes.rows(), kGatherRows)), batches};
  return with_dtype(top_k.value.dtype, [&]<class Value>() {
    return simt::launch(gather_kernel<Value>, gather_grid, kThreads, 0, machine.stream, gather);
  });
}

int64_t top_k_backward_workspace(const TopKBackward& backward) {
  return backward.sizes.batches * backward.sizes.queries * (1 + backward.top_k);
}

const char* top_k_backward(const TopKBackward& backward, const SortedChoices& choices, const Machine& machine,
                           float* workspace) {
  for (const ObjectMatrix& rows : {backward.out, backward.grad_out})
    if (const char* reason = unreadable(backward.sizes, backward.scores, backward.value, rows)) return reason;
  const Sizes& sizes = backward.sizes;
  const Gradients& gradients = backward.gradients;
  const int k = static_cast<int>(backward.top_k), batches = static_cast<int>(sizes.batches);
  float* const slopes = workspace + sizes.batches * sizes.queries;
  const int query_grid[3] = {static_cast<int>(blocks(sizes.queries, 32)), 1, batches};
  const int token_grid[3] = {static_cast<int>(blocks(sizes.tokens, kWarps)), 1, batches};
  const char* error = nullptr;
  const bool query_side_wanted = wants_query_side(gradients), key_side_wanted = wants_key_side(gradients);
  if (query_side_wanted || key_side_wanted) {
    error = queue_delta({sizes, backward.out, backward.grad_out, backward.grad_lse, workspace}, machine);
    ChosenArguments chosen{sizes,
                           backward.scores,
                           backward.value,
                           backward.grad_out,
                           backward.indices,
                           backward.weights,
                           workspace,
                           slopes,
                           k,
                           as_object(gradients.query),
                           gradients.offset};
    if (!error)
      error = with_dtype(backward.value.dtype, [&]<class Value>() {
        return simt::launch(slopes_kernel<Value>, query_grid, kThreads, 0, machine.stream, chosen);
      });
    if (!error && query_side_wanted)
      error = with_dtype(backward.scores.query.dtype, [&]<class Key>() {
        return simt::launch(chosen_query_kernel<Key>, query_grid, kThreads, 0, machine.stream, chosen);
      });
  }
  const ByTokenArguments by_token{
      sizes, backward.scores, backward.grad_out, backward.weights, slopes, choices.order, choices.starts, k, gradients};
  if (!error && key_side_wanted)
    error = with_dtype(backward.scores.query.dtype, [&]<class Key>() {
      return simt::launch(chosen_key_kernel<Key>, token_grid, kThreads, 0, machine.stream, by_token);
    });
  if (!error && gradients.value)
    error = with_dtype(backward.value.dtype, [&]<class Value>() {
      return simt::launch(chosen_value_kernel<Value>, token_grid, kThreads, 0, machine.stream, by_token);
    });
  return error;
}

}  // namespace stm::cuda
