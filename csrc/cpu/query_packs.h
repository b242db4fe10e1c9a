// The operands of a backward pass that belong to queries, packed.
#pragma once

#include "cpu/strip.h"

namespace stm {
inline namespace STM_ISA {

constexpr int64_t kStripBytes = int64_t{1} << 18;

// Queries come in chunks of whole segments, whose strips are multiplied at once. The pack of a chunk holds, in this
// order,
//
//   the upstream gradients of each panel, all objects after one another; the reduction runs along their channels
//   the upstream gradients and the queries, a panel of channels after another; the reduction runs along all queries
//
// where the gradients that need them are wanted.
template <class Unit>
class QueryPacks {
 public:
  using Number = typename Unit::Number;

  struct Chunk {
    int64_t first_panel, first, queries;

    int64_t panels() const { return divide_up(queries, kWidth); }
  };

  QueryPacks(const Backward& read, bool slopes, bool key_side, bool value_side)
      : read_(read),
        sizes_(read.sizes),
        grads_size_(slopes ? sizes_.objects * Unit::columns_size(sizes_.value_channels) : 0),
        key_panels_(key_side ? divide_up(sizes_.key_channels, kWidth) : 0),
        object_panels_(value_side ? divide_up(sizes_.value_channels, kWidth) : 0) {
    const int64_t all = divide_up(divide_up(sizes_.queries, kWidth), kSegmentPanels);
    const int64_t most = larger<int64_t>(1, kStripBytes / (Strip<Unit>::size(1) * kNumber));
    chunks_ = divide_up(all, most);
    segments_ = divide_up(all, chunks_);
    chunks_ = divide_up(all, segments_);
  }

  int64_t segments() const { return segments_; }
  int64_t panels() const { return segments_ * kSegmentPanels; }
  int64_t chunks() const { return chunks_; }
  Chunk chunk(int64_t index) const {
    const int64_t first = index * panels() * kWidth;
    return {index * panels(), first, smaller(panels() * kWidth, sizes_.queries - first)};
  }

  int64_t key_panels() const { return key_panels_; }
  int64_t value_panels() const { return sizes_.objects * object_panels_; }

  // Numbers of a chunk's pack.
  int64_t size() const { return panels() * grads_size_ + (value_panels() + key_panels_) * along_size(); }
  int64_t grads_size() const { return grads_size_; }
  // Where its parts are.
  const Number* grads(const Number* pack, int64_t panel) const { return pack + panel * grads_size_; }
  const Number* grads_along_queries(const Number* pack) const { return pack + panels() * grads_size_; }
  const Number* queries_along_queries(const Number* pack) const {
    return grads_along_queries(pack) + value_panels() * along_size();
  }

  // A pack is made in pieces, so that workers can share the work.
  int64_t pieces() const { return (grads_size_ > 0 ? panels() : 0) + value_panels() + key_panels_; }
  void pack(int64_t batch, int64_t index, int64_t piece, Number* out) const {
    const Chunk part = chunk(index);
    const int64_t of_panels = grads_size_ > 0 ? panels() : 0;
    if (piece < of_panels) {
      if (piece < part.panels()) pack_grads(batch, part.first + piece * kWidth, out + piece * grads_size_);
      return;
    }
    piece -= of_panels;
    out += panels() * grads_size_ + piece * along_size();
    if (piece < value_panels()) {
      const Matrix grad = object_of(read_.grad_out, piece / object_panels_);
      return pack_along(grad, sizes_.value_channels, batch, part, piece % object_panels_ * kWidth, out);
    }
    pack_along(read_.scores.query, sizes_.key_channels, batch, part, (piece - value_panels()) * kWidth, out);
  }

 private:
  static constexpr int64_t kNumber = static_cast<int64_t>(sizeof(Number));

  int64_t along_size() const { return Unit::columns_size(panels() * kWidth); }

  void pack_grads(int64_t batch, int64_t first, Number* out) const {
    const int64_t count = smaller<int64_t>(kWidth, sizes_.queries - first);
    for (int64_t object = 0; object < sizes_.objects; ++object) {
      const Matrix grad = object_of(read_.grad_out, object);
      Unit::pack_panel(grad, batch * grad.batch_stride + first * grad.column_stride, count, grad.column_stride,
                       sizes_.value_channels, grad.channel_stride, out);
      out += Unit::columns_size(sizes_.value_channels);
    }
  }

  // A panel of channels as columns, with zeros after the chunk's last query.
  void pack_along(const Matrix& x, int64_t channels, int64_t batch, const Chunk& part, int64_t channel,
                  Number* out) const {
    const int64_t start = batch * x.batch_stride + part.first * x.column_stride + channel * x.channel_stride;
    Unit::pack_panel(x, start, smaller<int64_t>(kWidth, channels - channel), x.channel_stride, part.queries,
                     x.column_stride, out);
    const int64_t done = Unit::columns_size(part.queries);
    std::memset(out + done, 0, static_cast<std::size_t>(along_size() - done) * sizeof(Number));
  }

  const Backward& read_;
  Sizes sizes_;
  int64_t grads_size_, key_panels_, object_panels_;
  int64_t segments_ = 0, chunks_ = 0;
};

}  // namespace STM_ISA
}  // namespace stm
