// The dense read.
//
// The memory is split among tasks, and so are the queries where the memory is short. A task walks over its tokens tile
// by tile; a tile's keys and values are packed once and then meet one panel of queries after another, or a few at a
// time:
//
//   scores of the panel   [token][query]    in the first-level cache, turned into softmax weights where they stand
//   readout of the panel  [row][query]      in the second-level cache, with the packed values
//
// The softmax is online. Readouts of several splits are merged in their order, so that the number of threads changes
// nothing.
#pragma once

#include <cmath>
#include <new>

#include "cpu/pack.h"
#include "cpu/plan.h"
#include "cpu/runtime.h"
#include "cpu/softmax.h"

namespace stm {
inline namespace STM_ISA {

// What a task reads: statistics and unnormalised readouts [panel][row][query] of its queries.
struct Readout {
  Buffer<Statistics> statistics;
  Buffer<float> rows;

  Readout(int64_t panels, int64_t rows_a_panel) : statistics(panels), rows(panels * rows_a_panel * kWidth) {}

  void clear_panels(int64_t panels, int64_t rows_a_panel) {
    for (int64_t panel = 0; panel < panels; ++panel) clear(statistics.data()[panel]);
    std::memset(rows.data(), 0, static_cast<std::size_t>(panels * rows_a_panel * kWidth) * sizeof(float));
  }
};

template <class T>
void write_rows(const float* rows, const float* total, T* out, int64_t channels, int64_t queries,
                int64_t channel_stride, int64_t query_stride) {
  for (int64_t c = 0; c < channels; ++c, rows += kWidth, out += channel_stride) {
    for (int64_t i = 0; i < queries; ++i) from_float(rows[i] / total[i], out[i * query_stride]);
  }
}

// `Tiles` makes scores and reads values, a tile of tokens at a time.
template <class Tiles>
class DenseRead {
 public:
  DenseRead(const Forward& read, const Threads& threads)
      : read_(read),
        padded_channels_(round_up(read.sizes.value_channels, Tiles::kRowGroup)),
        padded_rows_(read.sizes.objects * padded_channels_),
        plan_(read.sizes, Tiles::kTokens, padded_rows_ * kWidth * static_cast<int64_t>(sizeof(float)), threads.workers),
        merged_(plan_.splits > 1 ? plan_.batches * plan_.groups : 0) {
    if (plan_.splits > 1) {
      for (int64_t i = 0; i < plan_.batches * plan_.groups; ++i) new (merged_.data() + i) Merged;
    }
  }
  DenseRead(const DenseRead&) = delete;
  DenseRead& operator=(const DenseRead&) = delete;
  ~DenseRead() {
    if (plan_.splits <= 1) return;
    for (int64_t i = 0; i < plan_.batches * plan_.groups; ++i) {
      delete merged_.data()[i].readout;
      merged_.data()[i].~Merged();
    }
  }

  void run(const Threads& threads) {
    run_tasks(threads, plan_.tasks(), [this](TaskQueue& tasks) { work(tasks); });
  }

 private:
  struct Merged {
    OrderedReduction order;
    Readout* readout = nullptr;
  };

  void work(TaskQueue& tasks) {
    Tiles tiles(read_, plan_.group);
    Readout readout(plan_.group, padded_rows_);
    for (int64_t task = tasks.next(); task >= 0; task = tasks.next()) {
      const Piece piece(plan_, read_.sizes, task);
      readout.clear_panels(piece.panels, padded_rows_);
      tiles.take_queries(piece.batch, piece.first_query, piece.queries);
      for (int64_t done = 0; done < piece.tokens; done += Tiles::kTokens) {
        tiles.take_tokens(piece.first_token + done, smaller(Tiles::kTokens, piece.tokens - done));
        for (int64_t panel = 0; panel < piece.panels; panel += tiles.panels()) {
          const int64_t together = smaller(tiles.panels(), piece.panels - panel);
          const int64_t next = panel + together < piece.panels ? panel + together : 0;
          float* const rows = readout.rows.data();
          tiles.read(panel, together, readout.statistics.data() + panel, rows + panel * padded_rows_ * kWidth,
                     rows + next * padded_rows_ * kWidth);
        }
      }
      if (!finish(piece, readout, tasks)) return;
    }
  }

  // Hands a task's readout on; false if the work has failed elsewhere.
  bool finish(const Piece& piece, Readout& readout, const TaskQueue& tasks) {
    if (plan_.splits == 1) {
      write_out(piece, readout);
      return true;
    }
    Merged& merged = merged_.data()[piece.batch * plan_.groups + piece.group];
    if (!merged.order.enter(piece.split, tasks)) return false;
    if (piece.split == 0) {
      merged.readout = new Readout(plan_.group, padded_rows_);
      merged.readout->statistics.swap(readout.statistics);
      merged.readout->rows.swap(readout.rows);
    } else {
      for (int64_t panel = 0; panel < piece.panels; ++panel) {
        const int64_t at = panel * padded_rows_ * kWidth;
        merge_panel(merged.readout->statistics.data()[panel], merged.readout->rows.data() + at,
                    readout.statistics.data()[panel], readout.rows.data() + at, padded_rows_);
      }
    }
    if (piece.split + 1 == plan_.splits) {
      write_out(piece, *merged.readout);
      delete merged.readout;
      merged.readout = nullptr;
    }
    merged.order.leave();
    return true;
  }

  void write_out(const Piece& piece, const Readout& readout) const {
    const Vector lse = read_.lse.batch(piece.batch);
    for (int64_t panel = 0; panel < piece.panels; ++panel) {
      const Statistics& statistics = readout.statistics.data()[panel];
      const int64_t first = piece.first_query + panel * kWidth;
      const int64_t count = smaller<int64_t>(kWidth, piece.queries - panel * kWidth);
      float total[kWidth];
      for (int64_t i = 0; i < kWidth; ++i) total[i] = statistics.total[i] == 0 ? 1 : statistics.total[i];
      for (int64_t i = 0; i < count; ++i) lse[first + i] = statistics.maximum[i] + logf(statistics.total[i]);
      write_panel(piece.batch, first, count, readout.rows.data() + panel * padded_rows_ * kWidth, total);
    }
  }

  void write_panel(int64_t batch, int64_t first, int64_t count, const float* rows, const float* total) const {
    const int64_t channels = read_.sizes.value_channels;
    for (int64_t object = 0; object < read_.sizes.objects; ++object, rows += padded_channels_ * kWidth) {
      const Matrix out = object_of(read_.out, object);
      const int64_t start = batch * out.batch_stride + first * out.column_stride;
      with_type(out.dtype, [&](auto type) {
        write_rows(rows, total, static_cast<decltype(type)*>(out.data) + start, channels, count, out.channel_stride,
                   out.column_stride);
      });
    }
  }

  const Forward& read_;
  int64_t padded_channels_, padded_rows_;
  Plan plan_;
  Buffer<Merged> merged_;
};

}  // namespace STM_ISA
}  // namespace stm
