// Gradients of the dense read, in one pass over the memory.
//
// A task owns some tiles of tokens, whose gradients nobody else adds to. A tile meets all queries, in two phases:
//
//   P  = exp(S - lse)                          [token][query]       panel by panel of the queries
//   dS = P * (V^T dO - delta)                  [token][query]       delta = sum over rows of out * dO, less dlse
//   dQ += K (gain * dS)                        [channel][query]     added up over tasks in their order
//
//   dV += P dO^T                               [token][row]         all panels at once: P and dS wait in strips
//   dG += dS Q^T                               [token][channel]     dK = scale * gain * dG
//
// The second phase's sums stay in registers over all queries that a strip holds.
#pragma once

#include <new>

#include "cpu/deltas.h"
#include "cpu/query_packs.h"
#include "cpu/softmax.h"

namespace stm {
inline namespace STM_ISA {

constexpr int64_t kTaskTiles = 4;
constexpr int64_t kEnoughTasks = 16;
constexpr int64_t kPackBytes = int64_t{48} << 20;

template <class Keys, class Unit>
class DenseBackward {
 public:
  DenseBackward(const Backward& read, const Threads& threads)
      : read_(read),
        sizes_(read.sizes),
        key_rows_(round_up(sizes_.key_channels, Unit::kRowGroup)),
        panels_(divide_up(sizes_.queries, kWidth)),
        tiles_(divide_up(sizes_.tokens, kTileTokens)),
        task_tiles_(larger<int64_t>(1, smaller(kTaskTiles, tiles_ / kEnoughTasks))),
        tasks_(divide_up(tiles_, task_tiles_)),
        query_side_(read.gradients.query || read.gradients.offset),
        key_side_(read.gradients.key || read.gradients.gain || read.gradients.bias),
        value_side_(static_cast<bool>(read.gradients.value)),
        queries_(read, query_side_ || key_side_, key_side_, value_side_),
        deltas_(sizes_, read.out, read.grad_out, read.grad_lse),
        rounds_(divide_up(sizes_.batches, batches_at_once())),
        packs_(smaller(sizes_.batches, batches_at_once()) * queries_.chunks() * queries_.size()),
        sums_(query_side_ ? sizes_.batches * panels_ * query_size() : 0),
        order_(query_side_ ? sizes_.batches : 0) {
    deltas_.run(threads);
    if (!query_side_) return;
    for (int64_t b = 0; b < sizes_.batches; ++b) new (order_.data() + b) OrderedReduction;
    std::memset(sums_.data(), 0, static_cast<std::size_t>(sizes_.batches * panels_ * query_size()) * sizeof(float));
  }

  // All workers share the packs of some batches at a time: as many as have room.
  void run(const Threads& threads) {
    for (round_ = 0; round_ < rounds_; ++round_) {
      const int64_t batches = smaller(batches_at_once(), sizes_.batches - first_batch());
      run_tasks(threads, batches * queries_.chunks() * queries_.pieces(), [this](TaskQueue& tasks) { pack(tasks); });
      run_tasks(threads, batches * tasks_, [this](TaskQueue& tasks) { work(tasks); });
    }
    if (query_side_) write_queries();
  }

 private:
  using Number = typename Unit::Number;
  using Chunk = typename QueryPacks<Unit>::Chunk;

  struct Panel {
    int64_t index;  // among all
    Normalizer normalizer;
    Floats delta[kVectors];
    const Number* grads;
    Ahead next_grads;
  };

  // What a worker holds.
  struct Desk {
    Keys scores;
    Buffer<float> tile, slopes;
    Buffer<Number> tile_columns;
    Buffer<Number> keys, values;                   // of the tile's tokens: channels as rows; tokens as rows
    Strip<Unit> weights, slope_rows;               // P and dS of the tile's tokens and a chunk's queries
    Buffer<float> key_sums, value_sums, row_sums;  // gradients of the tile's tokens
    Buffer<float> query_sums;                      // gradients of all queries
    int64_t batch = -1;                            // whose queries the scores hold

    explicit Desk(const DenseBackward& whole)
        : scores(whole.sizes_, whole.read_.scores, whole.panels_),
          tile(kTileTokens * kWidth),
          slopes(whole.with_slopes() ? kTileTokens * kWidth : 0),
          tile_columns(whole.query_side_ ? Unit::columns_size(kTileTokens) : 0),
          keys(whole.query_side_ ? Unit::rows_size(whole.sizes_.key_channels, kTileTokens) : 0),
          values(whole.with_slopes() ? whole.sizes_.objects * whole.values_size() : 0),
          weights(whole.value_side_ ? whole.queries_.segments() : 0),
          slope_rows(whole.key_side_ ? whole.queries_.segments() : 0),
          key_sums(whole.queries_.key_panels() * kWidth * kTileTokens),
          value_sums(whole.queries_.value_panels() * kWidth * kTileTokens),
          row_sums(whole.key_side_ ? kTileTokens * 2 : 0),
          query_sums(whole.query_side_ ? whole.panels_ * whole.query_size() : 0) {}
  };

  bool with_slopes() const { return query_side_ || key_side_; }
  // Numbers of a tile's values of one object, and of a panel's query gradient: its channels and, after them, offsets.
  int64_t values_size() const { return Unit::rows_size(kTileTokens, sizes_.value_channels); }
  int64_t query_size() const { return (key_rows_ + 1) * kWidth; }

  int64_t batches_at_once() const {
    const int64_t bytes = queries_.chunks() * queries_.size() * static_cast<int64_t>(sizeof(Number));
    return larger<int64_t>(1, kPackBytes / larger<int64_t>(1, bytes));
  }
  int64_t first_batch() const { return round_ * batches_at_once(); }

  void pack(TaskQueue& tasks) {
    for (int64_t task = tasks.next(); task >= 0; task = tasks.next()) {
      const int64_t index = task / queries_.pieces();
      queries_.pack(first_batch() + index / queries_.chunks(), index % queries_.chunks(), task % queries_.pieces(),
                    packs_.data() + index * queries_.size());
    }
  }

  void work(TaskQueue& tasks) {
    Desk desk(*this);
    for (int64_t task = tasks.next(); task >= 0; task = tasks.next()) {
      const int64_t batch = first_batch() + task / tasks_, place = task % tasks_;
      const int64_t end = smaller((place + 1) * task_tiles_ * kTileTokens, sizes_.tokens);
      if (query_side_) zero(desk.query_sums, panels_ * query_size());
      desk.scores.take_batch(batch);
      if (desk.batch != batch) desk.scores.take_queries(0, sizes_.queries);
      desk.batch = batch;
      for (int64_t first = place * task_tiles_ * kTileTokens; first < end; first += kTileTokens) {
        const int64_t tokens = smaller(kTileTokens, end - first);
        take_tokens(batch, first, tokens, desk);
        for (int64_t chunk = 0; chunk < queries_.chunks(); ++chunk) meet(batch, chunk, tokens, desk);
        write_tokens(batch, first, tokens, desk);
      }
      if (query_side_ && !add_queries(batch, place, desk, tasks)) return;
    }
  }

  static void zero(Buffer<float>& buffer, int64_t count) {
    std::memset(buffer.data(), 0, static_cast<std::size_t>(count) * sizeof(float));
  }

  void take_tokens(int64_t batch, int64_t first, int64_t tokens, Desk& desk) const {
    desk.scores.take_tokens(first, tokens);
    if (query_side_) {
      const Matrix& key = read_.scores.key;
      Unit::pack_rows(key, batch * key.batch_stride + first * key.column_stride, sizes_.key_channels,
                      key.channel_stride, tokens, key.column_stride, desk.keys.data());
    }
    for (int64_t object = 0; with_slopes() && object < sizes_.objects; ++object) {
      const Matrix value = object_of(read_.value, object);
      Unit::pack_rows(value, batch * value.batch_stride + first * value.column_stride, tokens, value.column_stride,
                      sizes_.value_channels, value.channel_stride, desk.values.data() + object * values_size());
    }
    if (key_side_) {
      zero(desk.key_sums, queries_.key_panels() * kWidth * kTileTokens);
      zero(desk.row_sums, kTileTokens * 2);
    }
    if (value_side_) zero(desk.value_sums, queries_.value_panels() * kWidth * kTileTokens);
  }

  // Adds to all gradients what the tile's tokens and a chunk's queries have to do with each other.
  void meet(int64_t batch, int64_t index, int64_t tokens, Desk& desk) const {
    const Number* const pack = packs_.data() + ((batch - first_batch()) * queries_.chunks() + index) * queries_.size();
    const Chunk chunk = queries_.chunk(index);
    desk.weights.clear();
    desk.slope_rows.clear();
    for (int64_t p = 0; p < chunk.panels(); ++p) {
      const int64_t first = chunk.first + p * kWidth, count = smaller<int64_t>(kWidth, sizes_.queries - first);
      Panel panel;
      panel.index = chunk.first_panel + p;
      panel.normalizer = Normalizer(read_.lse.batch(batch), first, count);
      panel.grads = queries_.grads(pack, p);
      if (p + 1 < chunk.panels()) panel.next_grads = Ahead(queries_.grads(pack, p + 1), queries_.grads_size());
      float delta[kWidth] = {};
      for (int64_t i = 0; i < count; ++i) delta[i] = deltas_.batch(batch)[first + i];
      for (int v = 0; v < kVectors; ++v) panel.delta[v] = load(delta + v * kLanes);
      differentiate(panel, p, tokens, desk);
    }
    if (value_side_) {
      desk.weights.multiply(queries_.grads_along_queries(pack), queries_.value_panels(), tokens,
                            desk.value_sums.data());
    }
    if (key_side_) {
      desk.slope_rows.multiply(queries_.queries_along_queries(pack), queries_.key_panels(), tokens,
                               desk.key_sums.data());
    }
  }

  void differentiate(const Panel& panel, int64_t place, int64_t tokens, Desk& desk) const {
    float* const tile = desk.tile.data();
    desk.scores.compute(panel.index, tokens, tile);
    if (!weigh_again(panel, tokens, tile)) return;
    if (value_side_) desk.weights.put(tile, tokens, place);
    if (!with_slopes()) return;
    slope(panel, tokens, desk);
    float* const slopes = desk.slopes.data();
    if (key_side_) {
      desk.slope_rows.put(slopes, tokens, place);
      if (desk.scores.terms().present()) add_row_sums(panel, tokens, desk);
    }
    if (query_side_) {
      float* const sums = desk.query_sums.data() + panel.index * query_size();
      if (read_.scores.gain) scale_rows(desk.scores.terms().gains(), tokens, slopes);
      Unit::template multiply<true>(desk.keys.data(), Unit::tile_columns(slopes, tokens, desk.tile_columns.data()),
                                    sizes_.key_channels, tokens, sums, Ahead());
      if (read_.gradients.offset) add_column_sums(slopes, tokens, sums + key_rows_ * kWidth);
    }
  }

  // Scores to weights; false if they are zero and give zeros: where a delta is not finite, so is an operand.
  static bool weigh_again(const Panel& panel, int64_t tokens, float* tile) {
    Ints counts = {};
    for (int v = 0; v < kVectors; ++v) counts |= ~(panel.delta[v] - panel.delta[v] == broadcast(0.0f));
    for (int64_t j = 0; j < tokens; ++j) {
#pragma GCC unroll 3
      for (int v = 0; v < kVectors; ++v) {
        float* const at = tile + j * kWidth + v * kLanes;
        const Floats weight = panel.normalizer.weight(load(at), v);
        counts |= ~(weight == broadcast(0.0f));
        store(at, weight);
      }
    }
    return any(counts);
  }

  void slope(const Panel& panel, int64_t tokens, Desk& desk) const {
    float* const slopes = desk.slopes.data();
    const Number* values = desk.values.data();
    const Number* grads = panel.grads;
    Unit::template multiply<false>(values, grads, tokens, sizes_.value_channels, slopes, panel.next_grads);
    for (int64_t object = 1; object < sizes_.objects; ++object) {
      values += values_size();
      grads += Unit::columns_size(sizes_.value_channels);
      Unit::template multiply<true>(values, grads, tokens, sizes_.value_channels, slopes, Ahead());
    }
    for (int64_t j = 0; j < tokens; ++j) {
#pragma GCC unroll 3
      for (int v = 0; v < kVectors; ++v) {
        const int64_t at = j * kWidth + v * kLanes;
        store(slopes + at, load(desk.tile.data() + at) * (load(slopes + at) - panel.delta[v]));
      }
    }
  }

  static void scale_rows(const float* factors, int64_t tokens, float* tile) {
    for (int64_t j = 0; j < tokens; ++j) {
      for (int v = 0; v < kVectors; ++v) {
        float* const at = tile + j * kWidth + v * kLanes;
        store(at, load(at) * broadcast(factors[j]));
      }
    }
  }

  // For each token the sums over queries of dS and of dS * offset.
  static void add_row_sums(const Panel& panel, int64_t tokens, Desk& desk) {
    const float* const offsets = desk.scores.terms().offsets(panel.index);
    float* const sums = desk.row_sums.data();
    for (int64_t j = 0; j < tokens; ++j) {
      Floats plain = broadcast(0.0f), weighted = broadcast(0.0f);
      for (int v = 0; v < kVectors; ++v) {
        const Floats x = load(desk.slopes.data() + j * kWidth + v * kLanes);
        plain += x;
        weighted += x * load(offsets + v * kLanes);
      }
      sums[2 * j] += sum(plain);
      sums[2 * j + 1] += sum(weighted);
    }
  }

  static void add_column_sums(const float* tile, int64_t tokens, float* sums) {
    for (int v = 0; v < kVectors; ++v) {
      Floats total = load(sums + v * kLanes);
      for (int64_t j = 0; j < tokens; ++j) total += load(tile + j * kWidth + v * kLanes);
      store(sums + v * kLanes, total);
    }
  }

  void write_tokens(int64_t batch, int64_t first, int64_t tokens, const Desk& desk) const {
    float factors[kTileTokens];
    if (value_side_) {
      for (int64_t j = 0; j < tokens; ++j) factors[j] = 1.0f;
      const float* from = desk.value_sums.data();
      for (int64_t object = 0; object < sizes_.objects; ++object) {
        write_sums(object_of(read_.gradients.value, object), sizes_.value_channels, batch, first, tokens, factors,
                   from);
        from += divide_up(sizes_.value_channels, kWidth) * kWidth * kTileTokens;
      }
    }
    if (!key_side_) return;
    const Vector gain = read_.scores.gain.batch(batch);
    if (read_.gradients.key) {
      for (int64_t j = 0; j < tokens; ++j) factors[j] = read_.scores.scale * (gain ? gain[first + j] : 1.0f);
      write_sums(read_.gradients.key, sizes_.key_channels, batch, first, tokens, factors, desk.key_sums.data());
    }
    for (int64_t j = 0; j < tokens; ++j) {
      const float* const row_sums = desk.row_sums.data() + j * 2;
      if (read_.gradients.bias) read_.gradients.bias.batch(batch)[first + j] = row_sums[0];
      if (read_.gradients.gain) {
        const float product = product_with_key(batch, first + j, desk.key_sums.data() + j * kWidth);
        read_.gradients.gain.batch(batch)[first + j] = read_.scores.scale * product + row_sums[1];
      }
    }
  }

  // Of the sums of a token with its key.
  float product_with_key(int64_t batch, int64_t token, const float* sums) const {
    const Matrix& key = read_.scores.key;
    float product = 0;
    with_type(key.dtype, [&](auto type) {
      const auto* x =
          static_cast<const decltype(type)*>(key.data) + batch * key.batch_stride + token * key.column_stride;
      for (int64_t c = 0; c < sizes_.key_channels; ++c) product += sums[place(c)] * to_float(x[c * key.channel_stride]);
    });
    return product;
  }

  // Where a channel stands in the sums of a token: panel by panel.
  static int64_t place(int64_t channel) { return channel / kWidth * kTileTokens * kWidth + channel % kWidth; }

  // Channel by channel: tokens mostly lie side by side in what is written.
  static void write_sums(const Matrix& out, int64_t channels, int64_t batch, int64_t first, int64_t tokens,
                         const float* factors, const float* sums) {
    with_type(out.dtype, [&](auto type) {
      auto* to = static_cast<decltype(type)*>(out.data) + batch * out.batch_stride + first * out.column_stride;
      for (int64_t c = 0; c < channels; ++c, to += out.channel_stride) {
        const float* const from = sums + place(c);
        for (int64_t j = 0; j < tokens; ++j) from_float(factors[j] * from[j * kWidth], to[j * out.column_stride]);
      }
    });
  }

  bool add_queries(int64_t batch, int64_t place, const Desk& desk, const TaskQueue& tasks) {
    OrderedReduction& order = order_.data()[batch];
    if (!order.enter(place, tasks)) return false;
    float* const sums = sums_.data() + batch * panels_ * query_size();
    for (int64_t i = 0; i < panels_ * query_size(); i += kLanes) {
      store(sums + i, load(sums + i) + load(desk.query_sums.data() + i));
    }
    order.leave();
    return true;
  }

  void write_queries() const {
    for (int64_t batch = 0; batch < sizes_.batches; ++batch) {
      for (int64_t i = 0; i < sizes_.queries; ++i) {
        const float* const from = sums_.data() + (batch * panels_ + i / kWidth) * query_size() + i % kWidth;
        if (read_.gradients.offset) read_.gradients.offset.batch(batch)[i] = from[key_rows_ * kWidth];
        if (!read_.gradients.query) continue;
        const Matrix& out = read_.gradients.query;
        with_type(out.dtype, [&](auto type) {
          auto* to = static_cast<decltype(type)*>(out.data) + batch * out.batch_stride + i * out.column_stride;
          for (int64_t c = 0; c < sizes_.key_channels; ++c) {
            from_float(read_.scores.scale * from[c * kWidth], to[c * out.channel_stride]);
          }
        });
      }
    }
  }

  const Backward& read_;
  Sizes sizes_;
  int64_t key_rows_, panels_, tiles_, task_tiles_, tasks_;
  bool query_side_, key_side_, value_side_;
  QueryPacks<Unit> queries_;
  Deltas deltas_;
  int64_t rounds_, round_ = 0;
  Buffer<Number> packs_;  // of the round's batches
  Buffer<float> sums_;
  Buffer<OrderedReduction> order_;
};

}  // namespace STM_ISA
}  // namespace stm
