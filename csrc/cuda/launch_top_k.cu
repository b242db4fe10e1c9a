#include <algorithm>
#include <iterator>

#include "cuda/candidates.h"
#include "cuda/choose.h"
#include "cuda/copy_width.h"
#include "cuda/gather.h"
#include "cuda/plan.h"
#include "cuda/top_k_backward.h"

namespace stm::cuda {
namespace {

// The kernels for keys of a dtype and for at most so many tokens of each query.
struct TopKKernels {
  Dtype key;
  int max_k;
  Kernel<CandidatesArguments> candidates;
  Kernel<ChooseArguments> choose;
  std::size_t (*shared_bytes)(int channels, int depth);
};

template <class Key, int kSlots>
constexpr TopKKernels top_k_kernels() {
  return {kDtypeOf<Key>, 32 * kSlots, kernel_of<candidates_kernel<Key, kSlots>, CandidatesArguments>,
          kernel_of<choose_kernel<kSlots>, ChooseArguments>, candidates_bytes<Key>};
}

constexpr TopKKernels kTopK[] = {
    top_k_kernels<BFloat16, 1>(), top_k_kernels<BFloat16, 4>(), top_k_kernels<Float16, 1>(),
    top_k_kernels<Float16, 4>(),  top_k_kernels<float, 1>(),    top_k_kernels<float, 4>(),
};

// The candidates of all splits: (batches, splits, queries, k).
int64_t candidate_count(const TopK& top_k, int splits) {
  return top_k.sizes.batches * splits * top_k.sizes.queries * top_k.top_k;
}

}  // namespace

Plan plan_top_k(const TopK& top_k, const Machine& machine) {
  const Sizes& sizes = top_k.sizes;
  Plan plan;
  plan.refusal = refusal_of(sizes, top_k.scores, top_k.value, top_k.out);
  if (!plan.refusal && top_k.top_k < 1) plan.refusal = "at least one token of each query is read";
  if (plan.refusal) return plan;
  const TopKKernels* const kernels =
      std::find_if(std::begin(kTopK), std::end(kTopK), [&](const TopKKernels& candidate) {
        return candidate.key == top_k.scores.query.dtype && top_k.top_k <= candidate.max_k;
      });
  if (kernels == std::end(kTopK)) {
    plan.refusal = "at most 128 tokens of each query are read";
    return plan;
  }
  const int channels = round_up(sizes.key_channels, 16);
  plan.kernel = static_cast<int>(kernels - kTopK);
  plan.depth = max_depth(kernels->shared_bytes, channels, machine);
  if (plan.depth == 0) {
    plan.refusal = kTooLarge;
    return plan;
  }
  plan.shared_bytes = kernels->shared_bytes(channels, plan.depth);
  plan.splits = split_count(divide_up(sizes.queries, kScoreQueries) * sizes.batches,
                            divide_up(sizes.tokens, kScoreTokens), kernels->candidates, plan.shared_bytes, machine);
  plan.workspace_bytes = candidate_count(top_k, plan.splits) * 2 * static_cast<int64_t>(sizeof(int));
  return plan;
}

const char* launch_top_k(const TopK& top_k, const Plan& plan, const Machine& machine, void* workspace) {
  const Sizes& sizes = top_k.sizes;
  const TopKKernels& kernels = kTopK[plan.kernel];
  const int k = static_cast<int>(top_k.top_k), batches = static_cast<int>(sizes.batches);
  int* const orders = static_cast<int*>(workspace);
  int* const tokens = orders + candidate_count(top_k, plan.splits);

  const CandidatesArguments candidates{sizes,
                                       top_k.scores,
                                       orders,
                                       tokens,
                                       plan.splits,
                                       k,
                                       plan.depth,
                                       copy_width(top_k.scores.query, sizes),
                                       copy_width(top_k.scores.key, sizes)};
  const int grid[3] = {static_cast<int>(divide_up(sizes.queries, kScoreQueries) * plan.splits), 1, batches};
  const char* error = kernels.candidates.launch(grid, kThreads, plan.shared_bytes, machine.stream, candidates);
  if (error) return error;
  const ChooseArguments choose{sizes, orders, tokens, plan.splits, k, top_k.indices, top_k.weights, top_k.lse};
  const int choose_grid[3] = {static_cast<int>(divide_up(sizes.queries, kWarps)), 1, batches};
  error = kernels.choose.launch(choose_grid, kThreads, 0, machine.stream, choose);
  if (error) return error;
  const GatherArguments gather{sizes,
                               top_k.value,
                               top_k.out,
                               top_k.indices,
                               top_k.weights,
                               k,
                               channel_copy_width(top_k.value, sizes, sizes.tokens, sizes.value_channels)};
  const int gather_grid[3] = {static_cast<int>(divide_up(sizes.queries, kSumColumns)),
                              static_cast<int>(divide_up(sizes.total_value_channels(), kSumChannels)), batches};
  return with_dtype(top_k.value.dtype, [&]<class Value>() {
    return simt::launch<gather_kernel<Value>>(gather_grid, kThreads, chosen_bytes(k), machine.stream, gather);
  });
}

Plan plan_top_k_backward(const TopKBackward& backward, const Machine&) {
  const Sizes& sizes = backward.sizes;
  Plan plan;
  for (const ObjectMatrix& readout : {backward.out, backward.grad_out})
    if (!plan.refusal) plan.refusal = refusal_of(sizes, backward.scores, backward.value, readout);
  // Delta and the gradients of the chosen scores.
  plan.workspace_bytes = sizes.batches * sizes.queries * (1 + backward.top_k) * static_cast<int64_t>(sizeof(float));
  return plan;
}

const char* launch_top_k_backward(const TopKBackward& backward, const SortedChoices& choices, const Plan&,
                                  const Machine& machine, void* workspace) {
  const Sizes& sizes = backward.sizes;
  const Gradients& wanted = backward.gradients;
  const int k = static_cast<int>(backward.top_k), batches = static_cast<int>(sizes.batches);
  float* const delta = static_cast<float*>(workspace);
  float* const grad_scores = delta + sizes.batches * sizes.queries;
  const int queries = static_cast<int>(divide_up(sizes.queries, kSumColumns));
  const int tokens = static_cast<int>(divide_up(sizes.tokens, kSumColumns));
  const int query_grid[3] = {queries, 1, batches};
  const int query_channel_grid[3] = {queries, static_cast<int>(divide_up(sizes.key_channels, kSumChannels)), batches};
  const int token_grid[3] = {tokens, 1, batches};
  const int value_grid[3] = {tokens, static_cast<int>(divide_up(sizes.total_value_channels(), kSumChannels)), batches};
  const char* error = nullptr;
  if (wants_query_side(wanted) || wants_key_side(wanted)) {
    error = launch_delta(sizes, backward.out, backward.grad_out, backward.grad_lse, delta, machine);
    const ChosenArguments chosen{
        sizes,
        backward.scores,
        backward.value,
        backward.grad_out,
        backward.indices,
        backward.weights,
        delta,
        grad_scores,
        k,
        as_object(wanted.query),
        wanted.offset,
        channel_copy_width(as_object(backward.scores.key), sizes, sizes.tokens, sizes.key_channels)};
    if (!error)
      error = with_dtype(backward.value.dtype, [&]<class Value>() {
        return simt::launch<grad_scores_kernel<Value>>(query_grid, kThreads, 0, machine.stream, chosen);
      });
    if (!error && wants_query_side(wanted))
      error = with_dtype(backward.scores.query.dtype, [&]<class Key>() {
        return simt::launch<chosen_query_kernel<Key>>(query_channel_grid, kThreads, chosen_bytes(k), machine.stream,
                                                      chosen);
      });
  }
  const ByTokenArguments by_token{sizes,       backward.scores, backward.grad_out, backward.weights,
                                  grad_scores, choices.order,   choices.starts,    k,
                                  wanted};
  if (!error && wants_key_side(wanted))
    error = with_dtype(backward.scores.query.dtype, [&]<class Key>() {
      return simt::launch<chosen_key_kernel<Key>>(token_grid, kThreads, kSumBytes, machine.stream, by_token);
    });
  if (!error && wanted.value)
    error = with_dtype(backward.value.dtype, [&]<class Value>() {
      return simt::launch<chosen_value_kernel<Value>>(value_grid, kThreads, kSumBytes, machine.stream, by_token);
    });
  return error;
}

}  // namespace stm::cuda
