// The k best scores of a query, in a list that lies across the lanes of a warp.
#pragma once

#include "cuda/scores.h"

namespace stm::cuda {

constexpr int kNoCandidate = -2147483647 - 1;

// An integer whose order is that of scores; NaN is better than anything.
STM_DEVICE int order_of(float score) {
  const int bits = score != score ? 0x7fc00000 : static_cast<int>(simt::bits(score + 0.0f));
  return bits ^ (bits >> 31 & 0x7fffffff);
}

STM_DEVICE float score_of(int order) {
  return order == kNoCandidate ? kMinusInfinity
                               : simt::from_bits(static_cast<uint32_t>(order ^ (order >> 31 & 0x7fffffff)));
}

// The k best candidates of a query, best first, over the lanes of a warp: place p is slot p / 32 of lane p % 32.
template <int kSlots>
struct WarpTopK {
  int order[kSlots];
  int token[kSlots];
  int worst = kNoCandidate;

  STM_DEVICE WarpTopK() {
    STM_UNROLL
    for (int slot = 0; slot < kSlots; ++slot) order[slot] = kNoCandidate, token[slot] = 0;
  }

  // Offers a candidate of every lane. Of equal ones those offered first are kept, and of these the lower lanes'.
  STM_DEVICE void offer(int new_order, int new_token, int k) {
    for (uint32_t pending = simt::ballot(new_order > worst); pending; pending &= pending - 1) {
      const int source = simt::first_set(pending);
      const int candidate_order = simt::shuffle(new_order, source), candidate_token = simt::shuffle(new_token, source);
      if (candidate_order > worst) insert(candidate_order, candidate_token, k);
    }
  }

 private:
  STM_DEVICE void insert(int candidate_order, int candidate_token, int k) {
    int place = 0;
    STM_UNROLL
    for (int slot = 0; slot < kSlots; ++slot) place += simt::popcount(simt::ballot(order[slot] >= candidate_order));
    const int lane = simt::lane(), before = (lane + 31) % 32;
    // From the last slot on: each takes what the one before still has.
    STM_UNROLL
    for (int slot = kSlots - 1; slot >= 0; --slot) {
      int moved_order = simt::shuffle(order[slot], before), moved_token = simt::shuffle(token[slot], before);
      if (slot > 0) {
        const int last_order = simt::shuffle(order[slot - 1], 31), last_token = simt::shuffle(token[slot - 1], 31);
        if (lane == 0) moved_order = last_order, moved_token = last_token;
      }
      const int own_place = slot * 32 + lane;
      if (own_place == place) {
        order[slot] = candidate_order, token[slot] = candidate_token;
      } else if (own_place > place) {
        order[slot] = moved_order, token[slot] = moved_token;
      }
    }
    // A slot indexed by k would have to lie in memory, so all are asked.
    STM_UNROLL
    for (int slot = 0; slot < kSlots; ++slot) {
      const int last = simt::shuffle(order[slot], (k - 1) % 32);
      if (slot <= (k - 1) / 32) worst = last;
    }
  }
};

}  // namespace stm::cuda
