// The operands of a backward pass that belong to queries, packed.
#pragma once

#include "cpu/block_sparse.h"
#include "cpu/pack.h"

namespace stm {
inline namespace STM_ISA {

constexpr int64_t kChunkBytes = int64_t{1} << 18;  // of block-sparse rows

// Which gradients a backward pass computes.
struct Wanted {
  bool query_side, key_side, value;

  explicit Wanted(const Gradients& gradients)
      : query_side(gradients.query || gradients.offset),
        key_side(gradients.key || gradients.gain || gradients.bias),
        value(static_cast<bool>(gradients.value)) {}

  bool scores() const { return query_side || key_side; }
};

// Queries come in chunks of whole segments, as many as block-sparse rows have space for. A packed chunk holds, where
// the gradients that need them are wanted, in this order
//
//   grad_out of one panel of queries after another, all objects each; the reduction runs along value channels
//   grad_out, then the queries, one panel of channels after another; the reduction runs along queries
template <class Gemm>
class PackedQueries {
 public:
  using Number = typename Gemm::Number;

  struct Chunk {
    int64_t first_panel, first, queries;

    int64_t panels() const { return divide_up(queries, kWidth); }
  };

  PackedQueries(const Backward& read, const Wanted& wanted)
      : read_(read),
        sizes_(read.sizes),
        grad_out_size_(wanted.scores() ? sizes_.objects * Gemm::columns_size(sizes_.value_channels) : 0),
        key_panels_(wanted.key_side ? divide_up(sizes_.key_channels, kWidth) : 0),
        object_panels_(wanted.value ? divide_up(sizes_.value_channels, kWidth) : 0) {
    const int64_t all = divide_up(divide_up(sizes_.queries, kWidth), kSegmentPanels);
    const int64_t max_segments = larger<int64_t>(1, kChunkBytes / (BlockSparseRows<Gemm>::size(1) * kNumberBytes));
    chunks_ = divide_up(all, max_segments);
    segments_ = divide_up(all, chunks_);
    chunks_ = divide_up(all, segments_);
  }

  // Size of a chunk.
  int64_t segments() const { return segments_; }
  int64_t panels() const { return segments_ * kSegmentPanels; }

  int64_t chunks() const { return chunks_; }
  Chunk chunk(int64_t index) const {
    const int64_t first = index * panels() * kWidth;
    return {index * panels(), first, smaller(panels() * kWidth, sizes_.queries - first)};
  }

  // Panels of key channels, and of the value channels of all objects.
  int64_t key_panels() const { return key_panels_; }
  int64_t value_panels() const { return sizes_.objects * object_panels_; }

  // Numbers of a packed chunk, and of its grad_out of one panel of queries.
  int64_t size() const { return panels() * grad_out_size_ + (value_panels() + key_panels_) * along_queries_size(); }
  int64_t grad_out_size() const { return grad_out_size_; }

  // Where the parts of a packed chunk begin.
  const Number* grad_out(const Number* packed, int64_t panel) const { return packed + panel * grad_out_size_; }
  const Number* grad_out_along_queries(const Number* packed) const { return packed + panels() * grad_out_size_; }
  const Number* queries_along_queries(const Number* packed) const {
    return grad_out_along_queries(packed) + value_panels() * along_queries_size();
  }

  // A chunk is packed in several tasks, so that workers can share them.
  int64_t packing_tasks() const { return (grad_out_size_ > 0 ? panels() : 0) + value_panels() + key_panels_; }
  void pack(int64_t batch, int64_t index, int64_t task, Number* out) const {
    const Chunk part = chunk(index);
    const int64_t query_tasks = grad_out_size_ > 0 ? panels() : 0;
    if (task < query_tasks) {
      if (task < part.panels()) pack_grad_out(batch, part.first + task * kWidth, out + task * grad_out_size_);
      return;
    }
    task -= query_tasks;
    out += panels() * grad_out_size_ + task * along_queries_size();
    if (task < value_panels()) {
      const Matrix grad_out = object_of(read_.grad_out, task / object_panels_);
      return pack_along_queries(grad_out, sizes_.value_channels, batch, part, task % object_panels_ * kWidth, out);
    }
    pack_along_queries(read_.scores.query, sizes_.key_channels, batch, part, (task - value_panels()) * kWidth, out);
  }

 private:
  static constexpr int64_t kNumberBytes = static_cast<int64_t>(sizeof(Number));

  int64_t along_queries_size() const { return Gemm::columns_size(panels() * kWidth); }

  void pack_grad_out(int64_t batch, int64_t first, Number* out) const {
    const int64_t count = smaller<int64_t>(kWidth, sizes_.queries - first);
    for (int64_t object = 0; object < sizes_.objects; ++object) {
      const Matrix grad_out = object_of(read_.grad_out, object);
      Gemm::pack_panel(grad_out, batch * grad_out.batch_stride + first * grad_out.column_stride, count,
                       grad_out.column_stride, sizes_.value_channels, grad_out.channel_stride, out);
      out += Gemm::columns_size(sizes_.value_channels);
    }
  }

  // Packs a panel of channels as columns, with zeros behind the chunk's last query.
  void pack_along_queries(const Matrix& x, int64_t channels, int64_t batch, const Chunk& part, int64_t channel,
                          Number* out) const {
    const int64_t start = batch * x.batch_stride + part.first * x.column_stride + channel * x.channel_stride;
    Gemm::pack_panel(x, start, smaller<int64_t>(kWidth, channels - channel), x.channel_stride, part.queries,
                     x.column_stride, out);
    const int64_t done = Gemm::columns_size(part.queries);
    zero(out + done, along_queries_size() - done);
  }

  const Backward& read_;
  Sizes sizes_;
  int64_t grad_out_size_, key_panels_, object_panels_;
  int64_t segments_ = 0, chunks_ = 0;
};

}  // namespace STM_ISA
}  // namespace stm
