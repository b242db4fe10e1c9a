// Sizes of the tiles that a block of threads works on, the same for every chip. How many value channels a block holds
// depends on the dtypes: see `kDense` in launch_read.cu.
#pragma once

namespace stm::cuda {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;

// Scores, in the read and in top-k.
constexpr int kScoreQueries = 64;
constexpr int kScoreTokens = 32;

// The read: values of a tile of tokens are copied this many tiles ahead.
constexpr int kQueryTile = kScoreQueries;
constexpr int kTokenTile = kScoreTokens;
constexpr int kValueStages = 2;

// Gradients: a block owns one tile of queries or of tokens and loops over the tiles of the other side.
constexpr int kGradientTile = 64;

// Sums over chosen columns, for the gradients of a top-k read.
constexpr int kSumColumns = 32;
constexpr int kSumChannels = 64;

}  // namespace stm::cuda
