// The first half of the choice of tokens: the k best of each query in each split of the memory.
//
// A block serves 64 queries in one split. Scores of a tile of 32 tokens pass through shared memory; then each warp
// takes eight of the queries, a lane a token, and offers their scores to the query's list.
#pragma once

#include "cuda/scores.h"
#include "cuda/warp_top_k.h"

namespace stm::cuda {

constexpr int kScoreStride = kScoreTokens + 1;

struct CandidatesArguments {
  Sizes sizes;
  Scores scores;
  // (batches, splits, queries, k), dense.
  int* orders = nullptr;
  int* tokens = nullptr;
  int splits = 1;
  int k = 1;
  // Channels of a chunk of keys, a multiple of 16.
  int depth = 0;
  CopyWidth query_width;
  CopyWidth key_width;
};

template <class Key>
constexpr std::size_t candidates_bytes(int channels, int depth) {
  return ScoreStream<Key>::bytes(channels, depth) + sizeof(float) * kScoreQueries * kScoreStride;
}

template <class Key, int kSlots>
STM_KERNEL void candidates_kernel(const CandidatesArguments arguments) {
  constexpr int kQueriesPerWarp = kScoreQueries / kWarps;
  const Sizes& sizes = arguments.sizes;
  const int query_tiles = round_up(sizes.queries, kScoreQueries) / kScoreQueries;
  const int64_t first_query = static_cast<int64_t>(simt::block_x() % query_tiles) * kScoreQueries;
  const int split = simt::block_x() / query_tiles;
  const int64_t batch = simt::block_z();
  const TileRange tiles(sizes.tokens, kScoreTokens, arguments.splits, split);

  const Affine affine(arguments.scores, sizes, batch);
  ScoreStream<Key> stream(simt::shared_memory(), arguments.scores, sizes, batch, first_query, arguments.depth,
                          arguments.query_width, arguments.key_width);
  float* const scores = reinterpret_cast<float*>(stream.end());
  const WarpTile<2> warp;
  const float offset[2] = {affine.offset_of(first_query + warp.row(0)), affine.offset_of(first_query + warp.row(1))};
  const int first_of_warp = simt::warp() * kQueriesPerWarp;
  WarpTopK<kSlots> best[kQueriesPerWarp];

  for (int64_t tile = tiles.begin; tile < tiles.end; ++tile) {
    float score[2][4] = {};
    stream.add_tile(score, warp, tile, tiles.end, [](int64_t) {});
    const int64_t first_token = tile * kScoreTokens;
    const int tokens = remaining(sizes.tokens, first_token, kScoreTokens);
    STM_UNROLL
    for (int j = 0; j < 8; ++j) {
      const int r = j / 2 % 2, column = warp.column(j / 4, j % 2);
      scores[warp.row(r) * kScoreStride + column] =
          affine.score(affine.before_gain(score[j / 4][j % 4], offset[r]), first_token, column, tokens);
    }
    simt::sync_block();
    const int token = static_cast<int>(first_token) + simt::lane();
    STM_UNROLL
    for (int i = 0; i < kQueriesPerWarp; ++i) {
      const float found = scores[(first_of_warp + i) * kScoreStride + simt::lane()];
      best[i].offer(simt::lane() < tokens ? order_of(found) : kNoCandidate, token, arguments.k);
    }
  }

  STM_UNROLL
  for (int i = 0; i < kQueriesPerWarp; ++i) {
    const int64_t query = first_query + first_of_warp + i;
    if (query >= sizes.queries) continue;
    const int64_t begin = ((batch * arguments.splits + split) * sizes.queries + query) * arguments.k;
    STM_UNROLL
    for (int slot = 0; slot < kSlots; ++slot) {
      const int place = slot * 32 + simt::lane();
      if (place >= arguments.k) continue;
      arguments.orders[begin + place] = best[i].order[slot];
      arguments.tokens[begin + place] = best[i].token[slot];
    }
  }
}

}  // namespace stm::cuda
