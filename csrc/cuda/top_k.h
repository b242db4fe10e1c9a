// The read of the best memory tokens of each query.
//
// A block finds the best of 64 queries in one part of the memory. Scores of a tile of 32 tokens pass through shared
// memory; then each warp takes eight of the queries, a lane a token, and puts what is better than the query's k-th best
// into a sorted list that lies across the lanes. Lists of parts are merged in the same way: the choice does not depend
// on the parts.
#pragma once

#include "cuda/chosen.h"
#include "cuda/scores.h"
#include "cuda/tile.h"

namespace stm::cuda {

constexpr int kBestQueries = ScoreStream<float>::kQueries;
constexpr int kBestTokens = ScoreStream<float>::kTokens;
constexpr int kScoreStride = kBestTokens + 1;
constexpr int kNoCandidate = -2147483647 - 1;

// An integer whose order is that of scores; NaN is better than anything.
STM_DEVICE int ordered(float score) {
  const int bits = score != score ? 0x7fc00000 : static_cast<int>(simt::bits(score + 0.0f));
  return bits ^ (bits >> 31 & 0x7fffffff);
}

STM_DEVICE float score_of(int order) {
  return order == kNoCandidate ? kNothing : simt::from_bits(static_cast<uint32_t>(order ^ (order >> 31 & 0x7fffffff)));
}

// The k best candidates of a query, best first, over the lanes of a warp: place p is slot p / 32 of lane p % 32.
template <int kSlots>
struct Best {
  int order[kSlots];
  int token[kSlots];
  int worst = kNoCandidate;

  STM_DEVICE Best() {
    STM_UNROLL
    for (int slot = 0; slot < kSlots; ++slot) order[slot] = kNoCandidate, token[slot] = 0;
  }

  // Offers a candidate of every lane. Of equal ones those offered first are better, and of those the lower lanes'.
  STM_DEVICE void offer(int new_order, int new_token, int k) {
    for (uint32_t hopeful = simt::ballot(new_order > worst); hopeful; hopeful &= hopeful - 1) {
      const int source = simt::first_one(hopeful);
      const int its_order = simt::shuffle(new_order, source), its_token = simt::shuffle(new_token, source);
      if (its_order > worst) insert(its_order, its_token, k);
    }
  }

