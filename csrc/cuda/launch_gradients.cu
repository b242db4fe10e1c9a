#include <iterator>

#include "cuda/gradients.h"
#include "cuda/plan.h"

namespace stm::cuda {
namespace {

struct Gradient {
  Dtype key;
  Dtype value;
  Side side;
  int rows;
  Kernel<GradientArguments> kernel;
  std::size_t shared_bytes;
};

template <class Key, class Value, Side kSide>
constexpr Gradient gradient() {
  using Traits = GradientTraits<Key, Value, kSide>;
  return {kDtypeOf<Key>,
          kDtypeOf<Value>,
          kSide,
          Traits::kRows,
          kernel_of<gradient_kernel<Key, Value, kSide>, GradientArguments>,
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

int query_parts(const Backward& backward, const Machine& machine, const Gradient& gradient, int asked) {
  const Sizes& sizes = backward.sizes;
  const int64_t programs = blocks(sizes.queries, kSideTile) * blocks(sizes.key_channels, gradient.rows) * sizes.batches;
  return split(asked, programs, blocks(sizes.tokens, kSideTile),
               places(gradient.kernel, gradient.shared_bytes, machine));
}

GradientArguments gradient_arguments(const Sizes& sizes, const Scores& scores, const float* lse) {
  GradientArguments arguments;
  arguments.sizes = sizes;
  arguments.scores = scores;
  arguments.lse = lse;
  arguments.query_unit = unit_of(scores.query, sizes);
  arguments.key_unit = unit_of(scores.key, sizes);
  return arguments;
}

const char* launch(const Gradient& gradient, int64_t own_items, int64_t rows, const Machine& machine,
                   const GradientArguments& arguments) {
  if (gradient.shared_bytes > machine.shared_bytes) return kTooLarge;
  const int slices = gradient.rows ? static_cast<int>(blocks(rows, gradient.rows)) : 1;
  const int grid[3] = {static_cast<int>(blocks(own_items, kSideTile) * arguments.parts), slices,
                       static_cast<int>(arguments.sizes.batches)};
  return gradient.kernel.launch(grid, kThreads, gradient.shared_bytes, machine.stream, arguments);
}

const char* sum_parts(const float* data, int parts, int64_t channels, int64_t columns, int64_t batches,
                      const ObjectMatrix& out, const Machine& machine) {
  const SumArguments arguments{data, parts, static_cast<int>(channels), columns, out};
  const int grid[3] = {static_cast<int>(blocks(columns, kThreads)), static_cast<int>(channels),
                       static_cast<int>(batches)};
  return simt::launch<sum_kernel>(grid, kThreads, 0, machine.stream, arguments);
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

}  // namespace

const char* queue_delta(const Sizes& sizes, const ObjectMatrix& out, const ObjectMatrix& grad_out,
                        const Vector& grad_lse, float* delta, const Machine& machine) {
  const DeltaArguments arguments{sizes, out, grad_out, grad_lse, delta};
  const int grid[3] = {static_cast<int>(blocks(sizes.queries, 32)), 1, static_cast<int>(sizes.batches)};
  return with_dtype(out.dtype, [&]<class Value>() {
    return simt::launch<delta_kernel<Value>>(grid, kThreads, kThreads * sizeof(float), machine.stream, arguments);
  });
}

const char* usage(const Usage& usage, const Machine& machine) {
  if (const char* reason = unreadable(usage.sizes, usage.scores)) return reason;
  const Dtype dtype = usage.scores.query.dtype;
  GradientArguments arguments = gradient_arguments(usage.sizes, usage.scores, usage.lse.data);
  arguments.sums = usage.usage;
  return launch(find(dtype, dtype, Side::kUsage), usage.sizes.tokens, 0, machine, arguments);
}

constexpr const char* kOtherDtypes = "gradients are of other dtypes than what they are of";

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
  for (const Matrix& gradient : {gradients.query, gradients.key})
    if (gradient && gradient.dtype != backward.scores.query.dtype) return kOtherDtypes;
  if (gradients.value && gradients.value.dtype != backward.value.dtype) return kOtherDtypes;
  const Dtype key = backward.scores.query.dtype, value = backward.value.dtype;
  const Gradient &of_query = find(key, value, Side::kQuery), &of_key = find(key, value, Side::kKey),
                 &of_value = find(key, value, Side::kValue);
  GradientArguments arguments = gradient_arguments(sizes, backward.scores, backward.lse.data);
  arguments.value = backward.value;
  arguments.grad_out = backward.grad_out;
  arguments.value_unit = unit_of(backward.value, sizes);
  arguments.grad_unit = unit_of(backward.grad_out, sizes);
  const char* error = nullptr;
  const bool query_side_wanted = wants_query_side(gradients), key_side_wanted = wants_key_side(gradients);
  if (query_side_wanted || key_side_wanted) {
    error = queue_delta(sizes, backward.out, backward.grad_out, backward.grad_lse, workspace, machine);
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

}  // namespace stm::cuda
