// The read of the k best tokens of each query.
//
// Selection: scores are computed tile by tile. A score that beats the k-th best so far joins its query's candidates;
// when the list is full, only the k best are kept. Few scores become candidates, so selecting costs little beside
// scoring.
//
// Gathering: channel by channel, where the tokens of a channel are adjacent. A channel of a long memory fits a cache,
// while the columns that all queries gather do not.
#pragma once

#include <cmath>

#include "cpu/plan.h"
#include "cpu/runtime.h"
#include "cpu/select.h"

namespace stm {
inline namespace STM_ISA {

constexpr int64_t kMaxSelectSplits = 16;
constexpr int64_t kSelectSplitTokens = 8192;

// The candidates of each query, and the score that a new one has to beat.
class Candidates {
 public:
  Candidates(int64_t panels, int64_t top_k)
      : keep_(top_k),
        capacity_(top_k + larger<int64_t>(top_k, 32)),
        entries_(panels * kWidth * capacity_),
        counts_(panels * kWidth),
        thresholds_(panels * kWidth) {}

  void clear_all(int64_t panels) {
    for (int64_t i = 0; i < panels * kWidth; ++i) {
      counts_.data()[i] = 0;
      thresholds_.data()[i] = -__builtin_inff();
    }
  }

  void add_tile(int64_t panel, const float* tile, int64_t first_token, int64_t tokens) {
    float* const thresholds = thresholds_.data() + panel * kWidth;
    for (int64_t j = 0; j < tokens; ++j) {
#pragma GCC unroll 3
      for (int v = 0; v < kVectors; ++v) {
        const float* const scores = tile + j * kWidth + v * kLanes;
        uint32_t better = bits(~(load(scores) <= load(thresholds + v * kLanes)));
        for (; better != 0; better &= better - 1) {
          const int lane = __builtin_ctz(better);
          add(panel * kWidth + v * kLanes + lane, candidate(scores[lane], static_cast<uint32_t>(first_token + j)));
        }
      }
    }
  }

  // Writes the `top_k` best candidates of a query, best first, and kNoCandidate where there are fewer.
  void finish(int64_t query, uint64_t* out) {
    uint64_t* const entries = entries_.data() + query * capacity_;
    int64_t& count = counts_.data()[query];
    if (count > keep_) {
      keep_best(entries, count, keep_);
      count = keep_;
    }
    sort_best(entries, count);
    for (int64_t k = 0; k < keep_; ++k) out[k] = k < count ? entries[k] : kNoCandidate;
  }

 private:
  void add(int64_t query, uint64_t entry) {
    uint64_t* const entries = entries_.data() + query * capacity_;
    int64_t& count = counts_.data()[query];
    entries[count++] = entry;
    if (count < capacity_) return;
    keep_best(entries, count, keep_);
    count = keep_;
    // Where NaN is the worst candidate, only NaN may still join.
    const float worst = score_of(entries[keep_ - 1]);
    thresholds_.data()[query] = worst == worst ? worst : __builtin_inff();
  }

  int64_t keep_, capacity_;
  Buffer<uint64_t> entries_;
  Buffer<int64_t> counts_;
  Buffer<float> thresholds_;
};

template <class ScoreTile>
class TopKRead {
 public:
  TopKRead(const TopK& read, const Threads& threads)
      : read_(read),
        sizes_(read.sizes),
        keep_(smaller(read.top_k, sizes_.tokens)),
        panels_(divide_up(sizes_.queries, kWidth)),
        tiles_(divide_up(sizes_.tokens, kTileTokens)),
        splits_(panels_ >= kMaxSelectSplits ? 1
                                            : smaller(kMaxSelectSplits, divide_up(sizes_.tokens, kSelectSplitTokens))),
        groups_(smaller<int64_t>(panels_, threads.workers > 1 ? 2 * threads.workers : 1)),
        group_(divide_up(panels_, groups_)),
        best_(sizes_.batches * splits_ * sizes_.queries * keep_) {
    groups_ = divide_up(panels_, group_);
  }

  void run(const Threads& threads) {
    run_tasks(threads, sizes_.batches * groups_ * splits_, [this](TaskQueue& tasks) { select(tasks); });
    run_tasks(threads, sizes_.batches * panels_, [this](TaskQueue& tasks) { weigh(tasks); });
    if (by_channel()) {
      run_tasks(threads, sizes_.batches * sizes_.total_value_channels(),
                [this](TaskQueue& tasks) { gather_channels(tasks); });
    } else {
      run_tasks(threads, sizes_.batches * panels_, [this](TaskQueue& tasks) { gather_columns(tasks); });
    }
  }

 private:
  void select(TaskQueue& tasks) {
    ScoreTile scores(sizes_, read_.scores, group_);
    Candidates candidates(group_, keep_);
    Buffer<float> tile(kTileTokens * kWidth);
    for (int64_t task = tasks.next(); task >= 0; task = tasks.next()) {
      const int64_t split = task % splits_, group = task / splits_ % groups_, batch = task / splits_ / groups_;
      const int64_t first = group * group_ * kWidth, queries = smaller(group_ * kWidth, sizes_.queries - first);
      const int64_t panels = divide_up(queries, kWidth);
      const int64_t end = smaller(tiles_ * (split + 1) / splits_ * kTileTokens, sizes_.tokens);
      candidates.clear_all(panels);
      scores.set_batch(batch);
      scores.pack_queries(first, queries);
      for (int64_t token = tiles_ * split / splits_ * kTileTokens; token < end; token += kTileTokens) {
        const int64_t tokens = smaller(kTileTokens, end - token);
        scores.pack_tokens(token, tokens);
        for (int64_t panel = 0; panel < panels; ++panel) {
          scores.compute(panel, tokens, tile.data());
          candidates.add_tile(panel, tile.data(), token, tokens);
        }
      }
      for (int64_t i = 0; i < queries; ++i) candidates.finish(i, best(batch, first + i, split));
    }
  }

  // The candidates of a query: those of its splits are adjacent.
  uint64_t* best(int64_t batch, int64_t query, int64_t split) {
    return best_.data() + ((batch * sizes_.queries + query) * splits_ + split) * keep_;
  }

  void weigh(TaskQueue& tasks) {
    for (int64_t task = tasks.next(); task >= 0; task = tasks.next()) {
      const int64_t batch = task / panels_, first = task % panels_ * kWidth;
      const int64_t end = smaller(first + kWidth, sizes_.queries);
      for (int64_t i = first; i < end; ++i) {
        uint64_t* const entries = best(batch, i, 0);
        if (splits_ > 1) {
          keep_best(entries, splits_ * keep_, keep_);
          sort_best(entries, keep_);
        }
        const int64_t at = (batch * sizes_.queries + i) * read_.top_k;
        read_.lse.batch(batch)[i] = weigh_query(entries, read_.indices + at, read_.weights + at);
      }
    }
  }

  // Computes the softmax over the chosen tokens and returns its log-sum-exp.
  float weigh_query(const uint64_t* entries, int64_t* indices, float* weights) const {
    float sum = 0;
    const float max = entries[0] == kNoCandidate ? 0.0f : score_of(entries[0]);
    for (int64_t k = 0; k < read_.top_k; ++k) {
      const bool chosen = k < keep_ && entries[k] != kNoCandidate;
      indices[k] = chosen ? token_of(entries[k]) : 0;
      weights[k] = chosen ? expf(score_of(entries[k]) - max) : 0.0f;
      if (weights[k] < 1e-20f) weights[k] = 0;
      sum += weights[k];
    }
    for (int64_t k = 0; k < read_.top_k; ++k) weights[k] /= sum == 0 ? 1.0f : sum;
    return max + logf(sum);
  }

  bool by_channel() const {
    return read_.value.column_stride < read_.value.channel_stride || sizes_.value_channels == 1;
  }

  void gather_channels(TaskQueue& tasks) const {
    for (int64_t task = tasks.next(); task >= 0; task = tasks.next()) {
      const int64_t batch = task / sizes_.total_value_channels(), index = task % sizes_.total_value_channels();
      const int64_t object = index / sizes_.value_channels, channel = index % sizes_.value_channels;
      const Matrix value = object_of(read_.value, object), out = object_of(read_.out, object);
      with_type(value.dtype, [&](auto type) {
        using T = decltype(type);
        const T* from = static_cast<const T*>(value.data) + batch * value.batch_stride + channel * value.channel_stride;
        T* to = static_cast<T*>(out.data) + batch * out.batch_stride + channel * out.channel_stride;
        const int64_t* token = read_.indices + batch * sizes_.queries * read_.top_k;
        const float* weight = read_.weights + batch * sizes_.queries * read_.top_k;
        for (int64_t i = 0; i < sizes_.queries; ++i, token += read_.top_k, weight += read_.top_k) {
          float total = 0;
          for (int64_t k = 0; k < keep_; ++k) {
            if (weight[k] != 0) total += weight[k] * to_float(from[token[k] * value.column_stride]);
          }
          from_float(total, to[i * out.column_stride]);
        }
      });
    }
  }

  void gather_columns(TaskQueue& tasks) const {
    Buffer<float> total(sizes_.value_channels);
    for (int64_t task = tasks.next(); task >= 0; task = tasks.next()) {
      const int64_t batch = task / panels_, first = task % panels_ * kWidth;
      const int64_t end = smaller(first + kWidth, sizes_.queries);
      for (int64_t object = 0; object < sizes_.objects; ++object) {
        const Matrix value = object_of(read_.value, object), out = object_of(read_.out, object);
        for (int64_t i = first; i < end; ++i) gather_column(value, out, batch, i, total.data());
      }
    }
  }

  void gather_column(const Matrix& value, const Matrix& out, int64_t batch, int64_t i, float* total) const {
    const int64_t at = (batch * sizes_.queries + i) * read_.top_k;
    zero(total, sizes_.value_channels);
    with_type(value.dtype, [&](auto type) {
      using T = decltype(type);
      for (int64_t k = 0; k < keep_; ++k) {
        const float weight = read_.weights[at + k];
        if (weight == 0) continue;
        const T* from = static_cast<const T*>(value.data) + batch * value.batch_stride +
                        read_.indices[at + k] * value.column_stride;
        for (int64_t c = 0; c < sizes_.value_channels; ++c) {
          total[c] += weight * to_float(from[c * value.channel_stride]);
        }
      }
      T* to = static_cast<T*>(out.data) + batch * out.batch_stride + i * out.column_stride;
      for (int64_t c = 0; c < sizes_.value_channels; ++c) from_float(total[c], to[c * out.channel_stride]);
    });
  }

  const TopK& read_;
  Sizes sizes_;
  int64_t keep_, panels_, tiles_, splits_, groups_, group_;
  Buffer<uint64_t> best_;
};

}  // namespace STM_ISA
}  // namespace stm
