#include "cuda/plan.h"
#include "cuda/top_k.h"
#include "cuda/top_k_backward.h"

namespace stm::cuda {
namespace {

struct Candidates {
  Dtype key;
  int most;
  Kernel<CandidatesArguments> kernel;
  Kernel<ChooseArguments> choose;
  std::size_t (*shared_bytes)(int channels, int depth);
};

template <class Key, int kSlots>
constexpr Candidates candidates() {
  return {kDtypeOf<Key>, 32 * kSlots, kernel_of<candidates_kernel<Key, kSlots>, CandidatesArguments>,
          kernel_of<choose_kernel<kSlots>, ChooseArguments>, candidates_bytes<Key>};
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

struct TopKPlan {
  const Candidates* candidates = nullptr;
  int depth = 0;
  std::size_t shared_bytes = 0;
  int parts = 1;
};

TopKPlan plan(const TopK& top_k, const Machine& machine, int parts) {
  const Sizes& sizes = top_k.sizes;
  const Candidates* found = find(top_k.scores.query.dtype, top_k.top_k);
  if (!found) return {};
  const int channels = whole(sizes.key_channels, 16);
  const int depth = depth_of(found->shared_bytes, channels, machine);
  if (depth == 0) return {found};
  const std::size_t shared_bytes = found->shared_bytes(channels, depth);
  const int64_t programs = blocks(sizes.queries, kBestQueries) * sizes.batches;
  return {found, depth, shared_bytes,
          split(parts, programs, blocks(sizes.tokens, kBestTokens), places(found->kernel, shared_bytes, machine))};
}

}  // namespace

int64_t top_k_workspace(const TopK& top_k, const Machine& machine, int parts) {
  return top_k.sizes.batches * plan(top_k, machine, parts).parts * top_k.sizes.queries * top_k.top_k * 8;
}

const char* top_k(const TopK& top_k, const Machine& machine, void* workspace, int parts) {
  if (const char* reason = unreadable(top_k.sizes, top_k.scores, top_k.value, top_k.out)) return reason;
  if (top_k.top_k < 1) return "at least one token of each query is read";
  const TopKPlan planned = plan(top_k, machine, parts);
  if (!planned.candidates) return "at most 128 tokens of each query are read";
  if (planned.depth == 0) return kTooLarge;
  const Sizes& sizes = top_k.sizes;
  const int k = static_cast<int>(top_k.top_k), batches = static_cast<int>(sizes.batches);
  parts = planned.parts;
  int* const orders = static_cast<int*>(workspace);
  int* const tokens = orders + sizes.batches * parts * sizes.queries * k;

  const CandidatesArguments candidates{sizes,
                                       top_k.scores,
                                       orders,
                                       tokens,
                                       parts,
                                       k,
                                       planned.depth,
                                       unit_of(top_k.scores.query, sizes),
                                       unit_of(top_k.scores.key, sizes)};
  const int grid[3] = {static_cast<int>(blocks(sizes.queries, kBestQueries) * parts), 1, batches};
  const char* error =
      planned.candidates->kernel.launch(grid, kThreads, planned.shared_bytes, machine.stream, candidates);
  if (error) return error;
  const ChooseArguments choose{sizes, orders, tokens, parts, k, top_k.indices, top_k.weights, top_k.lse};
  const int choose_grid[3] = {static_cast<int>(blocks(sizes.queries, kWarps)), 1, batches};
  error = planned.candidates->choose.launch(choose_grid, kThreads, 0, machine.stream, choose);
  if (error) return error;
  const GatherArguments gather{sizes,
                               top_k.value,
                               top_k.out,
                               top_k.indices,
                               top_k.weights,
                               k,
                               channel_unit_of(top_k.value, sizes, sizes.tokens, sizes.value_channels)};
  const int gather_grid[3] = {static_cast<int>(blocks(sizes.queries, kSumColumns)),
                              static_cast<int>(blocks(sizes.rows(), kSumRows)), batches};
  return with_dtype(top_k.value.dtype, [&]<class Value>() {
    return simt::launch<gather_kernel<Value>>(gather_grid, kThreads, chosen_bytes(k), machine.stream, gather);
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
  const int queries = static_cast<int>(blocks(sizes.queries, kSumColumns));
  const int tokens = static_cast<int>(blocks(sizes.tokens, kSumColumns));
  const int query_grid[3] = {queries, 1, batches};
  const int key_grid[3] = {queries, static_cast<int>(blocks(sizes.key_channels, kSumRows)), batches};
  const int token_grid[3] = {tokens, 1, batches};
  const int value_grid[3] = {tokens, static_cast<int>(blocks(sizes.rows(), kSumRows)), batches};
  const char* error = nullptr;
  const bool query_side_wanted = wants_query_side(gradients), key_side_wanted = wants_key_side(gradients);
  if (query_side_wanted || key_side_wanted) {
    error = queue_delta(sizes, backward.out, backward.grad_out, backward.grad_lse, workspace, machine);
    const ObjectMatrix query_grad = as_object(gradients.query);
    const ChosenArguments chosen{
        sizes,
        backward.scores,
        backward.value,
        backward.grad_out,
        backward.indices,
        backward.weights,
        workspace,
        slopes,
        k,
        query_grad,
        gradients.offset,
        channel_unit_of(as_object(backward.scores.key), sizes, sizes.tokens, sizes.key_channels)};
    if (!error)
      error = with_dtype(backward.value.dtype, [&]<class Value>() {
        return simt::launch<slopes_kernel<Value>>(query_grid, kThreads, 0, machine.stream, chosen);
      });
    if (!error && query_side_wanted)
      error = with_dtype(backward.scores.query.dtype, [&]<class Key>() {
        return simt::launch<chosen_query_kernel<Key>>(key_grid, kThreads, chosen_bytes(k), machine.stream, chosen);
      });
  }
  const ByTokenArguments by_token{
      sizes, backward.scores, backward.grad_out, backward.weights, slopes, choices.order, choices.starts, k, gradients};
  if (!error && key_side_wanted)
    error = with_dtype(backward.scores.query.dtype, [&]<class Key>() {
      return simt::launch<chosen_key_kernel<Key>>(token_grid, kThreads, kSumBytes, machine.stream, by_token);
    });
  if (!error && gradients.value)
    error = with_dtype(backward.value.dtype, [&]<class Value>() {
      return simt::launch<chosen_value_kernel<Value>>(value_grid, kThreads, kSumBytes, machine.stream, by_token);
    });
  return error;
}

}  // namespace stm::cuda