 private:
  STM_DEVICE void insert(int its_order, int its_token, int k) {
    int place = 0;
    STM_UNROLL
    for (int slot = 0; slot < kSlots; ++slot) place += simt::ones(simt::ballot(order[slot] >= its_order));
    const int lane = simt::lane(), before = (lane + 31) % 32;
    // From the last slot on, so that what the one before had is still there.
    STM_UNROLL
    for (int slot = kSlots - 1; slot >= 0; --slot) {
      int moved_order = simt::shuffle(order[slot], before), moved_token = simt::shuffle(token[slot], before);
      if (slot > 0) {
        const int last_order = simt::shuffle(order[slot - 1], 31), last_token = simt::shuffle(token[slot - 1], 31);
        if (lane == 0) moved_order = last_order, moved_token = last_token;
      }
      const int mine = slot * 32 + lane;
      if (mine == place) {
        order[slot] = its_order, token[slot] = its_token;
      } else if (mine > place) {
        order[slot] = moved_order, token[slot] = moved_token;
      }
    }
    // A slot that k chose would have to lie in memory: all are asked.
    STM_UNROLL
    for (int slot = 0; slot < kSlots; ++slot) {
      const int last = simt::shuffle(order[slot], (k - 1) % 32);
      if (slot <= (k - 1) / 32) worst = last;
    }
  }
};

struct CandidatesArguments {
  Sizes sizes;
  Scores scores;
  // (batches, parts, queries, k), dense.
  int* orders = nullptr;
  int* tokens = nullptr;
  int parts = 1;
  int k = 1;
  // Channels of a chunk of keys, a multiple of 16.
  int depth = 0;
  Unit query_unit;
  Unit key_unit;
};

template <class Key>
constexpr std::size_t candidates_bytes(int channels, int depth) {
  return ScoreStream<Key>::bytes(channels, depth) + sizeof(float) * kBestQueries * kScoreStride;
}

template <class Key, int kSlots>
STM_KERNEL void candidates_kernel(const CandidatesArguments arguments) {
  constexpr int kMine = kBestQueries / kWarps;
  const Sizes& sizes = arguments.sizes;
  const int query_tiles = whole(sizes.queries, kBestQueries) / kBestQueries;
  const int64_t first_query = static_cast<int64_t>(simt::block_x() % query_tiles) * kBestQueries;
  const int part = simt::block_x() / query_tiles;
  const int64_t batch = simt::block_z();
  const int64_t tiles = (sizes.tokens + kBestTokens - 1) / kBestTokens;
  const int64_t tiles_a_part = (tiles + arguments.parts - 1) / arguments.parts;
  const int64_t first = part * tiles_a_part;
  const int64_t end = first + tiles_a_part < tiles ? first + tiles_a_part : tiles;

  const Affine affine(arguments.scores, sizes, batch);
  char* const shared = simt::shared_memory();
  const ScoreStream<Key> stream(shared, arguments.scores, sizes, batch, first_query, arguments.depth,
                                arguments.query_unit, arguments.key_unit);
  float* const scores = reinterpret_cast<float*>(shared + stream.bytes(stream.chunks * stream.depth, stream.depth));
  const auto fetch = [&](int64_t tile, int chunk, int step) {
    if (tile < end) stream.fetch(tile, chunk, step);
    simt::commit_copies();
  };

  const Piece<2> piece;
  const float offset[2] = {affine.offset_of(first_query + piece.row(0)), affine.offset_of(first_query + piece.row(1))};
  Best<kSlots> best[kMine];
  int step = -1;
  for (int64_t tile = first; tile < end; ++tile) {
    float score[2][4] = {};
    // Before the first chunk comes a step that only asks for it.
    STM_ROLLED
    for (int chunk = step < 0 ? -1 : 0; chunk < stream.chunks; ++chunk, ++step) {
      if (step >= 0) {
        simt::wait_copies<0>();
        simt::sync_block();
      }
      const bool last = chunk + 1 == stream.chunks;
      fetch(last ? tile + 1 : tile, last ? 0 : chunk + 1, step + 1);
      if (step >= 0) stream.add(score, piece, step);
    }
    const int64_t first_token = tile * kBestTokens;
    const int tokens = left_of(sizes.tokens, first_token, kBestTokens);
    STM_UNROLL
    for (int j = 0; j < 8; ++j) {
      const int r = j / 2 % 2, column = piece.column(j / 4, j % 2);
      scores[piece.row(r) * kScoreStride + column] =
          affine.score(affine.raw(score[j / 4][j % 4], offset[r]), first_token, column, tokens);
    }
    simt::sync_block();
    const int token = static_cast<int>(first_token) + simt::lane();
    STM_UNROLL
    for (int mine = 0; mine < kMine; ++mine) {
      const float found = scores[(simt::warp() * kMine + mine) * kScoreStride + simt::lane()];
      best[mine].offer(simt::lane() < tokens ? ordered(found) : kNoCandidate, token, arguments.k);
    }
  }

  STM_UNROLL
  for (int mine = 0; mine < kMine; ++mine) {
    const int64_t q = first_query + simt::warp() * kMine + mine;
    if (q >= sizes.queries) continue;
    const int64_t place = ((batch * arguments.parts + part) * sizes.queries + q) * arguments.k;
    STM_UNROLL
    for (int slot = 0; slot < kSlots; ++slot) {
      const int at = slot * 32 + simt::lane();
      if (at >= arguments.k) continue;
      arguments.orders[place + at] = best[mine].order[slot];
      arguments.tokens[place + at] = best[mine].token[slot];
    }
  }
}

struct ChooseArguments {
  Sizes sizes;
  const int* orders = nullptr;
  const int* tokens = nullptr;
  int parts = 1;
  int k = 1;
  // (batches, queries, k), dense.
  int64_t* indices = nullptr;
  float* weights = nullptr;
  Vector lse;
};

// From the candidates of all parts the best, their weights and lse. A warp has a query.
template <int kSlots>
STM_KERNEL void choose_kernel(const ChooseArguments arguments) {
  const Sizes& sizes = arguments.sizes;
  const int64_t query = static_cast<int64_t>(simt::block_x()) * kWarps + simt::warp(), batch = simt::block_z();
  if (query >= sizes.queries) return;
  const int k = arguments.k;
  Best<kSlots> best;
  for (int part = 0; part < arguments.parts; ++part) {
    const int64_t place = ((batch * arguments.parts + part) * sizes.queries + query) * k;
    STM_UNROLL
    for (int slot = 0; slot < kSlots; ++slot) {
      const int at = slot * 32 + simt::lane();
      const bool inside = at < k;
      best.offer(inside ? arguments.orders[place + at] : kNoCandidate, inside ? arguments.tokens[place + at] : 0, k);
    }
  }
  const float top = score_of(simt::shuffle(best.order[0], 0));
  const float level = top == kNothing ? 0 : top;
  float weight[kSlots], total = 0;
  STM_UNROLL
  for (int slot = 0; slot < kSlots; ++slot) {
    const bool inside = slot * 32 + simt::lane() < k;
    weight[slot] = inside ? simt::exp2(score_of(best.order[slot]) - level) : 0;
    total += weight[slot];
  }
  STM_UNROLL
  for (int mask = 16; mask >= 1; mask /= 2) total += simt::shuffle_xor(total, mask);
  const float scale = total == 0 ? 1 : 1 / total;
  STM_UNROLL
  for (int slot = 0; slot < kSlots; ++slot) {
    const int at = slot * 32 + simt::lane();
    if (at >= k) continue;
    const int64_t place = (batch * sizes.queries + query) * k + at;
    arguments.indices[place] = best.order[slot] == kNoCandidate ? 0 : best.token[slot];
    arguments.weights[place] = weight[slot] * scale;
  }
  if (simt::lane() == 0) {
    const Vector& lse = arguments.lse;
    lse.data[batch * lse.batch_stride + query * lse.stride] = (level + simt::log2(total)) * kLn2;
  }
}

struct GatherArguments {
  Sizes sizes;
  ObjectMatrix value;
  ObjectMatrix out;
  const int64_t* indices = nullptr;
  const float* weights = nullptr;
  int k = 1;
  Unit channel_unit;
};

// The weighted sum of the chosen values.
template <class Value>
STM_KERNEL void gather_kernel(const GatherArguments arguments) {
  const Sizes& sizes = arguments.sizes;
  const ObjectMatrix &value = arguments.value, &out = arguments.out;
  const int64_t first_query = static_cast<int64_t>(simt::block_x()) * kSumColumns, batch = simt::block_z();
  const int first_row = simt::block_y() * kSumRows, queries = left_of(sizes.queries, first_query, kSumColumns);
  const int channels = static_cast<int>(sizes.value_channels), rows = static_cast<int>(sizes.rows());
  char* const shared = simt::shared_memory();
  float* const sums = reinterpret_cast<float*>(shared);
  const Choices choices(shared + kSumBytes, arguments.k);
  const int64_t chosen = (batch * sizes.queries + first_query) * arguments.k;
  choices.load(arguments.indices + chosen, queries,
               [&](int64_t place, int64_t) { return arguments.weights[chosen + place]; });
  sum_chosen(sums, choices, static_cast<const Value*>(value.data) + batch * value.batch_stride, value.column_stride,
             arguments.channel_unit, strides_of(value, channels, rows), first_row, rows);
  store_sums(out, batch * out.batch_stride + first_query * out.column_stride, strides_of(out, channels, rows),
             first_row, rows, queries, sums);
}

}  // namespace stm::cuda
