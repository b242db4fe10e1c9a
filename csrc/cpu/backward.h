// Gradients of the dense read, in one pass over the memory.
//
// A task owns some tiles of tokens, whose gradients no other task adds to. A tile goes over all queries, in chunks of
// many panels, and over each chunk in two phases:
//
//   P  = exp(S - lse)                [token][query]            one panel of queries after another
//   dS = P * (V^T dO - delta)        [token][query]
//   dQ += K (gain * dS)              [channel][query]          tasks add theirs in order
//
//   dV += P dO^T                     [token][value channel]    all panels at once, from block-sparse P and dS
//   dG += dS Q^T                     [token][channel]          dK = scale * gain * dG
//
// The sums of the second phase stay in registers over a whole chunk.
#pragma once

#include <new>

#include "cpu/affine.h"
#include "cpu/delta.h"
#include "cpu/grad_scores.h"
#include "cpu/packed_queries.h"
#include "cpu/token_gradients.h"

namespace stm {
inline namespace STM_ISA {

constexpr int64_t kTaskTiles = 4;
constexpr int64_t kMinTasks = 16;
constexpr int64_t kPackedBytes = int64_t{48} << 20;

template <class ScoreTile, class Gemm>
class DenseBackward {
 public:
  DenseBackward(const Backward& read, const Threads& threads)
      : read_(read),
        sizes_(read.sizes),
        wanted_(read.gradients),
        padded_channels_(round_up(sizes_.key_channels, Gemm::kRowGroup)),
        panels_(divide_up(sizes_.queries, kWidth)),
        tiles_(divide_up(sizes_.tokens, kTileTokens)),
        task_tiles_(larger<int64_t>(1, smaller(kTaskTiles, tiles_ / kMinTasks))),
        tasks_(divide_up(tiles_, task_tiles_)),
        queries_(read, wanted_),
        delta_(sizes_, read.out, read.grad_out, read.grad_lse),
        rounds_(divide_up(sizes_.batches, batches_per_round())),
        packed_(smaller(sizes_.batches, batches_per_round()) * queries_.chunks() * queries_.size()),
        query_sums_(wanted_.query_side ? sizes_.batches * panels_ * query_size() : 0),
        order_(wanted_.query_side ? sizes_.batches : 0) {
    delta_.run(threads);
    if (!wanted_.query_side) return;
    for (int64_t b = 0; b < sizes_.batches; ++b) new (order_.data() + b) OrderedReduction;
    zero(query_sums_.data(), sizes_.batches * panels_ * query_size());
  }

  // All workers share the packed queries of some batches at a time: of as many as fit into kPackedBytes.
  void run(const Threads& threads) {
    for (round_ = 0; round_ < rounds_; ++round_) {
      const int64_t batches = smaller(batches_per_round(), sizes_.batches - first_batch());
      run_tasks(threads, batches * queries_.chunks() * queries_.packing_tasks(),
                [this](TaskQueue& tasks) { pack(tasks); });
      run_tasks(threads, batches * tasks_, [this](TaskQueue& tasks) { work(tasks); });
    }
    if (wanted_.query_side) write_queries();
  }

 private:
  using Number = typename Gemm::Number;
  using Chunk = typename PackedQueries<Gemm>::Chunk;

  // One panel of queries, packed.
  struct Panel {
    int64_t index;  // among all panels
    int64_t index_in_chunk;
    PanelStatistics statistics;
    const Number* grad_out;
    Prefetch next_grad_out;
  };

  struct Workspace {
    ScoreTile scores;
    Buffer<float> tile, grad_scores;
    Buffer<Number> tile_columns;
    Buffer<Number> keys, values;                         // of the tile's tokens: channels as rows; tokens as rows
    BlockSparseRows<Gemm> weight_rows, grad_score_rows;  // P and dS of the tile's tokens and a chunk's queries
    TokenGradients token_gradients;
    Buffer<float> query_sums;  // gradients of all queries
    int64_t batch = -1;        // whose queries the scores hold

    explicit Workspace(const DenseBackward& whole)
        : scores(whole.sizes_, whole.read_.scores, whole.panels_),
          tile(kTileTokens * kWidth),
          grad_scores(whole.wanted_.scores() ? kTileTokens * kWidth : 0),
          tile_columns(whole.wanted_.query_side ? Gemm::columns_size(kTileTokens) : 0),
          keys(whole.wanted_.query_side ? Gemm::rows_size(whole.sizes_.key_channels, kTileTokens) : 0),
          values(whole.wanted_.scores() ? whole.sizes_.objects * whole.values_size() : 0),
          weight_rows(whole.wanted_.value ? whole.queries_.segments() : 0),
          grad_score_rows(whole.wanted_.key_side ? whole.queries_.segments() : 0),
          token_gradients(whole.read_, whole.wanted_),
          query_sums(whole.wanted_.query_side ? whole.panels_ * whole.query_size() : 0) {}
  };

  // Numbers of a tile's values of one object.
  int64_t values_size() const { return Gemm::rows_size(kTileTokens, sizes_.value_channels); }
  // Floats of the gradients of a panel of queries: its channels and, behind them, its offsets.
  int64_t query_size() const { return (padded_channels_ + 1) * kWidth; }

  int64_t batches_per_round() const {
    const int64_t bytes = queries_.chunks() * queries_.size() * static_cast<int64_t>(sizeof(Number));
    return larger<int64_t>(1, kPackedBytes / larger<int64_t>(1, bytes));
  }
  int64_t first_batch() const { return round_ * batches_per_round(); }

  void pack(TaskQueue& tasks) {
    for (int64_t task = tasks.next(); task >= 0; task = tasks.next()) {
      const int64_t index = task / queries_.packing_tasks();
      queries_.pack(first_batch() + index / queries_.chunks(), index % queries_.chunks(),
                    task % queries_.packing_tasks(), packed_.data() + index * queries_.size());
    }
  }

  void work(TaskQueue& tasks) {
    Workspace workspace(*this);
    for (int64_t index = tasks.next(); index >= 0; index = tasks.next()) {
      const int64_t batch = first_batch() + index / tasks_, task = index % tasks_;
      const int64_t end = smaller((task + 1) * task_tiles_ * kTileTokens, sizes_.tokens);
      if (wanted_.query_side) zero(workspace.query_sums.data(), panels_ * query_size());
      workspace.scores.set_batch(batch);
      if (workspace.batch != batch) workspace.scores.pack_queries(0, sizes_.queries);
      workspace.batch = batch;
      for (int64_t first = task * task_tiles_ * kTileTokens; first < end; first += kTileTokens) {
        const int64_t tokens = smaller(kTileTokens, end - first);
        pack_tokens(batch, first, tokens, workspace);
        for (int64_t chunk = 0; chunk < queries_.chunks(); ++chunk) add_chunk(batch, chunk, tokens, workspace);
        workspace.token_gradients.write(batch, first, tokens);
      }
      if (wanted_.query_side && !add_queries(batch, task, workspace, tasks)) return;
    }
  }

  void pack_tokens(int64_t batch, int64_t first, int64_t tokens, Workspace& workspace) const {
    workspace.scores.pack_tokens(first, tokens);
    if (wanted_.query_side) {
      const Matrix& key = read_.scores.key;
      Gemm::pack_rows(key, batch * key.batch_stride + first * key.column_stride, sizes_.key_channels,
                      key.channel_stride, tokens, key.column_stride, workspace.keys.data());
    }
    for (int64_t object = 0; wanted_.scores() && object < sizes_.objects; ++object) {
      const Matrix value = object_of(read_.value, object);
      Gemm::pack_rows(value, batch * value.batch_stride + first * value.column_stride, tokens, value.column_stride,
                      sizes_.value_channels, value.channel_stride, workspace.values.data() + object * values_size());
    }
    workspace.token_gradients.clear();
  }

  // Adds to all gradients the contributions of the tile's tokens and the queries of one chunk.
  void add_chunk(int64_t batch, int64_t index, int64_t tokens, Workspace& workspace) const {
    const Number* const packed =
        packed_.data() + ((batch - first_batch()) * queries_.chunks() + index) * queries_.size();
    const Chunk chunk = queries_.chunk(index);
    workspace.weight_rows.clear();
    workspace.grad_score_rows.clear();
    for (int64_t p = 0; p < chunk.panels(); ++p) {
      const int64_t first = chunk.first + p * kWidth, count = smaller<int64_t>(kWidth, sizes_.queries - first);
      Panel panel{chunk.first_panel + p,
                  p,
                  {read_.lse.batch(batch), delta_.batch(batch), first, count},
                  queries_.grad_out(packed, p),
                  {}};
      if (p + 1 < chunk.panels()) {
        panel.next_grad_out = Prefetch(queries_.grad_out(packed, p + 1), queries_.grad_out_size());
      }
      add_panel(panel, tokens, workspace);
    }
    if (wanted_.value) {
      workspace.weight_rows.multiply(queries_.grad_out_along_queries(packed), queries_.value_panels(), tokens,
                                     workspace.token_gradients.values());
    }
    if (wanted_.key_side) {
      workspace.grad_score_rows.multiply(queries_.queries_along_queries(packed), queries_.key_panels(), tokens,
                                         workspace.token_gradients.keys());
    }
  }

  void add_panel(const Panel& panel, int64_t tokens, Workspace& workspace) const {
    float* const tile = workspace.tile.data();
    workspace.scores.compute(panel.index, tokens, tile);
    if (!recompute_weights(panel.statistics, tokens, tile)) return;
    if (wanted_.value) workspace.weight_rows.append(tile, tokens, panel.index_in_chunk);
    if (!wanted_.scores()) return;
    float* const grads = workspace.grad_scores.data();
    multiply_values(panel, tokens, workspace);
    through_softmax(panel.statistics, tile, tokens, grads);
    const AffineTerms& terms = workspace.scores.terms();
    if (wanted_.key_side) {
      workspace.grad_score_rows.append(grads, tokens, panel.index_in_chunk);
      if (terms.present())
        add_row_sums(grads, terms.offsets(panel.index), tokens, workspace.token_gradients.row_sums());
    }
    if (wanted_.query_side) {
      float* const sums = workspace.query_sums.data() + panel.index * query_size();
      if (read_.scores.gain) scale_rows(terms.gains(), tokens, grads);
      Gemm::template multiply<true>(workspace.keys.data(),
                                    Gemm::pack_tile_columns(grads, tokens, workspace.tile_columns.data()),
                                    sizes_.key_channels, tokens, sums, Prefetch());
      if (read_.gradients.offset) add_column_sums(grads, tokens, sums + padded_channels_ * kWidth);
    }
  }

  // Gradients of the weights: products of the tile's values and a panel of grad_out, summed over objects.
  void multiply_values(const Panel& panel, int64_t tokens, Workspace& workspace) const {
    float* const grads = workspace.grad_scores.data();
    const Number* values = workspace.values.data();
    const Number* grad_out = panel.grad_out;
    Gemm::template multiply<false>(values, grad_out, tokens, sizes_.value_channels, grads, panel.next_grad_out);
    for (int64_t object = 1; object < sizes_.objects; ++object) {
      values += values_size();
      grad_out += Gemm::columns_size(sizes_.value_channels);
      Gemm::template multiply<true>(values, grad_out, tokens, sizes_.value_channels, grads, Prefetch());
    }
  }

  // Adds a task's query gradients to those of all; false if the work has failed elsewhere.
  bool add_queries(int64_t batch, int64_t task, const Workspace& workspace, const TaskQueue& tasks) {
    OrderedReduction& order = order_.data()[batch];
    if (!order.enter(task, tasks)) return false;
    float* const sums = query_sums_.data() + batch * panels_ * query_size();
    for (int64_t i = 0; i < panels_ * query_size(); i += kLanes) {
      store(sums + i, load(sums + i) + load(workspace.query_sums.data() + i));
    }
    order.leave();
    return true;
  }

  void write_queries() const {
    for (int64_t batch = 0; batch < sizes_.batches; ++batch) {
      for (int64_t i = 0; i < sizes_.queries; ++i) {
        const float* const from = query_sums_.data() + (batch * panels_ + i / kWidth) * query_size() + i % kWidth;
        if (read_.gradients.offset) read_.gradients.offset.batch(batch)[i] = from[padded_channels_ * kWidth];
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
  Wanted wanted_;
  int64_t padded_channels_, panels_, tiles_, task_tiles_, tasks_;
  PackedQueries<Gemm> queries_;
  Delta delta_;
  int64_t rounds_, round_ = 0;
  Buffer<Number> packed_;  // of the round's batches
  Buffer<float> query_sums_;
  Buffer<OrderedReduction> order_;
};

}  // namespace STM_ISA
}  // namespace stm
