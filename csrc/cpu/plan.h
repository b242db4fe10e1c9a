// How a read is divided into tasks.
#pragma once

#include "cpu/simd.h"

namespace stm {
inline namespace STM_ISA {

constexpr int64_t kTileTokens = 96;
static_assert(kTileTokens % kRows == 0);
constexpr int64_t kSplitTokens = 2048;
constexpr int64_t kMaxSplits = 32;
constexpr int64_t kReadoutBytes = int64_t{8} << 20;

// Splits of the memory depend on the sizes alone, groups of panels also on the number of workers.
struct Plan {
  int64_t panels;  // of all queries
  int64_t group;   // panels per task
  int64_t groups;
  int64_t tile_size;
  int64_t tiles;  // of all tokens
  int64_t splits;
  int64_t batches;

  Plan(const Sizes& sizes, int64_t tile_tokens, int64_t panel_bytes, int workers)
      : panels(divide_up(sizes.queries, kWidth)),
        tile_size(tile_tokens),
        tiles(divide_up(sizes.tokens, tile_tokens)),
        splits(smaller(kMaxSplits, divide_up(sizes.tokens, kSplitTokens))),
        batches(sizes.batches) {
    const int64_t fitting = larger<int64_t>(1, kReadoutBytes / panel_bytes);
    // Several workers get a few tasks each, so that all are busy to the end.
    const int64_t wanted = workers > 1 ? divide_up(4 * workers, batches * splits) : 1;
    groups = smaller(panels, larger(divide_up(panels, fitting), wanted));
    group = divide_up(panels, groups);
    groups = divide_up(panels, group);
  }

  int64_t tasks() const { return batches * groups * splits; }
};

// What one task reads.
struct ReadTask {
  int64_t batch, group, split;
  int64_t first_query, queries, panels;
  int64_t first_token, tokens;

  ReadTask(const Plan& plan, const Sizes& sizes, int64_t index) {
    split = index % plan.splits;
    group = index / plan.splits % plan.groups;
    batch = index / plan.splits / plan.groups;
    first_query = group * plan.group * kWidth;
    queries = smaller(plan.group * kWidth, sizes.queries - first_query);
    panels = divide_up(queries, kWidth);
    first_token = plan.tiles * split / plan.splits * plan.tile_size;
    tokens = smaller(plan.tiles * (split + 1) / plan.splits * plan.tile_size, sizes.tokens) - first_token;
  }
};

}  // namespace STM_ISA
}  // namespace stm
