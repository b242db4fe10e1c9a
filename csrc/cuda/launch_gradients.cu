#include <algorithm>
#include <iterator>

#include "cuda/copy_width.h"
#include "cuda/delta.h"
#include "cuda/gradients.h"
#include "cuda/ordered_sum.h"
#include "cuda/plan.h"

namespace stm::cuda {
namespace {

struct GradientKernel {
  Kernel<GradientArguments> kernel;
  // Channels whose gradients a block makes; 0 for usage.
  int channels;
  std::size_t shared_bytes;
};

template <class Policy>
constexpr GradientKernel gradient() {
  return {kernel_of<gradient_kernel<Policy>, GradientArguments>, Policy::kChannels, GradientMemory<Policy>::kBytes};
}

// The kernels for keys, as they are multiplied, and values of these dtypes.
struct GradientKernels {
  Dtype key;
  Dtype value;
  GradientKernel of_queries;
  GradientKernel of_keys;
  GradientKernel of_values;
};

template <class Key, class Value>
constexpr GradientKernels gradients() {
  return {kDtypeOf<Key>, kDtypeOf<Value>, gradient<QueryGradient<Key, Value>>(), gradient<KeyGradient<Key, Value>>(),
          gradient<ValueGradient<Key, Value>>()};
}

constexpr GradientKernels kGradients[] = {
    gradients<BFloat16, BFloat16>(), gradients<Float16, Float16>(), gradients<float, BFloat16>(),
    gradients<float, Float16>(),     gradients<float, float>(),
};

GradientKernel usage_of(Dtype key) {
  switch (key) {
    case Dtype::kBFloat16:
      return gradient<UsageSum<BFloat16>>();
    case Dtype::kFloat16:
      return gradient<UsageSum<Float16>>();
    default:
      return gradient<UsageSum<float>>();
  }
}

GradientArguments arguments_of(const Sizes& sizes, const Scores& scores, const float* lse) {
  GradientArguments arguments;
  arguments.sizes = sizes;
  arguments.scores = scores;
  arguments.lse = lse;
  arguments.query_width = copy_width(scores.query, sizes);
  arguments.key_width = copy_width(scores.key, sizes);
  return arguments;
}

const char* launch(const GradientKernel& gradient, int64_t own_items, int64_t channels, const Machine& machine,
                   const GradientArguments& arguments) {
  const int slices = gradient.channels ? static_cast<int>(divide_up(channels, gradient.channels)) : 1;
  const int grid[3] = {static_cast<int>(divide_up(own_items, kGradientTile) * arguments.splits), slices,
                       static_cast<int>(arguments.sizes.batches)};
  return gradient.kernel.launch(grid, kThreads, gradient.shared_bytes, machine.stream, arguments);
}

const char* launch_sum(const float* split_data, int splits, int64_t channels, int64_t columns, int64_t batches,
                       const ObjectMatrix& out, const Machine& machine) {
  const SumArguments arguments{split_data, splits, static_cast<int>(channels), columns, out};
  const int grid[3] = {static_cast<int>(divide_up(columns, kThreads)), static_cast<int>(channels),
                       static_cast<int>(batches)};
  return simt::launch<sum_kernel>(grid, kThreads, 0, machine.stream, arguments);
}

// Gradients of queries and offsets. Several splits leave theirs in the workspace, to be added in order.
const char* launch_query_side(const Backward& backward, const GradientKernel& gradient, int splits,
                              const Machine& machine, GradientArguments arguments, float* workspace) {
  const Sizes& sizes = backward.sizes;
  const int64_t channels = sizes.key_channels, queries = sizes.queries;
  const ObjectMatrix out = as_object(backward.gradients.query);
  const Vector& offset = backward.gradients.offset;
  // (batches, splits, channels, queries) and (batches, splits, queries).
  float* const split_sums = workspace + sizes.batches * splits * channels * queries;
  arguments.splits = splits;
  arguments.out = out;
  arguments.sums = offset;
  if (splits > 1) {
    arguments.out = {workspace, Dtype::kFloat32, splits * channels * queries, 0, queries, 1};
    arguments.out_split_stride = channels * queries;
    if (offset) arguments.sums = {split_sums, splits * queries, 1};
    arguments.sums_split_stride = queries;
  }
  const char* error = launch(gradient, queries, channels, machine, arguments);
  if (error || splits == 1) return error;
  if (out) error = launch_sum(workspace, splits, channels, queries, sizes.batches, out, machine);
  if (error || !offset) return error;
  return launch_sum(split_sums, splits, 1, queries, sizes.batches, as_object(offset), machine);
}

const char* backward_refusal(const Backward& backward) {
  for (const ObjectMatrix& readout : {backward.out, backward.grad_out})
    if (const char* reason = refusal_of(backward.sizes, backward.scores, backward.value, readout)) return reason;
  const Gradients& gradients = backward.gradients;
  constexpr const char* kOtherDtype = "a gradient and its operand have different dtypes";
  for (const Matrix& gradient : {gradients.query, gradients.key})
    if (gradient && gradient.dtype != backward.scores.query.dtype) return kOtherDtype;
  return gradients.value && gradients.value.dtype != backward.value.dtype ? kOtherDtype : nullptr;
}

}  // namespace

const char* launch_delta(const Sizes& sizes, const ObjectMatrix& out, const ObjectMatrix& grad_out,
                         const Vector& grad_lse, float* delta, const Machine& machine) {
  const DeltaArguments arguments{sizes, out, grad_out, grad_lse, delta};
  const int grid[3] = {static_cast<int>(divide_up(sizes.queries, 32)), 1, static_cast<int>(sizes.batches)};
  return with_dtype(out.dtype, [&]<class Value>() {
    return simt::launch<delta_kernel<Value>>(grid, kThreads, kThreads * sizeof(float), machine.stream, arguments);
  });
}

Plan plan_usage(const Usage& usage, const Machine& machine) {
  Plan plan;
  plan.refusal = refusal_of(usage.sizes, usage.scores);
  if (!plan.refusal && usage_of(usage.scores.key.dtype).shared_bytes > machine.shared_bytes) plan.refusal = kTooLarge;
  return plan;
}

const char* launch_usage(const Usage& usage, const Plan&, const Machine& machine, void*) {
  GradientArguments arguments = arguments_of(usage.sizes, usage.scores, usage.lse.data);
  arguments.sums = usage.usage;
  return launch(usage_of(usage.scores.key.dtype), usage.sizes.tokens, 0, machine, arguments);
}

Plan plan_backward(const Backward& backward, const Machine& machine) {
  const Sizes& sizes = backward.sizes;
  const Gradients& wanted = backward.gradients;
  Plan plan;
  plan.refusal = backward_refusal(backward);
  if (plan.refusal) return plan;
  const Dtype value = backward.value.dtype, key = key_operand_dtype(backward.scores.key.dtype, value);
  const GradientKernels* const kernels =
      std::find_if(std::begin(kGradients), std::end(kGradients),
                   [&](const GradientKernels& candidate) { return candidate.key == key && candidate.value == value; });
  plan.kernel = static_cast<int>(kernels - kGradients);
  const auto fits = [&](bool is_wanted, const GradientKernel& gradient) {
    return !is_wanted || gradient.shared_bytes <= machine.shared_bytes;
  };
  if (!fits(wants_query_side(wanted), kernels->of_queries) || !fits(wants_key_side(wanted), kernels->of_keys) ||
      !fits(bool(wanted.value), kernels->of_values)) {
    plan.refusal = kTooLarge;
    return plan;
  }
  if (wants_query_side(wanted)) {
    const GradientKernel& of_queries = kernels->of_queries;
    plan.splits = split_count(
        divide_up(sizes.queries, kGradientTile) * divide_up(sizes.key_channels, of_queries.channels) * sizes.batches,
        divide_up(sizes.tokens, kGradientTile), of_queries.kernel, of_queries.shared_bytes, machine);
  }
  // Delta, and the gradients of several splits.
  const int64_t numbers = 1 + (plan.splits > 1 ? plan.splits * (sizes.key_channels + 1) : 0);
  plan.workspace_bytes = sizes.batches * sizes.queries * numbers * static_cast<int64_t>(sizeof(float));
  return plan;
}

const char* launch_backward(const Backward& backward, const Plan& plan, const Machine& machine, void* workspace) {
  const Sizes& sizes = backward.sizes;
  const Gradients& wanted = backward.gradients;
  const GradientKernels& kernels = kGradients[plan.kernel];
  float* const delta = static_cast<float*>(workspace);
  GradientArguments arguments = arguments_of(sizes, backward.scores, backward.lse.data);
  arguments.value = backward.value;
  arguments.grad_out = backward.grad_out;
  arguments.delta = delta;
  arguments.value_width = copy_width(backward.value, sizes);
  arguments.grad_width = copy_width(backward.grad_out, sizes);
  const char* error = nullptr;
  if (wants_query_side(wanted) || wants_key_side(wanted))
    error = launch_delta(sizes, backward.out, backward.grad_out, backward.grad_lse, delta, machine);
  if (!error && wants_query_side(wanted))
    error = launch_query_side(backward, kernels.of_queries, plan.splits, machine, arguments,
                              delta + sizes.batches * sizes.queries);
  if (!error && wants_key_side(wanted)) {
    arguments.out = as_object(wanted.key);
    arguments.sums = wanted.bias;
    arguments.grad_gain = wanted.gain;
    error = launch(kernels.of_keys, sizes.tokens, sizes.key_channels, machine, arguments);
  }
  if (!error && wanted.value) {
    arguments.out = wanted.value;
    error = launch(kernels.of_values, sizes.tokens, sizes.total_value_channels(), machine, arguments);
  }
  return error;
}

}  // namespace stm::cuda
