// The second half of the choice of tokens: of the candidates of all splits the best, and the softmax over them.
#pragma once

#include "cuda/warp_top_k.h"

namespace stm::cuda {

struct ChooseArguments {
  Sizes sizes;
  // (batches, splits, queries, k), dense.
  const int* orders = nullptr;
  const int* tokens = nullptr;
  int splits = 1;
  int k = 1;
  // (batches, queries, k), dense.
  int64_t* indices = nullptr;
  float* weights = nullptr;
  Vector lse;
};

// A warp has a query. Splits are merged in the order of the memory, so that the choice does not depend on them.
template <int kSlots>
STM_KERNEL void choose_kernel(const ChooseArguments arguments) {
  const Sizes& sizes = arguments.sizes;
  const int64_t query = static_cast<int64_t>(simt::block_x()) * kWarps + simt::warp(), batch = simt::block_z();
  if (query >= sizes.queries) return;
  const int k = arguments.k;
  WarpTopK<kSlots> best;
  for (int split = 0; split < arguments.splits; ++split) {
    const int64_t begin = ((batch * arguments.splits + split) * sizes.queries + query) * k;
    STM_UNROLL
    for (int slot = 0; slot < kSlots; ++slot) {
      const int place = slot * 32 + simt::lane();
      const bool inside = place < k;
      best.offer(inside ? arguments.orders[begin + place] : kNoCandidate, inside ? arguments.tokens[begin + place] : 0,
                 k);
    }
  }
  SoftmaxState softmax{score_of(simt::shuffle(best.order[0], 0))};
  float weight[kSlots];
  STM_UNROLL
  for (int slot = 0; slot < kSlots; ++slot) {
    const bool inside = slot * 32 + simt::lane() < k;
    weight[slot] = inside ? simt::exp2(score_of(best.order[slot]) - softmax.origin()) : 0;
    softmax.running_sum += weight[slot];
  }
  STM_UNROLL
  for (int mask = 16; mask >= 1; mask /= 2) softmax.running_sum += simt::shuffle_xor(softmax.running_sum, mask);
  const float normalizer = softmax.normalizer();
  STM_UNROLL
  for (int slot = 0; slot < kSlots; ++slot) {
    const int place = slot * 32 + simt::lane();
    if (place >= k) continue;
    const int64_t at = (batch * sizes.queries + query) * k + place;
    arguments.indices[at] = best.order[slot] == kNoCandidate ? 0 : best.token[slot];
    arguments.weights[at] = weight[slot] * normalizer;
  }
  if (simt::lane() == 0) {
    const Vector& lse = arguments.lse;
    lse.data[batch * lse.batch_stride + query * lse.stride] = softmax.lse();
  }
}

}  // namespace stm::cuda
