#include "cuda/plan.h"

#include <algorithm>

namespace stm::cuda {
namespace {

// Blocks along a grid's second and third dimension.
constexpr int64_t kMaxBlocks = 65535;
// Queries and tokens: tiles are counted in 32 bits.
constexpr int64_t kMaxItems = (int64_t{1} << 31) - (1 << 20);
// With fewer, a block has hardly begun when it ends.
constexpr int64_t kMinTilesPerSplit = 8;

#if defined(STM_EMULATED)
int forced_splits = 0;
#endif

}  // namespace

#if defined(STM_EMULATED)
void force_splits(int splits) { forced_splits = splits; }
#endif

const char* refusal_of(const Sizes& sizes, const Scores& scores) {
  for (int64_t size : {sizes.batches, sizes.queries, sizes.tokens, sizes.key_channels})
    if (size < 1) return "batches, queries, tokens and channels must be at least 1";
  if (sizes.batches > kMaxBlocks) return "there are more than 65535 batches";
  if (sizes.key_channels > kMaxBlocks) return "there are more than 65535 key channels";
  if (std::max(sizes.queries, sizes.tokens) > kMaxItems) return "there are about 2^31 queries or tokens";
  if (scores.key.dtype != scores.query.dtype) return "queries and keys have different dtypes";
  return nullptr;
}

const char* refusal_of(const Sizes& sizes, const Scores& scores, const ObjectMatrix& value, const ObjectMatrix& out) {
  if (sizes.total_value_channels() < 1) return "objects and value channels must be at least 1";
  if (sizes.total_value_channels() > kMaxBlocks) return "all objects together have more than 65535 value channels";
  if (out.dtype != value.dtype) return "the readout, its gradient and the values have different dtypes";
  return refusal_of(sizes, scores);
}

int max_depth(std::size_t (*shared_bytes)(int channels, int depth), int channels, const Machine& machine) {
  for (int depth : {channels, 128, 64, 32, 16})
    if (depth <= channels && shared_bytes(channels, depth) <= machine.shared_bytes) return depth;
  return 0;
}

// The first count that leaves less than a tenth of the GPU idle in its last wave of blocks, else the one that leaves
// least.
//
// stm_fast/kernels/splits.py, for Triton, minimizes a time instead. It knows the rates of every class of chips but not
// how many programs share a multiprocessor; here that is known and the rates are not.
int split_count(int64_t blocks_per_split, int64_t tiles, int64_t resident_blocks) {
#if defined(STM_EMULATED)
  if (forced_splits) return forced_splits;
#endif
  const int64_t max_splits =
      std::max<int64_t>(1, std::min(tiles / kMinTilesPerSplit, divide_up(2 * resident_blocks, blocks_per_split)));
  int best = 1;
  double min_idle = 1;
  for (int64_t splits = 1; splits <= max_splits; ++splits) {
    const int64_t blocks = splits * blocks_per_split, places = divide_up(blocks, resident_blocks) * resident_blocks;
    const double idle = 1 - static_cast<double>(blocks) / static_cast<double>(places);
    if (idle < min_idle) best = static_cast<int>(splits), min_idle = idle;
    if (idle < 0.1) break;
  }
  return best;
}

}  // namespace stm::cuda
