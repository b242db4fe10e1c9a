// Usage: how much each token is read, from recomputed scores and the log-sum-exp of the read.
#pragma once

#include "cpu/plan.h"
#include "cpu/runtime.h"
#include "cpu/softmax.h"

namespace stm {
inline namespace STM_ISA {

constexpr int64_t kUsageQueryBytes = int64_t{4} << 20;

template <class ScoreTile>
class UsageSum {
 public:
  UsageSum(const Usage& usage, const Threads& threads)
      : usage_(usage),
        tiles_(divide_up(usage.sizes.tokens, kTileTokens)),
        chunks_(smaller<int64_t>(tiles_, divide_up(4 * threads.workers, usage.sizes.batches))),
        panels_(larger<int64_t>(1, smaller(divide_up(usage.sizes.queries, kWidth),
                                           kUsageQueryBytes / (usage.sizes.key_channels * kWidth * 4)))) {}

  void run(const Threads& threads) {
    run_tasks(threads, usage_.sizes.batches * chunks_, [this](TaskQueue& tasks) { work(tasks); });
  }

 private:
  void work(TaskQueue& tasks) const {
    const int64_t max_tiles = divide_up(tiles_, chunks_) + 1;
    ScoreTile scores(usage_.sizes, usage_.scores, panels_);
    Buffer<float> tile(kTileTokens * kWidth), sums(max_tiles * kTileTokens * kLanes);
    for (int64_t task = tasks.next(); task >= 0; task = tasks.next()) {
      const int64_t batch = task / chunks_, chunk = task % chunks_;
      const int64_t begin = tiles_ * chunk / chunks_ * kTileTokens;
      const int64_t end = smaller(tiles_ * (chunk + 1) / chunks_ * kTileTokens, usage_.sizes.tokens);
      zero(sums.data(), (end - begin) * kLanes);
      for (int64_t first = 0; first < usage_.sizes.queries; first += panels_ * kWidth) {
        const int64_t count = smaller(panels_ * kWidth, usage_.sizes.queries - first);
        scores.set_batch(batch);
        scores.pack_queries(first, count);
        for (int64_t token = begin; token < end; token += kTileTokens) {
          const int64_t tokens = smaller(kTileTokens, end - token);
          scores.pack_tokens(token, tokens);
          add(scores, batch, first, count, tokens, tile.data(), sums.data() + (token - begin) * kLanes);
        }
      }
      const Vector usage = usage_.usage.batch(batch);
      for (int64_t j = begin; j < end; ++j) usage[j] = sum(load(sums.data() + (j - begin) * kLanes));
    }
  }

  void add(const ScoreTile& scores, int64_t batch, int64_t first, int64_t count, int64_t tokens, float* tile,
           float* sums) const {
    const Vector lse = usage_.lse.batch(batch);
    for (int64_t panel = 0; panel * kWidth < count; ++panel) {
      const Normalizer normalizer(lse, first + panel * kWidth, count - panel * kWidth);
      scores.compute(panel, tokens, tile);
      for (int64_t j = 0; j < tokens; ++j) {
        Floats total = load(sums + j * kLanes);
#pragma GCC unroll 3
        for (int v = 0; v < kVectors; ++v) {
          total += normalizer.weight(load(tile + j * kWidth + v * kLanes), v);
        }
        store(sums + j * kLanes, total);
      }
    }
  }

  const Usage& usage_;
  int64_t tiles_, chunks_, panels_;
};

}  // namespace STM_ISA
}  // namespace stm
