// Gradients of the dense read, in one pass over the memory.
//
// A task owns some tiles of tokens, whose gradients nobody else adds to, and meets one panel of queries after another:
//
//   P  = exp(S - lse)                          [token][query]
//   dV += P dO^T                               [token][row]
//   dS = P * (V^T dO - delta)                  [token][query]       delta = sum over rows of out * dO, less dlse
//   dG += dS Q^T                               [token][channel]     dK = scale * gain * dG
//   dQ += K (gain * dS)                        [channel][query]     added up over tasks in their order
#pragma once

#include <new>

#include "cpu/units.h"
#include "cpu/usage.h"

namespace stm {
inline namespace STM_ISA {

constexpr int64_t kTaskTiles = 4;
constexpr int64_t kEnoughTasks = 16;
constexpr int64_t kSharedPackBytes = int64_t{20} << 20;

// delta[b, i] = sum over rows of out * grad_out, less grad_lse; dense.
class Deltas {
 public:
  Deltas(const Sizes& sizes, const ObjectMatrix& out, const ObjectMatrix& grad_out, const Vector& grad_lse)
      : sizes_(sizes),
        out_(out),
        grad_out_(grad_out),
        grad_lse_(grad_lse),
        blocks_(divide_up(sizes.queries, kBlock)),
        values_(sizes.batches * sizes.queries) {}

  void run(const Threads& threads) {
    Tasks tasks(sizes_.batches * blocks_);
    tasks.run(threads, [](void* self, Tasks& queue) { static_cast<Deltas*>(self)->work(queue); }, this);
  }

  const float* batch(int64_t index) const { return values_.data() + index * sizes_.queries; }

 private:
  static constexpr int64_t kBlock = 256;

  void work(Tasks& tasks) {
    for (int64_t task = tasks.next(); task >= 0; task = tasks.next()) {
      const int64_t batch = task / blocks_, first = task % blocks_ * kBlock;
      const int64_t count = smaller(kBlock, sizes_.queries - first);
      float* const delta = values_.data() + batch * sizes_.queries + first;
      const Vector grad_lse = grad_lse_.batch(batch);
      for (int64_t i = 0; i < count; ++i) delta[i] = grad_lse ? -grad_lse[first + i] : 0.0f;
      for (int64_t object = 0; object < sizes_.objects; ++object) {
        const Matrix out = object_of(out_, object), grad = object_of(grad_out_, object);
        with_type(out.dtype, [&](auto type) {
          using T = decltype(type);
          const T* a = static_cast<const T*>(out.data) + batch * out.batch_stride + first * out.column_stride;
          const T* b = static_cast<const T*>(grad.data) + batch * grad.batch_stride + first * grad.column_stride;
          for (int64_t c = 0; c < sizes_.value_channels; ++c, a += out.channel_stride, b += grad.channel_stride) {
            for (int64_t i = 0; i < count; ++i) {
              delta[i] += to_float(a[i * out.column_stride]) * to_float(b[i * grad.column_stride]);
            }
          }
        });
      }
    }
  }

  Sizes sizes_;
  ObjectMatrix out_, grad_out_;
  Vector grad_lse_;
  int64_t blocks_;
  Buffer<float> values_;
};

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
        chunks_(divide_up(tiles_, task_tiles_)),
        query_side_(read.gradients.query || read.gradients.offset),
        key_side_(read.gradients.key || read.gradients.gain || read.gradients.bias),
        value_side_(static_cast<bool>(read.gradients.value)),
        deltas_(sizes_, read.out, read.grad_out, read.grad_lse),
        packs_(shares_packs() ? sizes_.batches * panels_ * pack_size() : 0),
        sums_(query_side_ ? sizes_.batches * panels_ * query_size() : 0),
        turns_(query_side_ ? sizes_.batches : 0) {
    deltas_.run(threads);
    if (shares_packs()) {
      Tasks tasks(sizes_.batches * panels_);
      tasks.run(threads, [](void* self, Tasks& queue) { static_cast<DenseBackward*>(self)->pack_all(queue); }, this);
    }
    if (!query_side_) return;
    for (int64_t b = 0; b < sizes_.batches; ++b) new (turns_.data() + b) Turns;
    std::memset(sums_.data(), 0, static_cast<std::size_t>(sizes_.batches * panels_ * query_size()) * sizeof(float));
  }

  void run(const Threads& threads) {
    Tasks tasks(sizes_.batches * chunks_);
    tasks.run(threads, [](void* self, Tasks& queue) { static_cast<DenseBackward*>(self)->work(queue); }, this);
    if (query_side_) write_queries();
  }

 private:
  using Number = typename Unit::Number;

  // Floats of a panel's query gradient: its channels and, after them, its offsets.
  int64_t query_size() const { return (key_rows_ + 1) * kWidth; }

  struct Panel {
    int64_t index, first, count;
    Floats normalizer[kVectors];
    Floats delta[kVectors];
    const Number* queries;
    const Number* grads;
    const Number* grads_by_query;
  };

  // What a worker holds.
  struct Desk {
    Unit unit;
    Keys scores;
    Buffer<float> tile, slopes;
    Buffer<Number> tile_rows, tile_columns;
    Buffer<Number> keys, values;                   // of the tokens: channels as rows; tokens as rows
    Buffer<Number> pack;                           // of the panel, where packs are not shared
    Buffer<float> key_sums, value_sums, row_sums;  // gradients of a tile's tokens, for all tiles
    Buffer<float> query_sums;                      // gradients of all panels' queries

    Desk(const DenseBackward& whole, int64_t tiles)
        : scores(whole.sizes_, whole.read_.scores, 1, tiles),
          tile(kTileTokens * kWidth),
          slopes(kTileTokens * kWidth),
          tile_rows(Unit::rows_size(kTileTokens, kWidth)),
          tile_columns(Unit::columns_size(kTileTokens)),
          keys(whole.query_side_ ? tiles * whole.keys_size() : 0),
          values(tiles * whole.sizes_.objects * whole.values_size()),
          pack(whole.shares_packs() ? 0 : whole.pack_size()),
          key_sums(whole.key_side_ ? tiles * whole.key_panels() * kWidth * kTileTokens : 0),
          value_sums(whole.value_side_ ? tiles * whole.value_panels() * kWidth * kTileTokens : 0),
          row_sums(whole.key_side_ ? tiles * kTileTokens * 2 : 0),
          query_sums(whole.query_side_ ? whole.panels_ * whole.query_size() : 0) {}
  };

  // Packed numbers of a tile.
  int64_t keys_size() const { return Unit::rows_size(sizes_.key_channels, kTileTokens); }
  int64_t values_size() const { return Unit::rows_size(kTileTokens, sizes_.value_channels); }
  // A panel's operands of the products: queries and upstream gradients along the queries, and the latter along the
  // channels. Packing them costs as much as some products with them, so all tasks share them where they are not too
  // large.
  int64_t queries_size() const { return key_side_ ? key_panels() * Unit::columns_size(kWidth) : 0; }
  int64_t grads_size() const { return sizes_.objects * Unit::columns_size(sizes_.value_channels); }
  int64_t grads_by_query_size() const { return value_side_ ? value_panels() * Unit::columns_size(kWidth) : 0; }
  int64_t pack_size() const { return queries_size() + grads_size() + grads_by_query_size(); }
  bool shares_packs() const {
    return sizes_.batches * panels_ * pack_size() * static_cast<int64_t>(sizeof(Number)) <= kSharedPackBytes;
  }

  int64_t key_panels() const { return divide_up(sizes_.key_channels, kWidth); }
  int64_t value_panels() const { return sizes_.objects * divide_up(sizes_.value_channels, kWidth); }

  void work(Tasks& tasks) {
    Desk desk(*this, task_tiles_);
    for (int64_t task = tasks.next(); task >= 0; task = tasks.next()) {
      const int64_t batch = task / chunks_, chunk = task % chunks_;
      const int64_t first = chunk * task_tiles_ * kTileTokens;
      const int64_t count = smaller(task_tiles_ * kTileTokens, sizes_.tokens - first);
      take_tokens(batch, first, count, desk);
      for (int64_t index = 0; index < panels_; ++index) {
        Panel panel;
        take_panel(batch, index, panel, desk);
        for (int64_t done = 0; done < count; done += kTileTokens) {
          differentiate(panel, done / kTileTokens, smaller(kTileTokens, count - done), desk);
        }
      }
      write_tokens(batch, first, count, desk);
      if (query_side_ && !add_queries(batch, chunk, desk, tasks)) return;
    }
  }

  static void zero(Buffer<float>& buffer, int64_t count) {
    std::memset(buffer.data(), 0, static_cast<std::size_t>(count) * sizeof(float));
  }

  void take_tokens(int64_t batch, int64_t first, int64_t count, Desk& desk) const {
    const int64_t tiles = divide_up(count, kTileTokens);
    desk.scores.take_batch(batch);
    for (int64_t t = 0; t < tiles; ++t) {
      const int64_t token = first + t * kTileTokens, tokens = smaller(kTileTokens, count - t * kTileTokens);
      desk.scores.take_tokens(token, tokens, t);
      if (query_side_) {
        const Matrix& key = read_.scores.key;
        Unit::pack_rows(key, batch * key.batch_stride + token * key.column_stride, sizes_.key_channels,
                        key.channel_stride, tokens, key.column_stride, desk.keys.data() + t * keys_size());
      }
      for (int64_t object = 0; object < sizes_.objects; ++object) {
        const Matrix value = object_of(read_.value, object);
        Unit::pack_rows(value, batch * value.batch_stride + token * value.column_stride, tokens, value.column_stride,
                        sizes_.value_channels, value.channel_stride,
                        desk.values.data() + (t * sizes_.objects + object) * values_size());
      }
    }
    if (key_side_) {
      zero(desk.key_sums, tiles * key_panels() * kWidth * kTileTokens);
      zero(desk.row_sums, tiles * kTileTokens * 2);
    }
    if (value_side_) zero(desk.value_sums, tiles * value_panels() * kWidth * kTileTokens);
    if (query_side_) zero(desk.query_sums, panels_ * query_size());
  }

  void take_panel(int64_t batch, int64_t index, Panel& panel, Desk& desk) const {
    panel.index = index;
    panel.first = index * kWidth;
    panel.count = smaller<int64_t>(kWidth, sizes_.queries - panel.first);
    load_lse(read_.lse.batch(batch), panel.first, panel.count, panel.normalizer);
    float delta[kWidth] = {};
    for (int64_t i = 0; i < panel.count; ++i) delta[i] = deltas_.batch(batch)[panel.first + i];
    for (int v = 0; v < kVectors; ++v) panel.delta[v] = load(delta + v * kLanes);
    desk.scores.take_queries(panel.first, panel.count);
    const Number* pack = desk.pack.data();
    if (shares_packs()) {
      pack = packs_.data() + (batch * panels_ + index) * pack_size();
    } else {
      pack_panel(batch, index, desk.pack.data());
    }
    panel.queries = pack;
    panel.grads = pack + queries_size();
    panel.grads_by_query = panel.grads + grads_size();
  }

  void pack_all(Tasks& tasks) {
    for (int64_t task = tasks.next(); task >= 0; task = tasks.next()) {
      pack_panel(task / panels_, task % panels_, packs_.data() + task * pack_size());
    }
  }

  void pack_panel(int64_t batch, int64_t index, Number* out) const {
    const int64_t first = index * kWidth, count = smaller<int64_t>(kWidth, sizes_.queries - first);
    if (key_side_) pack_by_query(read_.scores.query, sizes_.key_channels, batch, first, count, out);
    out += queries_size();
    for (int64_t object = 0; object < sizes_.objects; ++object) {
      const Matrix grad = object_of(read_.grad_out, object);
      Unit::pack_panel(grad, batch * grad.batch_stride + first * grad.column_stride, count, grad.column_stride,
                       sizes_.value_channels, grad.channel_stride, out);
      out += Unit::columns_size(sizes_.value_channels);
    }
    if (!value_side_) return;
    for (int64_t object = 0; object < sizes_.objects; ++object) {
      pack_by_query(object_of(read_.grad_out, object), sizes_.value_channels, batch, first, count, out);
      out += divide_up(sizes_.value_channels, kWidth) * Unit::columns_size(kWidth);
    }
  }

  // Channels as columns, queries as the steps of the reduction.
  static void pack_by_query(const Matrix& x, int64_t channels, int64_t batch, int64_t first, int64_t count,
                            Number* out) {
    if (count < kWidth) {
      // All kWidth steps are multiplied; those of queries that are not there stay zero.
      const int64_t size = divide_up(channels, kWidth) * Unit::columns_size(kWidth);
      std::memset(out, 0, static_cast<std::size_t>(size) * sizeof(Number));
    }
    for (int64_t c = 0; c < channels; c += kWidth, out += Unit::columns_size(kWidth)) {
      const int64_t start = batch * x.batch_stride + first * x.column_stride + c * x.channel_stride;
      Unit::pack_panel(x, start, smaller<int64_t>(kWidth, channels - c), x.channel_stride, count, x.column_stride, out);
    }
  }

  void differentiate(const Panel& panel, int64_t t, int64_t tokens, Desk& desk) const {
    float* const tile = desk.tile.data();
    desk.scores.compute(0, tokens, tile, t);
    if (!weigh_again(panel, tokens, tile)) return;
    if (value_side_) {
      add_by_token(tile, tokens, panel.grads_by_query, value_panels(), desk.tile_rows.data(),
                   desk.value_sums.data() + t * value_panels() * kWidth * kTileTokens);
    }
    if (!query_side_ && !key_side_) return;
    slope(panel, t, tokens, desk);
    float* const slopes = desk.slopes.data();
    if (key_side_) {
      add_by_token(slopes, tokens, panel.queries, key_panels(), desk.tile_rows.data(),
                   desk.key_sums.data() + t * key_panels() * kWidth * kTileTokens);
      if (desk.scores.terms().present()) add_row_sums(tokens, desk, desk.row_sums.data() + t * kTileTokens * 2);
    }
    if (query_side_) {
      float* const sums = desk.query_sums.data() + panel.index * query_size();
      if (read_.scores.gain) scale_rows(desk.scores.terms().gains(t), tokens, slopes);
      Unit::template multiply<true>(desk.keys.data() + t * keys_size(),
                                    Unit::tile_columns(slopes, tokens, desk.tile_columns.data()), sizes_.key_channels,
                                    tokens, sums);
      if (read_.gradients.offset) add_column_sums(slopes, tokens, sums + key_rows_ * kWidth);
    }
  }

  // sums[panel][token] += tile * x[panel].
  static void add_by_token(const float* tile, int64_t tokens, const Number* x, int64_t panels, Number* rows,
                           float* sums) {
    Unit::pack_tile_rows(tile, tokens, rows);
    for (int64_t p = 0; p < panels; ++p) {
      Unit::template multiply<true>(rows, x + p * Unit::columns_size(kWidth), tokens, kWidth,
                                    sums + p * kTileTokens * kWidth);
    }
  }

  // Scores to weights; false if all are zero.
  static bool weigh_again(const Panel& panel, int64_t tokens, float* tile) {
    Ints counts = {};
    for (int64_t j = 0; j < tokens; ++j) {
#pragma GCC unroll 3
      for (int v = 0; v < kVectors; ++v) {
        float* const at = tile + j * kWidth + v * kLanes;
        const Floats weight = exponential(load(at) - panel.normalizer[v]);
        counts |= ~(weight == broadcast(0.0f));
        store(at, weight);
      }
    }
    return any(counts);
  }

  void slope(const Panel& panel, int64_t t, int64_t tokens, Desk& desk) const {
    float* const slopes = desk.slopes.data();
    const Number* values = desk.values.data() + t * sizes_.objects * values_size();
    const Number* grads = panel.grads;
    Unit::template multiply<false>(values, grads, tokens, sizes_.value_channels, slopes);
    for (int64_t object = 1; object < sizes_.objects; ++object) {
      values += values_size();
      grads += Unit::columns_size(sizes_.value_channels);
      Unit::template multiply<true>(values, grads, tokens, sizes_.value_channels, slopes);
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
  static void add_row_sums(int64_t tokens, const Desk& desk, float* sums) {
    for (int64_t j = 0; j < tokens; ++j) {
      Floats plain = broadcast(0.0f), weighted = broadcast(0.0f);
      for (int v = 0; v < kVectors; ++v) {
        const Floats x = load(desk.slopes.data() + j * kWidth + v * kLanes);
        plain += x;
        weighted += x * load(desk.scores.terms().offsets(0) + v * kLanes);
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

  void write_tokens(int64_t batch, int64_t first, int64_t count, const Desk& desk) const {
    for (int64_t done = 0; done < count; ++done) {
      const int64_t t = done / kTileTokens, row = done % kTileTokens, token = first + done;
      if (value_side_) {
        const float* from = desk.value_sums.data() + t * value_panels() * kWidth * kTileTokens + row * kWidth;
        for (int64_t object = 0; object < sizes_.objects; ++object) {
          write_channels(object_of(read_.gradients.value, object), sizes_.value_channels, batch, token, 1.0f, from);
          from += divide_up(sizes_.value_channels, kWidth) * kWidth * kTileTokens;
        }
      }
      if (key_side_) write_token(batch, token, t, row, desk);
    }
  }

  void write_token(int64_t batch, int64_t token, int64_t t, int64_t row, const Desk& desk) const {
    const Vector gain = read_.scores.gain.batch(batch);
    const float* const sums = desk.key_sums.data() + t * key_panels() * kWidth * kTileTokens + row * kWidth;
    const float* const row_sums = desk.row_sums.data() + (t * kTileTokens + row) * 2;
    if (read_.gradients.bias) read_.gradients.bias.batch(batch)[token] = row_sums[0];
    if (read_.gradients.key) {
      const float factor = read_.scores.scale * (gain ? gain[token] : 1.0f);
      write_channels(read_.gradients.key, sizes_.key_channels, batch, token, factor, sums);
    }
    if (!read_.gradients.gain) return;
    const Matrix& key = read_.scores.key;
    float product = 0;
    with_type(key.dtype, [&](auto type) {
      const auto* x =
          static_cast<const decltype(type)*>(key.data) + batch * key.batch_stride + token * key.column_stride;
      for (int64_t c = 0; c < sizes_.key_channels; ++c) product += sums[place(c)] * to_float(x[c * key.channel_stride]);
    });
    read_.gradients.gain.batch(batch)[token] = read_.scores.scale * product + row_sums[1];
  }

  // Where a channel stands in the sums of a token: panel by panel.
  static int64_t place(int64_t channel) { return channel / kWidth * kTileTokens * kWidth + channel % kWidth; }

  static void write_channels(const Matrix& out, int64_t channels, int64_t batch, int64_t column, float factor,
                             const float* from) {
    with_type(out.dtype, [&](auto type) {
      auto* to = static_cast<decltype(type)*>(out.data) + batch * out.batch_stride + column * out.column_stride;
      for (int64_t c = 0; c < channels; ++c) from_float(factor * from[place(c)], to[c * out.channel_stride]);
    });
  }

  bool add_queries(int64_t batch, int64_t chunk, const Desk& desk, const Tasks& tasks) {
    Turns& turns = turns_.data()[batch];
    if (!turns.wait(chunk, tasks)) return false;
    float* const sums = sums_.data() + batch * panels_ * query_size();
    for (int64_t i = 0; i < panels_ * query_size(); i += kLanes) {
      store(sums + i, load(sums + i) + load(desk.query_sums.data() + i));
    }
    turns.done();
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
  int64_t key_rows_, panels_, tiles_, task_tiles_, chunks_;
  bool query_side_, key_side_, value_side_;
  Deltas deltas_;
  Buffer<Number> packs_;
  Buffer<float> sums_;
  Buffer<Turns> turns_;
};

}  // namespace STM_ISA
}  // namespace stm
