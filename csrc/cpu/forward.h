// The dense read.
//
// The memory is split among tasks, and so are the queries where the memory is short. A task reads its tokens tile by
// tile; the keys and values of a tile are packed once and then read by one panel of queries after another, or by a few
// panels at a time:
//
//   scores of a panel    [token][query]            in the first-level cache, turned into softmax weights in place
//   readout of a panel   [value channel][query]    in the second-level cache, with the packed values
//
// The softmax is online. The readouts of several splits are merged in order, so the result does not depend on the
// number of threads.
#pragma once

#include <cmath>
#include <new>

#include "cpu/pack.h"
#include "cpu/plan.h"
#include "cpu/runtime.h"
#include "cpu/softmax.h"

namespace stm {
inline namespace STM_ISA {

// What a task has read: of each panel of its queries the state of the softmax, and the sums of weighted values.
struct Readout {
  Buffer<SoftmaxState> states;
  Buffer<float> sums;  // [panel][padded value channel of all objects][query]

  Readout(int64_t panels, int64_t panel_size) : states(panels), sums(panels * panel_size) {}

  void clear(int64_t panels, int64_t panel_size) {
    for (int64_t panel = 0; panel < panels; ++panel) states.data()[panel].clear();
    zero(sums.data(), panels * panel_size);
  }

  // Merges what another task has read of other tokens, for the same queries.
  void merge(const Readout& other, int64_t panels, int64_t panel_size) {
    for (int64_t panel = 0; panel < panels; ++panel) {
      Floats scale[kVectors], other_scale[kVectors];
      states.data()[panel].merge(other.states.data()[panel], scale, other_scale);
      float* const into = sums.data() + panel * panel_size;
      const float* const from = other.sums.data() + panel * panel_size;
      for (int64_t row = 0; row < panel_size; row += kWidth) {
#pragma GCC unroll 3
        for (int v = 0; v < kVectors; ++v) {
          const int64_t at = row + v * kLanes;
          store(into + at, load(into + at) * scale[v] + load(from + at) * other_scale[v]);
        }
      }
    }
  }

  void swap(Readout& other) {
    states.swap(other.states);
    sums.swap(other.sums);
  }
};

template <class T>
void write_channels(const float* sums, const float* divisors, T* out, int64_t channels, int64_t queries,
                    int64_t channel_stride, int64_t query_stride) {
  for (int64_t c = 0; c < channels; ++c, sums += kWidth, out += channel_stride) {
    for (int64_t i = 0; i < queries; ++i) from_float(sums[i] / divisors[i], out[i * query_stride]);
  }
}

// `ForwardTile` computes scores and adds weighted values, a tile of tokens at a time.
template <class ForwardTile>
class DenseRead {
 public:
  DenseRead(const Forward& read, const Threads& threads)
      : read_(read),
        padded_channels_(round_up(read.sizes.value_channels, ForwardTile::kRowGroup)),
        panel_size_(read.sizes.objects * padded_channels_ * kWidth),
        plan_(read.sizes, ForwardTile::kTokens, panel_size_ * static_cast<int64_t>(sizeof(float)), threads.workers),
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
  // Of a group of queries: the readouts of their splits so far.
  struct Merged {
    OrderedReduction order;
    Readout* readout = nullptr;
  };

  void work(TaskQueue& tasks) {
    ForwardTile tile(read_, plan_.group);
    Readout readout(plan_.group, panel_size_);
    for (int64_t index = tasks.next(); index >= 0; index = tasks.next()) {
      const ReadTask task(plan_, read_.sizes, index);
      readout.clear(task.panels, panel_size_);
      tile.pack_queries(task.batch, task.first_query, task.queries);
      for (int64_t done = 0; done < task.tokens; done += ForwardTile::kTokens) {
        tile.pack_tokens(task.first_token + done, smaller(ForwardTile::kTokens, task.tokens - done));
        for (int64_t panel = 0; panel < task.panels; panel += tile.panels()) {
          const int64_t panels = smaller(tile.panels(), task.panels - panel);
          const int64_t next = panel + panels < task.panels ? panel + panels : 0;
          float* const sums = readout.sums.data();
          tile.read(panel, panels, readout.states.data() + panel, sums + panel * panel_size_,
                    sums + next * panel_size_);
        }
      }
      if (!finish(task, readout, tasks)) return;
    }
  }

  // Writes or merges the readout of a task; false if the work has failed elsewhere.
  bool finish(const ReadTask& task, Readout& readout, const TaskQueue& tasks) {
    if (plan_.splits == 1) {
      write_out(task, readout);
      return true;
    }
    Merged& merged = merged_.data()[task.batch * plan_.groups + task.group];
    if (!merged.order.enter(task.split, tasks)) return false;
    if (task.split == 0) {
      merged.readout = new Readout(plan_.group, panel_size_);
      merged.readout->swap(readout);
    } else {
      merged.readout->merge(readout, task.panels, panel_size_);
    }
    if (task.split + 1 == plan_.splits) {
      write_out(task, *merged.readout);
      delete merged.readout;
      merged.readout = nullptr;
    }
    merged.order.leave();
    return true;
  }

  void write_out(const ReadTask& task, const Readout& readout) const {
    const Vector lse = read_.lse.batch(task.batch);
    for (int64_t panel = 0; panel < task.panels; ++panel) {
      const SoftmaxState& state = readout.states.data()[panel];
      const int64_t first = task.first_query + panel * kWidth;
      const int64_t count = smaller<int64_t>(kWidth, task.queries - panel * kWidth);
      float divisors[kWidth];
      for (int64_t i = 0; i < kWidth; ++i) divisors[i] = state.running_sum[i] == 0 ? 1 : state.running_sum[i];
      for (int64_t i = 0; i < count; ++i) lse[first + i] = state.running_max[i] + logf(state.running_sum[i]);
      write_panel(task.batch, first, count, readout.sums.data() + panel * panel_size_, divisors);
    }
  }

  void write_panel(int64_t batch, int64_t first, int64_t count, const float* sums, const float* divisors) const {
    const int64_t channels = read_.sizes.value_channels;
    for (int64_t object = 0; object < read_.sizes.objects; ++object, sums += padded_channels_ * kWidth) {
      const Matrix out = object_of(read_.out, object);
      const int64_t start = batch * out.batch_stride + first * out.column_stride;
      with_type(out.dtype, [&](auto type) {
        write_channels(sums, divisors, static_cast<decltype(type)*>(out.data) + start, channels, count,
                       out.channel_stride, out.column_stride);
      });
    }
  }

  const Forward& read_;
  int64_t padded_channels_, panel_size_;  // panel_size_: floats of a panel's sums
  Plan plan_;
  Buffer<Merged> merged_;
};

}  // namespace STM_ISA
}  // namespace stm
